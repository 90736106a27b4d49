#!/usr/bin/env bash
# Installs the Debian packages that are missing, and only those.
#   install_packages.sh [build] [analysis] [tests] [pip]
# On other systems it says what is needed and leaves the rest to the build, which names what it lacks.
set -euo pipefail

build=(build-essential cmake ninja-build ccache git ca-certificates pkg-config libtorch-dev
  libopenmpi-dev openmpi-bin libhdf5-dev libcli11-dev libgtest-dev libgmock-dev librandom123-dev
  libboost-math-dev nlohmann-json3-dev libtomlplusplus-dev libspdlog-dev libssl-dev zlib1g-dev
  libjpeg-dev libpng-dev libjemalloc-dev)
analysis=(python3 python3-h5py python3-pandas python3-matplotlib python3-jinja2 python3-scipy)
tests=(python3-torch python3-torchvision python3-pil python3-pytest curl hdf5-tools slurm-wlm munge
  iproute2 util-linux)
pip=(python3 python3-venv)  # for LibTorch 2.x, which Debian lacks

wanted=()
for set in "$@"; do
  case $set in
    build) wanted+=("${build[@]}") ;;
    analysis) wanted+=("${analysis[@]}") ;;
    tests) wanted+=("${tests[@]}") ;;
    pip) wanted+=("${pip[@]}") ;;
    *) echo "install_packages.sh: no set '$set' (build, analysis, tests, pip)" >&2; exit 64 ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "Not a Debian system, nothing installed. Needed here, under these Debian names: ${wanted[*]}"
  exit 0
fi

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "All ${#wanted[@]} packages are there."
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_packages.sh: neither root nor sudo. Install as root: apt-get install ${missing[*]}" >&2
    exit 71
  fi
  as_root=(sudo)
fi

log=$(mktemp "${TMPDIR:-/tmp}/sentinelnn-apt.XXXXXX")
apt() {
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@" </dev/null >>"$log" 2>&1; then
    echo "install_packages.sh: 'apt-get $1' failed; the end of $log:" >&2
    tail -n 15 "$log" >&2
    exit 71
  fi
}
# The tests start a SLURM of their own; the packages' daemons stay off.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap '"${as_root[@]}" rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
  "${as_root[@]}" chmod 755 $policy
fi
echo "Installing ${#missing[@]} packages: ${missing[*]}"
apt update
apt install -y --no-install-recommends "${missing[@]}"
rm -f "$log"
