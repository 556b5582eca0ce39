"""Offline stand-ins for the repositories that Bazel 4 would fetch from the network for any cc_* target.

Bazel 5 and later get their own: there this macro does nothing. A workspace that depends on nuncio calls it first:

    load("@nuncio//bazel/stand_ins:stand_ins.bzl", "nuncio_bazel_stand_ins")
    nuncio_bazel_stand_ins()
"""

def _stand_in_impl(ctx):
    for file, path in ctx.attr.files.items():
        ctx.symlink(file, path)
        ctx.file(path.rpartition("/")[0] + "/BUILD", "")
    ctx.file("BUILD", ctx.attr.build)

_stand_in = repository_rule(
    implementation = _stand_in_impl,
    attrs = {
        "build": attr.string(doc = "Text of the top-level BUILD file."),
        "files": attr.label_keyed_string_dict(allow_files = True, doc = "File to its path in the repository."),
    },
)

def _is_bazel_4():
    # Distributions' bootstrap builds, which are Bazel 4, report an empty version.
    version = native.bazel_version
    return not version or int(version.split(".")[0]) <= 4

def nuncio_bazel_stand_ins():
    """Declares rules_cc, rules_java and remote_coverage_tools where this Bazel needs them and the caller has none."""
    if not _is_bazel_4():
        return
    if not native.existing_rule("rules_cc"):
        _stand_in(name = "rules_cc", files = {Label("//bazel/stand_ins:rules_cc.bzl"): "cc/defs.bzl"})
    if not native.existing_rule("rules_java"):
        _stand_in(name = "rules_java", files = {Label("//bazel/stand_ins:rules_java.bzl"): "java/defs.bzl"})
    if not native.existing_rule("remote_coverage_tools"):
        _stand_in(
            name = "remote_coverage_tools",
            build = 'filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])\n',
        )
