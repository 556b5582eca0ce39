"""Repositories made from the system's packages, as pkg-config describes them.

    pkg_config_repository(
        name = "libuv",
        package = "libuv1-dev",                    # what to install when it is missing
        libraries = {"libuv": ["libuv"]},          # target -> pkg-config modules
    )

A missing package fails the fetch with its name. A library without a pkg-config file is found by a header instead.
"""

_BUILD_HEADER = 'package(default_visibility = ["//visibility:public"])\n'

_BUILD_LIBRARY = """
cc_library(
    name = "{name}",
    hdrs = glob({hdrs}, allow_empty = True),
    defines = {defines},
    includes = {includes},
    linkopts = {linkopts},
    deps = {deps},
)
"""

def _fail_missing(ctx, what):
    fail("@{name}: {what} is missing on this system. Install it: apt-get install {package}".format(
        name = ctx.name,
        what = what,
        package = ctx.attr.package,
    ))

def _words(text):
    return [word for word in text.replace("\n", " ").split(" ") if word]

def _pkg_config(ctx, args):
    """What `pkg-config args` prints, or None where it fails."""
    result = ctx.execute(["pkg-config"] + args)
    return None if result.return_code else result.stdout

def _searched_by_default(directory):
    return directory in ["/usr/include", "/usr/local/include", "/usr/local/lib"] or directory.startswith("/usr/lib")

def _link_include_dir(ctx, directory):
    """Links a directory that the compiler does not search into this repository, as Bazel wants it; returns its name."""
    link = "include" + directory.replace("/", "_")
    if not ctx.path(link).exists:
        ctx.symlink(directory, link)
    return link

def _target(ctx, name, cflags, libs, deps = []):
    """BUILD text of one target."""
    include_dirs = [flag[2:] for flag in cflags if flag.startswith("-I")]
    includes = [_link_include_dir(ctx, path) for path in include_dirs if not _searched_by_default(path)]
    lib_dirs = [flag[2:] for flag in libs if flag.startswith("-L") and not _searched_by_default(flag[2:])]
    search = ["-L" + path for path in lib_dirs] + ["-Wl,-rpath," + path for path in lib_dirs]
    kept = [flag for flag in libs if not flag.startswith("-L") and flag not in ctx.attr.omit]
    return _BUILD_LIBRARY.format(
        name = name,
        hdrs = [include + "/**" for include in includes],
        defines = [flag[2:] for flag in cflags if flag.startswith("-D")] + ctx.attr.defines,
        includes = includes,
        linkopts = search + ctx.attr.linkopts.get(name, []) + kept,
        deps = deps,
    )

def _libraries(ctx):
    """BUILD text of the targets that ctx.attr.libraries lists."""
    text = ""
    for name, modules in ctx.attr.libraries.items():
        flags = [_pkg_config(ctx, [which] + modules) if modules else "" for which in ["--cflags", "--libs"]]
        if None in flags:
            _fail_missing(ctx, "pkg-config module " + " or ".join(modules))
        text += _target(ctx, name, _words(flags[0]), _words(flags[1]))
    return text

def _parse_pc(text):
    """The fields of a .pc file, its variables replaced."""
    variables, fields = {}, {}
    for line in text.splitlines():
        for key, value in variables.items():
            line = line.replace("${" + key + "}", value)
        if ": " in line:
            key, _, value = line.partition(": ")
            fields[key] = value
        elif "=" in line:
            key, _, value = line.partition("=")
            variables[key] = value
    return fields

def _family(ctx, prefix):
    """BUILD text of a target for each module that starts with `prefix`, named by the rest, with deps as they require.

    Reads the .pc files: pkg-config's own answer for each of Abseil's 150 modules takes seconds.
    """
    lines = _pkg_config(ctx, ["--list-all"]) or ""
    modules = sorted([line.split(" ")[0] for line in lines.splitlines() if line.startswith(prefix)])
    if not modules:
        _fail_missing(ctx, "pkg-config module " + prefix + "*")
    directory = _pkg_config(ctx, ["--variable=pcfiledir", modules[0]]).strip()
    text = ""
    for module in modules:
        fields = _parse_pc(ctx.read(directory + "/" + module + ".pc"))
        required = _words(fields.get("Requires", "").replace(",", " "))
        text += _target(
            ctx,
            module[len(prefix):],
            _words(fields.get("Cflags", "")),
            _words(fields.get("Libs", "")),
            [":" + word[len(prefix):] for word in required if word in modules and word != module],
        )
    return text

def _check_headers(ctx):
    for header in ctx.attr.headers:
        if not [1 for root in ["/usr/include", "/usr/local/include"] if ctx.path(root + "/" + header).exists]:
            _fail_missing(ctx, "header " + header)

def _pkg_config_repository_impl(ctx):
    if not ctx.which("pkg-config"):
        fail("@{}: pkg-config is missing on this system. Install it: apt-get install pkg-config".format(ctx.name))
    _check_headers(ctx)
    family = _family(ctx, ctx.attr.module_prefix) if ctx.attr.module_prefix else ""
    ctx.file("BUILD", _BUILD_HEADER + _libraries(ctx) + family)

pkg_config_repository = repository_rule(
    implementation = _pkg_config_repository_impl,
    attrs = {
        "defines": attr.string_list(doc = "Defines beyond those of pkg-config, for each target."),
        "headers": attr.string_list(doc = "Headers that must exist, for a library without a pkg-config file."),
        "libraries": attr.string_list_dict(doc = "Target to pkg-config modules; to [] where it has none."),
        "linkopts": attr.string_list_dict(doc = "Target to link options that go before those of pkg-config."),
        "module_prefix": attr.string(doc = "A target for each module that starts so, named by the rest."),
        "omit": attr.string_list(doc = "Link options of pkg-config that are dropped."),
        "package": attr.string(mandatory = True, doc = "Debian package that has all of it."),
    },
    environ = ["PKG_CONFIG_LIBDIR", "PKG_CONFIG_PATH"],
    # The system's packages change behind Bazel's back: ask again when its server starts.
    local = True,
)
