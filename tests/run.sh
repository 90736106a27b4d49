#!/usr/bin/env bash
# Installs what is missing, builds with warnings as errors, runs the tests.
#   tests/run.sh [--all] [CTEST OPTIONS]     --all: the long ones too
#
# Variables, with their defaults:
#   TREE        build/release   where it builds
#   LIBTORCH    a folder with another LibTorch than Debian's (tests/libtorch2.sh: pip's)
set -euo pipefail
cd "$(dirname "$0")/.."

selection=(-LE long)
if [ "${1:-}" = --all ]; then
  selection=()
  shift
fi

bash jobs/install_packages.sh build analysis tests

tree=${TREE:-build/release}
configure=(--preset release -B "$tree" -DSENTINEL_TESTS=ON -DSENTINEL_WERROR=ON)
# Debian's Python first: the packages of the parity tests belong to it.
[ ! -x /usr/bin/python3 ] || configure+=(-DPython3_EXECUTABLE=/usr/bin/python3)
if [ -n "${LIBTORCH:-}" ]; then
  configure+=(-DCMAKE_PREFIX_PATH="$LIBTORCH")
  # CMake keeps what it found before.
  if [ -f "$tree/CMakeCache.txt" ] && ! grep -qxF "CMAKE_PREFIX_PATH:UNINITIALIZED=$LIBTORCH" "$tree/CMakeCache.txt"; then
    rm -rf "$tree"
  fi
fi

log=$tree/tests-build.log
mkdir -p "$tree"
echo "Building into $tree, output in $log"
if ! { cmake "${configure[@]}" && cmake --build "$tree"; } >"$log" 2>&1 </dev/null; then
  grep -nE 'error|Error|FAILED' "$log" | head -n 20 >&2 || true
  tail -n 30 "$log" >&2
  echo "run.sh: the build failed; all of its output is in $log" >&2
  exit 71
fi

# Tests start mpirun themselves; as root Open MPI wants to be asked twice.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# Threads that wait asleep: sentinelnn has them by itself, test programs and PyTorch do not.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
# Large pages for test programs and PyTorch, as sentinelnn has them by jemalloc: a third less time.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.hugetlb=1

output=$tree/tests-output.log
code=0
ctest --test-dir "$tree" --output-on-failure -j2 "${selection[@]}" "$@" </dev/null >"$output" 2>&1 || code=$?
if [ "$code" -ne 0 ]; then
  grep -vE '^ *(Start|[0-9]+/[0-9]+ Test .* Passed)' "$output" | tail -n 200 || true
else
  sed -n '/^[0-9.]*% tests passed/,$p' "$output"
fi
echo "All output of the tests is in $output"
exit "$code"
