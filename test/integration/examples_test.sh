#!/bin/bash
# Runs an example that ends by itself: it has to exit with 0, and to print these lines in any order.
#   examples_test.sh PROGRAM LINE...
set -euo pipefail

program=$1
shift
printed=$("$program")
diff <(printf '%s\n' "$@" | sort) <(sort <<<"$printed")
