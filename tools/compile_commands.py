#!/usr/bin/env python3
"""Turns the compile actions that `bazel aquery --output=jsonproto` prints (stdin) into compile_commands.json (stdout).

What only makes sense inside Bazel's own directories is dropped. The working directory is the top of the workspace.
"""

import json
import os
import sys

# Options with a value of their own, and options that clang does not know.
DROPPED_WITH_VALUE = ("-MF", "-o")
DROPPED = ("-MD", "-fno-canonical-system-headers", "-Wno-free-nonheap-object", "-c")
DROPPED_PREFIXES = ("-frandom-seed=", "-D__DATE__=", "-D__TIME__=", "-D__TIMESTAMP__=")


def plain_arguments(arguments):
    """(source file, arguments for clang) of one compile action."""
    source = arguments[arguments.index("-c") + 1]
    kept = ["clang++"]
    words = iter(arguments[1:])
    for word in words:
        if word in DROPPED_WITH_VALUE:
            next(words)
        elif word == "-iquote":
            directory = next(words)
            if not directory.startswith(("bazel-out/", "external/")):
                kept += ["-iquote", directory]
        elif word not in DROPPED and word != source and not word.startswith(DROPPED_PREFIXES):
            kept.append(word)
    return source, kept + ["-c", source]


def main():
    commands = {}
    for action in json.load(sys.stdin).get("actions", []):
        source, arguments = plain_arguments(action["arguments"])
        if os.path.exists(source):
            commands[source] = {"directory": os.getcwd(), "file": source, "arguments": arguments}
    json.dump([commands[source] for source in sorted(commands)], sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
