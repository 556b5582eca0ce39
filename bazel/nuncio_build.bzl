"""Build rules of nuncio: cc_* with our warnings, include paths and test libraries.

How headers are found: public ones live in include/nuncio/<layer>/ and are included as "nuncio/<layer>/x.h", all others
by their path from the top, "source/<layer>/x.h" or "test/<layer>/x.h".
  - In this workspace each rule compiles with -Iinclude, so that warnings in our headers are seen and name the real file.
  - As an external repository, //:include_root hands include/ down as a system directory: the user's own warnings, made
    errors or not, never trip over our headers, and our sources compile without ours.
"""

_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wextra-semi",
    "-Wnon-virtual-dtor",
    "-Woverloaded-virtual",
    "-Wshadow",
    "-Wsuggest-override",
    "-Wvla",
    # {.name = "x"} leaves the other members at their defaults on purpose.
    "-Wno-missing-field-initializers",
    # What these find depends on the optimizer, and GCC 12 is wrong about the standard library's own code at -O2.
    "-Wno-unknown-warning-option",
    "-Wno-error=array-bounds",
    "-Wno-error=dangling-pointer",
    "-Wno-error=free-nonheap-object",
    "-Wno-error=maybe-uninitialized",
    "-Wno-error=restrict",
    "-Wno-error=stringop-overflow",
    "-Wno-error=stringop-overread",
    "-Wno-error=use-after-free",
]

def _is_external():
    return native.repository_name() not in ["@", "@@", ""]

def _copts(copts):
    return ([] if _is_external() else ["-Iinclude"] + _WARNINGS) + copts

def nuncio_include_root(name):
    """The library through which users of @nuncio find include/; only the top-level BUILD has one."""
    native.cc_library(
        name = name,
        includes = ["include"] if _is_external() else [],
    )

def nuncio_cc_library(name, srcs = [], hdrs = [], deps = [], copts = [], visibility = ["//visibility:public"], **kwargs):
    """A library: public headers only, an implementation, or both."""
    native.cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        copts = _copts(copts),
        visibility = visibility,
        deps = deps + ["//:include_root"],
        **kwargs
    )

def _run_on_libevent_impl(ctx):
    executable = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = executable, target_file = ctx.executable.program, is_executable = True)
    return [
        DefaultInfo(executable = executable, runfiles = ctx.attr.program[DefaultInfo].default_runfiles),
        testing.TestEnvironment({
            "NUNCIO_BACKEND": "libevent",
            "GTEST_FILTER": "*-" + ":".join(ctx.attr.without),
        }),
    ]

_run_on_libevent_test = rule(
    doc = "A test program that is built already, run with dispatchers of BackendKind::Libevent.",
    implementation = _run_on_libevent_impl,
    attrs = {
        "program": attr.label(cfg = "target", executable = True, mandatory = True),
        "without": attr.string_list(doc = "Cases that are left out."),
    },
    test = True,
)

# Where a test runs: on Linux's backend alone, or as <name>_libevent on libevent's too. See BackendKind. The tags are for
# configurations in which not all of the second runs are worth their time.
ONLY_LINUX = None
BOTH_BACKENDS = ["libevent"]
BOTH_BACKENDS_WITH_THREADS = ["libevent_with_threads"]

def nuncio_cc_test(
        name,
        srcs,
        deps = [],
        copts = [],
        size = "small",
        backends = ONLY_LINUX,
        not_on_libevent = {},
        tags = [],
        **kwargs):
    """A GoogleTest program (gtest, gmock and main() are linked).

    not_on_libevent: cases of which <name>_libevent makes an exception, each with the reason.
    """
    native.cc_test(
        name = name,
        size = size,
        srcs = srcs,
        copts = _copts(copts),
        tags = tags,
        deps = deps + ["@googletest//:gtest_main"] + ([] if backends == ONLY_LINUX else ["//:libevent_backend"]),
        **kwargs
    )
    if backends != ONLY_LINUX:
        _run_on_libevent_test(
            name = name + "_libevent",
            size = size,
            program = ":" + name,
            without = not_on_libevent.keys(),
            tags = tags + backends,
        )

def nuncio_cc_tests(names, deps, one_thread = [], tags = [], **kwargs):
    """GoogleTest programs that need the same: <name>.cc each.

    one_thread: those of them that start no thread, nor a process: ThreadSanitizer has nothing to say of them. The tag
    of that name is for .ci/run, and tools/one_thread looks at their sources.
    """
    for name in one_thread:
        if name not in names:
            fail("one_thread: there is no test " + name)
    for name in names:
        nuncio_cc_test(
            name = name,
            srcs = [name + ".cc"],
            deps = deps,
            tags = tags + (["one_thread"] if name in one_thread else []),
            **kwargs
        )

def nuncio_cc_binary(name, srcs, deps = [], copts = [], **kwargs):
    """A program."""
    native.cc_binary(
        name = name,
        srcs = srcs,
        copts = _copts(copts),
        deps = deps,
        **kwargs
    )

def nuncio_fuzz_test(name, srcs, corpus, deps = [], copts = [], size = "small", tags = [], **kwargs):
    """A fuzz target, whose srcs define LLVMFuzzerTestOneInput().

    <name>_test runs it once for each file of `corpus`, in every configuration and with any compiler. <name> itself is
    the fuzzer, for --config=fuzz alone, so that //... leaves it out: see tools/fuzz.
    """
    native.cc_test(
        name = name + "_test",
        size = size,
        srcs = srcs + ["//test/fuzz:replay_main.cc"],
        args = ["$(rootpaths :%s_corpus)" % name],
        copts = _copts(copts),
        data = [":%s_corpus" % name],
        tags = tags,
        deps = deps + ["@abseil//:span"],
        **kwargs
    )
    native.filegroup(
        name = name + "_corpus",
        testonly = True,
        srcs = corpus,
    )
    nuncio_cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        copts = copts,
        # -fsanitize=fuzzer brings libFuzzer's main().
        linkopts = ["-fsanitize=fuzzer"],
        tags = tags + ["manual"],
        deps = deps,
        **kwargs
    )

def nuncio_cc_benchmark(name, srcs, deps = [], copts = [], smoke_args = None, size = "small", tags = [], **kwargs):
    """A Google Benchmark program (main() is linked), and <name>_smoke_test that runs it with the fewest iterations.

    Args:
      smoke_args: the smoke test's arguments; pass --benchmark_filter among them to leave out what takes too long.
      size: of the smoke test.
    """
    nuncio_cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        copts = copts,
        tags = tags,
        deps = deps + ["@google_benchmark//:benchmark_main"],
        **kwargs
    )
    native.sh_test(
        name = name + "_smoke_test",
        size = size,
        srcs = ["//bazel:smoke_test.sh"],
        args = ["$(rootpath :%s)" % name] + (["--benchmark_min_time=0.001"] if smoke_args == None else smoke_args),
        data = [":" + name],
        tags = tags,
    )
