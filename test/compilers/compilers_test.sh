#!/bin/bash
# What compilers make of the traps beside this file: each is compiled and run with every g++ and clang++ that is found,
# and has to be right, wrong or refused as expected.txt says.
#   compilers_test.sh [COMPILER...]
# A difference is news: a compiler has been mended, or a new one is broken. Change expected.txt then, and the first
# section of docs/pitfalls.md.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/compilers.XXXXXX")
readonly work
trap 'rm -rf "$work"' EXIT

# family_and_version COMPILER: "gcc 12.2.0" or "clang 19.1.7".
family_and_version() {
  if "$1" --version | grep -q clang; then
    echo "clang $("$1" -dumpversion)"
  else
    echo "gcc $("$1" -dumpfullversion)"
  fi
}

# column FAMILY VERSION: the number of the column of expected.txt that counts for it, which is the last one that is not
# newer; nothing when all are.
column() {
  local names number found=''
  read -ra names < <(grep '^trap ' "$here/expected.txt")
  for number in "${!names[@]}"; do
    if [[ ${names[number]} == "$1"[0-9]* ]] && printf '%s\n' "${names[number]#"$1"}" "$2" | sort -CV; then
      found=$((number + 1))
    fi
  done
  echo "$found"
}

# try_trap COMPILER TRAP: prints right, wrong or refused. With -O1, since some faults are of the optimizer.
try_trap() {
  local program
  program=$(mktemp "$work/XXXXXX")
  if ! "$1" -std=c++20 -O1 -w -pthread -I"$here/../.." "$here/$2.cc" -o "$program" &>"$program.errors"; then
    echo refused
  elif timeout 10 "$program" >&2; then
    echo right
  else
    echo wrong
  fi
}

# check_trap COMPILER COLUMN TRAP: prints a line that says what came of it.
check_trap() {
  local expected result
  expected=$(awk -v trap="$3" -v column="$2" '$1 == trap { print $column }' "$here/expected.txt")
  result=$(try_trap "$1" "$3" 2>"$work/$3.output")
  if [[ $result == "$expected" ]]; then
    echo "$1 $3: $expected"
  else
    echo "NEWS: $1 $3: $result, not ${expected:-in expected.txt}. $(head -n 1 "$work/$3.output")"
  fi
}
export -f try_trap check_trap
export here work

if (($# == 0)); then
  mapfile -t compilers < <(compgen -c | grep -E '^(g|clang)\+\+(-[0-9]+)?$' | sort -uV)
  set -- "${compilers[@]}"
fi

declare -A seen=()
for compiler; do
  read -r family version < <(family_and_version "$compiler")
  if [[ -n ${seen[$family $version]-} ]]; then continue; fi
  seen[$family $version]=yes
  number=$(column "$family" "$version")
  if [[ -z $number ]]; then
    echo "$compiler is $family $version: no column for it"
  elif ! "$compiler" -std=c++20 -fsyntax-only -x c++ - <<<'#include <coroutine>
      std::suspend_never any;' &>"$work/errors"; then
    echo "$compiler is $family $version: without coroutines here"
  else
    echo "$compiler is $family $version"
    printf '%s\n' "$here"/*.cc | sed 's,.*/\(.*\)\.cc$,\1,' |
      xargs -P "$(nproc)" -I{} bash -c 'check_trap "$@"' _ "$compiler" "$number" {} | sort | tee -a "$work/lines"
  fi
done

if [[ ! -s $work/lines ]]; then
  echo "no compiler was tried" >&2
  exit 1
fi
if grep '^NEWS' "$work/lines" >&2; then exit 1; fi
