#!/bin/bash
# Fails when something compiles that must not, or when the first thing that the compiler says of it is not what is
# expected. Each *.cc beside this is a row of snippets, each of which is compiled alone, after prelude.h. A snippet
# begins with lines
#
#   //! the sentence that the first error has to contain
#   //! names Widget                       what also has to stand there, or in the lines that lead there
#
# With each of g++ and clang++ that is installed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
readonly here=test/future/compile_fail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# compile COMPILER ARGUMENT...: in the words of every locale.
compile() {
  LC_ALL=C "$1" -std=c++20 -Iinclude -fno-diagnostics-color "${@:2}"
}

# check COMPILER SNIPPET: prints what is wrong.
check() {
  local compiler=$1 snippet=$2 place output first sentence name
  place=$(sed -n 's/^#line \([0-9]*\) "\(.*\)"$/\2:\1/p' "$snippet")
  if output=$(compile "$compiler" -fsyntax-only -include "$work/$compiler/prelude.h" "$snippet" 2>&1); then
    echo "$place: $compiler compiles it"
    return
  fi
  first=$(grep -m 1 'error: ' <<<"$output")
  sentence=$(sed -n '2s,^//! ,,p' "$snippet")
  if [[ $first != *"$sentence"* ]]; then
    printf '%s: the first error of %s is not "%s", but\n%s\n' "$place" "$compiler" "$sentence" "$first"
  fi
  name=$(sed -n '3s,^//! names ,,p' "$snippet")
  if [[ -n $name ]] && ! sed '/error: /q' <<<"$output" | grep -qF "$name"; then
    printf '%s: %s does not name %s, but says\n%s\n' "$place" "$compiler" "$name" "$output"
  fi
}

# A file for each snippet.
awk -v work="$work" '
  FNR == 1 { close(file); file = "" }
  /^\/\/! / && !head { close(file); file = work "/" ++count ".cc"; printf "#line %d \"%s\"\n", FNR, FILENAME >file }
  { head = /^\/\/! / }
  file { print >file }' "$here"/*.cc

compilers=0
problems=''
for compiler in g++ clang++-19 clang++; do
  if ! command -v "$compiler" >/dev/null || { [[ $compiler == clang++ ]] && command -v clang++-19 >/dev/null; }; then
    continue
  fi
  compilers=$((compilers + 1))
  mkdir "$work/$compiler"
  cp "$here/prelude.h" "$work/$compiler"
  suffix=gch
  if [[ $compiler == clang* ]]; then suffix=pch; fi
  compile "$compiler" -x c++-header "$work/$compiler/prelude.h" -o "$work/$compiler/prelude.h.$suffix"
  # Without exceptions there is one reason to give, and none of the others counts.
  output=$(compile "$compiler" -fsyntax-only -fno-exceptions -x c++ "$here/prelude.h" 2>&1 || true)
  if [[ $(grep -m 1 'error: ' <<<"$output") != *"compile what includes them without -fno-exceptions"* ]]; then
    problems+="$compiler -fno-exceptions: that is not the first error, but"$'\n'"$output"$'\n'
  fi
  export -f check compile
  export work
  # shellcheck disable=SC2016
  problems+=$(find "$work" -maxdepth 1 -name '*.cc' -print0 | xargs -0 -n 1 -P "$(nproc)" bash -c 'check "$0" "$1"' "$compiler")
done
snippets=$(find "$work" -maxdepth 1 -name '*.cc' | wc -l)
if ((compilers == 0 || snippets == 0)); then problems+="nothing was checked"; fi
echo "$snippets snippets, $compilers compilers"
if [[ -n $problems ]]; then
  echo "$problems"
  exit 1
fi
