#!/usr/bin/env python3
"""Tests of tools/bench --against and --without: which cases run, in which order, and when a row counts as slower."""
import importlib.machinery
import importlib.util
import pathlib
import shutil
import sys
import tempfile
import unittest
from unittest import mock

sys.dont_write_bytecode = True  # no __pycache__ beside the script
LOADER = importlib.machinery.SourceFileLoader("bench", str(pathlib.Path(__file__).with_name("bench")))
bench = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", LOADER))
LOADER.exec_module(bench)


class CompareTest(unittest.TestCase):
    def assert_verdict(self, row, ours, theirs, ratio, slower_rounds, is_slower):
        verdict = bench.compare(row, ours, theirs)
        self.assertAlmostEqual(verdict[0], ratio)
        self.assertEqual(verdict[1:], (slower_rounds, is_slower))

    def test_equal_figures_are_not_slower(self):
        self.assert_verdict("post_x", [100] * 5, [100] * 5, 1, 0, False)

    def test_slower_in_four_of_five_rounds_is_slower(self):
        self.assert_verdict("post_x", [110, 110, 110, 110, 90], [100] * 5, 1.1, 4, True)

    def test_slower_in_three_of_five_rounds_is_not_slower(self):
        self.assert_verdict("post_x", [150, 150, 150, 90, 90], [100] * 5, 1.5, 3, False)

    def test_ratio_of_exactly_the_bound_is_not_slower(self):
        self.assert_verdict("post_x", [105] * 5, [100] * 5, 1.05, 5, False)

    def test_one_disturbed_round_does_not_decide(self):
        self.assert_verdict("post_x", [1000, 101, 101, 101, 101], [100] * 5, 1.01, 5, False)

    def test_share_of_rounds_holds_for_any_number_of_them(self):
        self.assert_verdict("post_x", [110], [100], 1.1, 1, True)
        self.assert_verdict("post_x", [110] * 8 + [90] * 2, [100] * 10, 1.1, 8, True)
        self.assert_verdict("post_x", [110] * 7 + [90] * 3, [100] * 10, 1.1, 7, False)

    def test_rounds_are_compared_pairwise(self):
        # Drift: each round is slower than the one before, for both.
        self.assert_verdict("post_x", [110, 220, 330, 440, 550], [100, 200, 300, 400, 500], 1.1, 5, True)

    def test_fewer_requests_are_slower(self):
        self.assert_verdict("echo/64", [100] * 5, [125] * 5, 1.25, 5, True)

    def test_more_requests_are_not_slower(self):
        self.assert_verdict("echo/64", [125] * 5, [100] * 5, 0.8, 0, False)

    def test_memory_that_grew_from_nothing_is_slower(self):
        self.assert_verdict("timer_rss", [8] * 5, [0] * 5, float("inf"), 5, True)

    def test_memory_that_grows_in_neither_is_not_slower(self):
        self.assertFalse(bench.compare("timer_rss", [0] * 5, [0] * 5)[2])


class ComparisonTest(unittest.TestCase):
    def lines(self, ours, theirs):
        text, slower = bench.comparison(ours, theirs)
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
        return {line[0]: line[1:] for line in cells}, slower

    def test_slower_rows_are_marked_and_listed(self):
        ours, theirs = ({"post_x": [post] * 5, "collect": [50] * 5} for post in (120, 100))
        lines, slower = self.lines(ours, theirs)
        self.assertEqual(lines["post_x"], ["ns", "120", "100", "1.20", "5 of 5", "SLOWER"])
        self.assertEqual(lines["collect"], ["ns", "50.0", "50.0", "1.00", "0 of 5", ""])
        self.assertEqual(slower, ["post_x"])

    def test_row_of_one_checkout_is_listed_and_not_slower(self):
        lines, slower = self.lines({"new": [120] * 5}, {"old": [100] * 5})
        self.assertEqual(lines["new"], ["ns", "120", "", "", "", "only in this"])
        self.assertEqual(lines["old"], ["ns", "", "100", "", "", "only in the other"])
        self.assertEqual(slower, [])


class OwnProgramsTest(unittest.TestCase):
    CASES = {
        "timer_benchmark": ["timer_rss/nuncio/real_time", "timer_rss/nuncio_hr/real_time", "timer_rss/asio/real_time"],
        "post_benchmark": ["post_x/nuncio/manual_time"],
        "kj_benchmark": ["collect/kj/manual_time"],
    }

    def own(self, benchmark_filter):
        def listed(command, **_):
            return mock.Mock(stdout="\n".join(self.CASES[pathlib.Path(command[0]).name]))

        with mock.patch.object(bench.subprocess, "run", listed):
            return bench.own_programs(pathlib.Path("bin"), list(self.CASES), benchmark_filter)

    def test_only_cases_of_nuncio_run(self):
        self.assertEqual(self.own("."), {
            "timer_benchmark": (
                pathlib.Path("bin/timer_benchmark"), "^(timer_rss/nuncio/real_time|timer_rss/nuncio_hr/real_time)$"),
            "post_benchmark": (pathlib.Path("bin/post_benchmark"), "^(post_x/nuncio/manual_time)$"),
        })

    def test_only_programs_with_a_row_that_matches_run(self):
        self.assertEqual(list(self.own("^post")), ["post_benchmark"])
        self.assertEqual(list(self.own("kj")), [])


class MeasureTest(unittest.TestCase):
    def measure(self, sides, rounds):
        runs = []

        def run(program, benchmark_filter):
            runs.append(program)
            return [{"name": benchmark_filter + "/nuncio/manual_time", "real_time": len(runs)}], ""

        with mock.patch.object(bench, "run_program", run), mock.patch.object(bench.sys, "stderr"):
            return runs, bench.measure(sides, rounds)

    def test_checkouts_take_turns_in_going_first(self):
        runs, samples = self.measure([{"post": ("our post", "x")}, {"post": ("their post", "x")}], 3)
        self.assertEqual(runs, ["our post", "their post", "their post", "our post", "our post", "their post"])
        self.assertEqual([side["x"]["nuncio"] for side in samples], [[1, 4, 5], [2, 3, 6]])

    def test_checkouts_run_the_same_program_one_after_the_other(self):
        sides = [{"post": (side + " post", "x"), "echo": (side + " echo", "y")} for side in ("our", "their")]
        self.assertEqual(self.measure(sides, 2)[0], [
            "our post", "their post", "their echo", "our echo",
            "their post", "our post", "our echo", "their echo",
        ])

    def test_program_of_one_checkout_runs_there(self):
        runs, samples = self.measure([{"post": ("our post", "x")}, {"echo": ("their echo", "y")}], 2)
        self.assertEqual(runs, ["our post", "their echo"] * 2)
        self.assertEqual([list(side) for side in samples], [["x"], ["y"]])


class TricksTest(unittest.TestCase):
    def test_each_trick_is_where_it_is_said_to_be(self):
        for trick, edits in bench.tricks.TRICKS.items():
            with self.subTest(trick), tempfile.TemporaryDirectory() as copy:
                for path in {edit[0] for edit in edits}:
                    for file in bench.tricks.files_of(bench.TOP, path):
                        to = pathlib.Path(copy) / file.relative_to(bench.TOP)
                        to.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(file, to)
                bench.tricks.remove(trick, pathlib.Path(copy))

    def test_one_that_is_gone_is_told(self):
        with tempfile.TemporaryDirectory() as copy, self.assertRaisesRegex(ValueError, "nothing in there.h matches gone"):
            (pathlib.Path(copy) / "there.h").write_text("text")
            with mock.patch.dict(bench.tricks.TRICKS, {"mine": [("there.h", "gone", "")]}):
                bench.tricks.remove("mine", pathlib.Path(copy))


if __name__ == "__main__":
    unittest.main()
