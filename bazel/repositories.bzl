"""Third-party repositories. They come from the system's packages and are fetched only when a target needs them."""

load("//bazel:pkg_config.bzl", "pkg_config_repository")

def _system_library(name, **kwargs):
    if not native.existing_rule(name):
        pkg_config_repository(name = name, **kwargs)

def nuncio_dependencies():
    """What @nuncio//:nuncio needs. A repository that the caller has declared already is left as it is."""
    _system_library(
        name = "abseil",
        package = "libabsl-dev",
        # @abseil//:status, :strings, :flat_hash_map ...: one target for each absl_* module.
        module_prefix = "absl_",
    )
    _system_library(
        name = "libevent",
        package = "libevent-dev",
        libraries = {
            "libevent": ["libevent_core"],
            "libevent_pthreads": ["libevent_core", "libevent_pthreads"],
        },
        # libevent_pthreads.pc asks for the all-in-one libevent.so as well: a second copy of what libevent_core.so holds.
        omit = ["-levent"],
    )
    _system_library(
        name = "nlohmann_json",
        package = "nlohmann-json3-dev",
        libraries = {"nlohmann_json": ["nlohmann_json"]},
    )
    _system_library(
        name = "spdlog",
        package = "libspdlog-dev",
        libraries = {"spdlog": ["spdlog"]},
    )

def nuncio_dev_dependencies():
    """What nuncio's tests, mocks and benchmarks need besides."""
    _system_library(
        name = "googletest",
        package = "libgtest-dev libgmock-dev",
        libraries = {
            "gtest": ["gmock", "gtest"],
            "gtest_main": ["gmock_main", "gmock", "gtest"],
        },
    )
    _system_library(
        name = "google_benchmark",
        package = "libbenchmark-dev",
        libraries = {
            "benchmark": ["benchmark"],
            "benchmark_main": ["benchmark"],
        },
        linkopts = {"benchmark_main": ["-lbenchmark_main"]},
    )

    # Peers that the benchmarks compare with.
    _system_library(
        name = "asio",
        package = "libasio-dev",
        # It looks for the coroutines of C++20 in g++ only.
        defines = [
            "ASIO_STANDALONE",
            "ASIO_HAS_CO_AWAIT",
            "ASIO_HAS_STD_COROUTINE",
        ],
        headers = ["asio.hpp"],
        libraries = {"asio": []},
        linkopts = {"asio": ["-lpthread"]},
    )
    _system_library(
        name = "libuv",
        package = "libuv1-dev",
        libraries = {"libuv": ["libuv"]},
    )
    _system_library(
        name = "capnp",
        package = "libcapnp-dev",
        libraries = {"kj": ["kj-async", "kj"]},
    )
