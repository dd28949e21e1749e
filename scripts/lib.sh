# Set-up shared by the scripts of this folder, which source it. Written for bash 3.2 and later.
# shellcheck shell=bash

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$ROOT/.venv
STAMP=$VENV/.set-up # three lines: checksum (or "unfinished"), extras, the repository's folder

SERVER_FOLDERS=/usr/sbin:/usr/local/sbin:/usr/libexec:/opt/homebrew/bin:/usr/local/bin

LOG=
trap '[[ -z $LOG ]] || rm -f -- "$LOG"' EXIT

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $1"
  shift
  for line in "$@"; do say "  $line"; done
  exit 1
}

have() { type -P -- "$1" >/dev/null; }

# quietly COMMAND…: show what it prints only if it fails.
quietly() {
  local code=0
  LOG=$(mktemp)
  "$@" >"$LOG" 2>&1 </dev/null || code=$?
  if ((code)); then cat -- "$LOG" >&2; fi
  rm -f -- "$LOG"
  LOG=
  return "$code"
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    say "Neither root nor sudo: cannot run $*"
    return 1
  fi
}

package_manager() {
  local name
  for name in apt-get dnf brew; do
    if have "$name"; then
      echo "$name"
      return
    fi
  done
}

# --- apt ---------------------------------------------------------------------------------------------------------

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@"; }

apt_knows() { have apt-cache && LC_ALL=C apt-cache policy "$1" 2>/dev/null | grep 'Candidate: [^(]' >/dev/null; }

apt_update() {
  say "Updating the list of packages (apt-get update)."
  quietly apt update || say "apt-get update failed; trying with the list as it is."
}

# A list of packages can be too old for its archive: then once more with a new one.
apt_install() {
  say "Installing $* (apt-get)."
  if apt_try_install "$@" >/dev/null 2>&1 </dev/null; then return; fi
  apt_update
  quietly apt_try_install "$@" || die "apt-get could not install $*."
}

apt_try_install() { apt install -y --no-install-recommends "$@"; }

# --- MariaDB -----------------------------------------------------------------------------------------------------

MARIADB_PROGRAMS=(mariadbd mariadb-install-db my_print_defaults mariadb mariadb-dump)

have_mariadb() (
  PATH=$PATH:$SERVER_FOLDERS
  for name in "${MARIADB_PROGRAMS[@]}"; do have "$name" || exit 1; done
)

# set_up_mariadb: the server's and the client's programs, for the embedded stack. No service is needed.
set_up_mariadb() {
  if have_mariadb; then return; fi
  case $(package_manager) in
    apt-get)
      apt_knows mariadb-server-core || apt_knows mariadb-server || apt_update
      if apt_knows mariadb-server-core && apt_knows mariadb-client; then
        apt_install mariadb-server-core mariadb-client
      else
        apt_install mariadb-server # older releases have the version in the names of the parts
      fi
      ;;
    dnf)
      say "Installing mariadb-server (dnf)."
      quietly as_root dnf install -y mariadb-server || die "dnf could not install mariadb-server."
      ;;
    brew)
      say "Installing mariadb (brew)."
      quietly env NONINTERACTIVE=1 brew install mariadb || die "brew could not install mariadb."
      ;;
    *)
      die "MariaDB's server is missing, and there is no apt-get, dnf or brew to install it with." \
        "Put these on the PATH, then run this again: ${MARIADB_PROGRAMS[*]}"
      ;;
  esac
  have_mariadb || die "MariaDB is installed, but one of its programs is not found." \
    "Put these on the PATH, then run this again: ${MARIADB_PROGRAMS[*]}"
}

# --- Python ------------------------------------------------------------------------------------------------------

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

makes_venvs() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Every Python on the PATH that is new enough, the best first; never the one of .venv, which may be removed.
pythons() {
  local name path
  for name in python3.13 python3.12 python3.11 python3 python3.14 python; do
    while IFS= read -r path; do
      if [[ $path != "$VENV"/* ]] && is_new_enough "$path"; then printf '%s\n' "$path"; fi
    done < <(type -aP -- "$name")
  done
}

# find_python: set PYTHON to a Python that can make virtual environments.
find_python() {
  local found path version
  found=$(pythons)
  if [[ -z $found ]]; then no_python; fi
  while IFS= read -r path; do
    PYTHON=$path
    if makes_venvs "$path"; then return; fi
  done <<<"$found"
  PYTHON=${found%%$'\n'*}
  if [[ $(package_manager) == apt-get ]]; then
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    apt_knows python3-venv || apt_update
    if apt_knows "python$version-venv"; then apt_install "python$version-venv"; else apt_install python3-venv; fi
  fi
  makes_venvs "$PYTHON" || die "$PYTHON cannot make virtual environments: its module venv or ensurepip is missing."
}

no_python() {
  local command="Install Python 3.11 or later from https://www.python.org/downloads/" package=python3 version
  case $(package_manager) in
    apt-get)
      for version in 3.13 3.12 3.11; do
        if apt_knows "python$version-venv"; then
          package=python$version
          break
        fi
      done
      command="sudo apt-get update && sudo apt-get install $package $package-venv"
      ;;
    dnf) command="sudo dnf install python3.12" ;;
    brew) command="brew install python@3.13" ;;
  esac
  die "cqrsctl needs Python 3.11 or later, and none is on the PATH." "$command"
}

# --- the virtual environment -------------------------------------------------------------------------------------

# checksum EXTRAS: of all that decides what .venv holds. Nothing if .venv has no working Python.
checksum() {
  "$VENV/bin/python" -I -S - "$1" "$ROOT/pyproject.toml" "$ROOT/constraints.txt" 2>/dev/null <<'PYTHON' || true
import hashlib, sys

digest = hashlib.sha256(f"{sys.version_info[:3]} {sys.argv[1]}".encode())
for path in sys.argv[2:]:
    with open(path, "rb") as file:
        digest.update(b"\0" + file.read())
print(digest.hexdigest())
PYTHON
}

is_usable_venv() {
  is_new_enough "$VENV/bin/python" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1
}

# set_up_packages EXTRAS: .venv with at least these extras (of "local,dev"); those that it has already are kept.
set_up_packages() {
  local known='' had='' place=$ROOT extras='' extra
  if [[ -f $STAMP ]]; then
    { read -r known && read -r had && IFS= read -r place; } <"$STAMP" || known=unfinished
  fi
  if [[ $place != "$ROOT" ]]; then known=unfinished; fi # moved or copied: its programs name the old folder
  for extra in local dev; do
    if [[ ",$had,$1," == *",$extra,"* ]]; then extras=${extras:+$extras,}$extra; fi
  done
  if [[ -n $known && $known == "$(checksum "$extras")" ]]; then return; fi

  if [[ $known == unfinished ]] || ! is_usable_venv; then make_venv "$extras"; fi
  write_stamp unfinished "$extras"
  say "Installing cqrsctl[$extras] and what it needs into .venv (pip)."
  quietly install_packages "$extras" || die "pip could not install the packages."
  write_stamp "$(checksum "$extras")" "$extras"
}

make_venv() {
  find_python
  say "Making .venv with $("$PYTHON" -V)."
  rm -rf -- "$VENV"
  mkdir -- "$VENV"
  write_stamp unfinished "$1"
  quietly "$PYTHON" -m venv "$VENV" || die "$PYTHON could not make .venv."
}

write_stamp() { printf '%s\n' "$1" "$2" "$ROOT" >"$STAMP"; }

install_packages() (
  cd -- "$ROOT" || exit
  PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install --quiet -e ".[$1]" -c constraints.txt
)

# --- checks ------------------------------------------------------------------------------------------------------

# run_lint: style and types. The current folder is the repository's.
run_lint() {
  .venv/bin/ruff check .
  .venv/bin/ruff format --check .
  .venv/bin/mypy
}
