#!/usr/bin/python3
# That of the distribution, which finds the distribution's modules.
"""Whether the parsers of Prometheus' Python client take what prometheusText() writes: prometheus_text_test.py PROGRAM

PROGRAM prints it of a dispatcher for each of its arguments. The client has two parsers. That of the text format takes
more than the format allows, so the text is also given to that of OpenMetrics, which looks at what stands beside what:
families and series that are torn apart or come twice, buckets that are not cumulative, le labels, escapes.
"""
import os
import re
import subprocess
import sys
import unittest

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

NAMES = [
    b"main",
    b"idle",
    b"",
    b'quoted "name"',
    rb"back\slash\n",
    b"two\nlines",
    b"tab\tand }= ,{ and # EOF",
    "Größe 🚀".encode(),
    b"not \xff UTF-8",
]
FAMILIES = {
    "nuncio_loop_iterations": "counter",
    "nuncio_loop_posts": "counter",
    "nuncio_loop_tasks": "counter",
    "nuncio_loop_timers": "counter",
    "nuncio_loop_wakeups": "counter",
    "nuncio_loop_callback_exceptions": "counter",
    "nuncio_loop_lingers": "counter",
    "nuncio_loop_linger_hits": "counter",
    "nuncio_loop_posts_waiting": "gauge",
    "nuncio_loop_duration_seconds": "histogram",
    "nuncio_loop_poll_delay_seconds": "histogram",
    "nuncio_loop_post_wait_seconds": "histogram",
    "nuncio_loop_callback_duration_seconds": "histogram",
    "nuncio_loop_callbacks": "histogram",
}


def to_openmetrics(text):
    """The same in OpenMetrics: counters are families without _total, bounds have a point, and the end is marked."""
    text = re.sub(r"^(# (?:HELP|TYPE) \w+)_total ", r"\1 ", text, flags=re.MULTILINE)
    return re.sub(r',le="(\d+)"', r',le="\1.0"', text) + "# EOF\n"


class PrometheusTextTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.text = subprocess.run([PROGRAM, *NAMES], check=True, stdout=subprocess.PIPE).stdout.decode("utf-8")
        cls.by_format = {
            "text": list(parser.text_string_to_metric_families(cls.text)),
            "OpenMetrics": list(openmetrics_parser.text_string_to_metric_families(to_openmetrics(cls.text))),
        }

    def test_families_have_their_types_and_a_help(self):
        for name, families in self.by_format.items():
            with self.subTest(name):
                self.assertEqual({family.name: family.type for family in families}, FAMILIES)
                self.assertEqual(len(families), len(FAMILIES))
                self.assertTrue(all(family.documentation.endswith(".") for family in families))

    def test_names_of_dispatchers_come_back(self):
        expected = [name.decode("utf-8", errors="replace") for name in NAMES]
        for name, families in self.by_format.items():
            with self.subTest(name):
                for family in families:
                    names = list(dict.fromkeys(sample.labels["dispatcher"] for sample in family.samples))
                    self.assertEqual(names, expected)

    def test_both_parsers_read_the_same(self):
        def read(families):
            return [
                (sample.name, {k: float(v) if k == "le" else v for k, v in sample.labels.items()}, float(sample.value))
                for family in families
                for sample in family.samples
            ]

        self.assertEqual(read(self.by_format["text"]), read(self.by_format["OpenMetrics"]))

    def test_no_series_comes_twice(self):
        series = [
            (sample.name, sorted(sample.labels.items()))
            for family in self.by_format["text"]
            for sample in family.samples
        ]
        self.assertEqual(len({str(each) for each in series}), len(series))

    def test_values_come_back(self):
        samples = {
            (sample.name, sample.labels["dispatcher"], sample.labels.get("le")): sample.value
            for family in self.by_format["text"]
            for sample in family.samples
        }
        self.assertEqual(samples["nuncio_loop_posts_total", "idle", None], 2000000)
        self.assertEqual(samples["nuncio_loop_posts_waiting", "idle", None], 1)
        values = [2 * 7**i for i in range(100) if 2 * 7**i < 2**60]
        family = "nuncio_loop_duration_seconds"
        self.assertEqual(samples[family + "_count", "idle", None], len(values))
        self.assertAlmostEqual(samples[family + "_sum", "idle", None], sum(values) / 1e9, places=0)
        bounds = [key[2] for key in samples if key[:2] == (family + "_bucket", "idle")]
        self.assertEqual(bounds[-1], "+Inf")
        for bound in bounds:
            count = sum(value / 1e9 <= float(bound) for value in values)
            self.assertEqual(samples[family + "_bucket", "idle", bound], count, bound)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
