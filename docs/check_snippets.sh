#!/bin/bash
# Fails when C++ in the documentation differs from the compiled file that it was taken from. In a page, each block of
# C++ follows a comment that names its file, or a region of it, which in the file lies between two equal markers:
#
#   <!-- examples/readme_example.cc -->            the whole file
#   <!-- examples/file.cc [region] -->             what is between two lines "// [region]", less its indentation
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
shopt -s nullglob
readonly marker='^<!-- ([^ ]+\.(cc|h))( \[([^]]+)\])? -->$'
problems=0
checked=0

problem() {
  echo "$1" >&2
  problems=$((problems + 1))
}

# region FILE NAME: prints the region, or fails when there are not exactly two markers.
region() {
  awk -v marker="// [$2]" '
    { line = $0; gsub(/^[ \t]+|[ \t]+$/, "", line) }
    line == marker { markers++; next }
    markers == 1 {
      text[++count] = $0
      if (line != "" && (match($0, /[^ ]/) - 1 < indent || indent == "")) indent = RSTART - 1
    }
    END {
      for (i = 1; i <= count; i++) print substr(text[i], indent + 1)
      exit markers != 2
    }' "$1"
}

# compare PAGE LINE FILE REGION TEXT
compare() {
  local where="$1:$2" expected
  checked=$((checked + 1))
  if [[ ! -f $3 ]]; then
    problem "$where: there is no $3"
  elif [[ -z $4 ]]; then
    expected=$(<"$3")
  elif ! expected=$(region "$3" "$4"); then
    problem "$where: $3 does not have exactly two lines // [$4]"
    return
  fi
  if [[ -f $3 ]] && ! diff -u --label "$3" --label "$where" <(printf '%s\n' "$expected") <(printf '%s' "$5") >&2; then
    problem "$where: differs from $3${4:+ [$4]}"
  fi
}

check_page() {
  local page=$1 number=0 line fence='' start=0 file='' name='' text='' is_cpp=''
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    if [[ -n $fence ]]; then
      if [[ $line == "$fence" ]]; then
        if [[ -n $file ]]; then
          compare "$page" "$start" "$file" "$name" "$text"
        elif [[ -n $is_cpp ]]; then
          problem "$page:$start: C++ without a comment that names its file"
        fi
        fence='' file='' name=''
      else
        text+=$line$'\n'
      fi
    elif [[ $line =~ ^(\`\`\`+)(.*)$ ]]; then
      fence=${BASH_REMATCH[1]} start=$number text='' is_cpp=''
      case ${BASH_REMATCH[2]} in cpp | c++ | cc | C++) is_cpp=yes ;; esac
    elif [[ $line =~ $marker ]]; then
      file=${BASH_REMATCH[1]} name=${BASH_REMATCH[4]}
    elif [[ -n $line ]]; then
      if [[ -n $file ]]; then problem "$page:$number: the comment before names $file, but no code follows it"; fi
      file='' name=''
    fi
  done <"$page"
  if [[ -n $fence ]]; then problem "$page:$start: the block has no end"; fi
}

if [[ ! -f README.md ]]; then problem "there is no README.md"; fi
for page in *.md docs/*.md examples/*.md; do
  check_page "$page"
done
if ((checked == 0)); then problem "no snippets found"; fi
echo "$checked snippets checked, $problems problems"
((problems == 0))
