#!/bin/bash
# Builds and runs the program in this workspace, which uses nuncio as an external repository, with a Bazel of its own.
set -euo pipefail

workspace=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
cd "$workspace"
# A place that outlives the test, so that the next run builds only what changed.
output=${TMPDIR:-/tmp}/nuncio-external-workspace-$(id -u)
unset TEST_TMPDIR
exec ../../../tools/bazelw --batch --output_user_root="$output" \
  run --nosandbox_debug --noshow_progress --symlink_prefix=/ //:hello
