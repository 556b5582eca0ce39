# shellcheck shell=bash
# Sourced by the scripts in tools/: which system packages they need, and how a missing one gets installed.
#
#   ensure_packages build clang     returns at once when everything is there
#
# One line for each thing that is needed: the set it belongs to, how its presence shows, the Debian/Ubuntu package.
# Presence is a command, a pkg-config module, or a file (a glob), so that what was installed by other means counts too.
readonly PACKAGES='
build  cmd:bazel,bazelisk                       bazel-bootstrap
build  cmd:g++                                  g++
build  cmd:pkg-config                           pkg-config
build  pc:absl_status                           libabsl-dev
build  pc:libevent_pthreads                     libevent-dev
build  pc:spdlog                                libspdlog-dev
build  pc:nlohmann_json                         nlohmann-json3-dev
build  pc:gtest                                 libgtest-dev
build  pc:gmock                                 libgmock-dev
build  pc:benchmark                             libbenchmark-dev
build  pc:libuv                                 libuv1-dev
build  pc:kj-async                              libcapnp-dev
build  file:/usr/include/asio.hpp               libasio-dev
build  cmd:nc                                   netcat-openbsd
build  cmd:socat                                socat
build  cmd:python3                              python3
build  file:/usr/lib/python3/dist-packages/prometheus_client  python3-prometheus-client
clang  cmd:clang-19                             clang-19
clang  cmd:ld.lld-19                            lld-19
clang  cmd:llvm-symbolizer-19                   llvm-19
clang  file:/usr/lib/llvm-19/lib/clang/19/lib/*/libclang_rt.tsan*  libclang-rt-19-dev
python cmd:python3                              python3
format cmd:clang-format-19                      clang-format-19
format cmd:git                                  git
lint   cmd:clang-tidy-19                        clang-tidy-19
lint   cmd:git                                  git
'

# is_present PROBE
is_present() {
  local kind=${1%%:*} what=${1#*:} name
  case $kind in
    cmd)
      for name in ${what//,/ }; do
        if command -v "$name" >/dev/null; then return 0; fi
      done
      return 1
      ;;
    pc) pkg-config --exists "$what" 2>/dev/null ;;
    file) compgen -G "$what" >/dev/null ;;
  esac
}

# missing_packages SET...: prints what is missing of these sets.
missing_packages() {
  local set probe package
  while read -r set probe package; do
    if [[ -n $set && " $* " == *" $set "* ]] && ! is_present "$probe"; then printf '%s\n' "$package"; fi
  done <<<"$PACKAGES"
}

# as_root COMMAND...: runs it as root; fails where that cannot be had.
as_root() {
  if [[ $EUID == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null && { sudo -n true || : </dev/tty; } 2>/dev/null; then
    sudo "$@"
  else
    return 1
  fi
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}

# ensure_packages SET...: installs what is missing of these sets, or says what to run and returns 1.
ensure_packages() {
  local missing log
  mapfile -t missing < <(missing_packages "$@" | sort -u)
  if ((${#missing[@]} == 0)); then return 0; fi

  echo "${0##*/}: installing ${missing[*]}" >&2
  log=$(mktemp)
  if command -v apt-get >/dev/null && {
    apt_get update
    apt_get install -y --no-install-recommends "${missing[@]}"
  } >"$log" 2>&1 </dev/null; then
    rm -f "$log"
    return 0
  fi
  tail -n 5 "$log" >&2
  rm -f "$log"
  echo "${0##*/}: cannot install them; please run: sudo apt-get install ${missing[*]}" >&2
  return 1
}

# our_files PATTERN...: names, each ended by NUL, the files in git or new to it that match.
our_files() {
  git -c safe.directory='*' ls-files -z --cached --others --exclude-standard -- "$@" | while IFS= read -r -d '' file; do
    if [[ -e $file ]]; then printf '%s\0' "$file"; fi
  done
}
