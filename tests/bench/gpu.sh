#!/usr/bin/env bash
# On a machine with a GPU, from a bare checkout: builds against a LibTorch with CUDA, runs the tests that
# need a GPU, checks trials on the GPU by the reference path, measures trials/s against eager PyTorch.
# Made to end within ten minutes on 16 cores where torch is there already.
#
#   tests/bench/gpu.sh DATA        DATA holds cifar10/ and models/ (default: ../shared/data)
#   tests/bench/gpu.sh --dry-run   without a GPU too: how far one would get (configures, builds nothing)
#
# Variables, with their defaults:
#   PYTHON      a Python with torch (CUDA), numpy and h5py; build/gpu/venv otherwise, made with pip
#   TORCH_PIP   torch          what pip installs into that venv, such as torch==2.9.0
#   AT_ONCE     1 8 64 512     trials at once, each measured
#   SECONDS_EACH  8            of each measurement, at most
#   JOBS        all cores
# Exit codes: 71 no GPU or no fitting torch; 65 no data; else that of the first step that failed.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/pip_torch.sh

dry=
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
data=${1:-../shared/data}
build=build/gpu
mkdir -p "$build"

say() { printf '\n== %s (after %s s)\n' "$*" "$SECONDS"; }
refuse() {
  echo "gpu.sh: $*" >&2
  [ -n "$dry" ] || exit 71
  echo "gpu.sh: going on all the same (--dry-run)" >&2
}

say "GPU"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null ||
  refuse "there is no NVIDIA GPU here (nvidia-smi names none)"
if [ ! -f "$data/cifar10/test_batch.bin" ]; then
  echo "gpu.sh: $data has no cifar10/test_batch.bin; give the folder of the data" >&2
  exit 65
fi

say "Packages"
bash jobs/install_packages.sh build

say "LibTorch"
if [ -z "${PYTHON:-}" ] && [ -n "$dry" ] && [ ! -e "$build/venv/complete" ]; then
  PYTHON=/usr/bin/python3
  echo "would make $build/venv with pip install ${TORCH_PIP:-torch} numpy h5py; looking at $PYTHON instead"
fi
pip_torch "$build/venv" numpy h5py || refuse "no fitting torch"
[ "$cuda" != none ] || refuse "torch $version is built without CUDA"
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
  refuse "torch $version sees no GPU (CUDA $cuda; does the driver fit?)"

say "Build in $build"
configure=(cmake -S . -B "$build/tree" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSENTINEL_TESTS=ON
  -DCMAKE_PREFIX_PATH="$libtorch" -DPython3_EXECUTABLE="$(command -v "$python")")
targets=(sentinelnn unit_fault)  # the tests that need a GPU are in the latter
# Each step's output goes to a file; its end is shown where it fails.
quietly() {
  local log=$build/$1.log
  shift
  "$@" >"$log" 2>&1 </dev/null && return
  local code=$?
  tail -n 30 "$log" >&2
  echo "gpu.sh: '$*' failed; all of its output is in $log" >&2
  exit "$code"
}
quietly configure "${configure[@]}"
grep -E '^Torch_DIR:' "$build/tree/CMakeCache.txt"
if [ -n "$dry" ]; then
  echo "would build: ${targets[*]}"
  echo "would check: engine == reference, single flips and bit error rates, resnet20 and networks made from it"
  echo "would measure: weights at a bit error rate, single flips, neurons; ${AT_ONCE:-1 8 64 512} trials at once"
  "$python" -m py_compile tests/bench/gpu.py
  echo "tests with Cuda or Gpu in their names: $(grep -rhoE '^TEST[_FP]*\([^)]*(Cuda|Gpu)[^)]*\)' tests | wc -l)"
  exit 0
fi
quietly build cmake --build "$build/tree" --parallel "${JOBS:-$(nproc)}" --target "${targets[@]}"
export SENTINELNN=$PWD/$build/tree/sentinelnn OMP_WAIT_POLICY=passive
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

say "Tests that need a GPU"
# Those of targets that were not built are not asked for.
quietly tests ctest --test-dir "$build/tree" --output-on-failure -R '^unit_fault\..*(Cuda|Gpu)'
grep -E 'tests passed|No tests were found|Skipped' "$build/tests.log"
if grep -q Skipped "$build/tests.log"; then
  echo "gpu.sh: tests were skipped although there is a GPU; see $build/tests.log" >&2
  exit 71
fi

say "Engine == reference on the GPU"
"$python" tests/bench/engine_parity.py cells --data "$data" --work "$build/parity" --models resnet20 \
  --faults single ber --trials 10 --images 128 --ranks 1 --device cuda

say "Trials/s: sentinelnn, 1 rank, against eager PyTorch on the same GPU"
# shellcheck disable=SC2086 # several numbers
"$python" tests/bench/gpu.py --data "$data" --seconds "${SECONDS_EACH:-8}" --at-once ${AT_ONCE:-1 8 64 512}
say "Done"
