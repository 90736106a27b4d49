#!/usr/bin/env bash
# On a machine with a GPU, from a bare checkout: builds against a LibTorch with CUDA, runs the tests that
# need a GPU, checks trials on the GPU by the reference path, measures trials/s against eager PyTorch.
#
#   tests/bench/gpu.sh DATA        DATA holds cifar10/ and models/ (default: ../shared/data)
#   tests/bench/gpu.sh --dry-run   without a GPU too: how far one would get (configures, builds nothing)
#
# Variables, with their defaults:
#   PYTHON      a Python with torch (CUDA), numpy and h5py; build/gpu/venv otherwise, made with pip
#   TORCH_PIP   torch          what pip installs into that venv, such as torch==2.9.0
#   Torch_DIR   the folder of TorchConfig.cmake; that of PYTHON's torch otherwise
#   TRIALS      20             of the peer per round
#   JOBS        all cores
# Exit codes: 71 no GPU, no CUDA compiler or no fitting torch; 65 no data; else that of the first step that failed.
set -euo pipefail
cd "$(dirname "$0")/../.."

dry=
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
data=${1:-../shared/data}
build=build/gpu
mkdir -p "$build"

say() { printf '\n== %s\n' "$*"; }
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
python=${PYTHON:-$build/venv/bin/python}
if [ -z "${PYTHON:-}" ] && [ -n "$dry" ] && [ ! -x "$python" ]; then
  python=/usr/bin/python3
  echo "would make $build/venv with pip install ${TORCH_PIP:-torch} numpy h5py; looking at $python instead"
elif [ -z "${PYTHON:-}" ] && [ ! -e "$build/venv/complete" ]; then
  { python3 -m venv "$build/venv" && "$python" -m pip install --quiet "${TORCH_PIP:-torch}" numpy h5py; } ||
    refuse "pip could not install torch; set PYTHON to a Python that has torch, numpy and h5py"
  touch "$build/venv/complete"
fi
# One line: version, CUDA it was built for, standard library ABI, whether it sees a GPU, its CMake folder.
if ! torch=$("$python" -c '
import h5py, numpy, torch
print(torch.__version__, torch.version.cuda or "none", int(torch._C._GLIBCXX_USE_CXX11_ABI),
      int(torch.cuda.is_available()), torch.utils.cmake_prefix_path, sep="\t")'); then
  echo "gpu.sh: $python cannot import torch, numpy and h5py; set PYTHON, or TORCH_PIP for the venv" >&2
  exit 71
fi
IFS=$'\t' read -r version cuda abi sees prefix <<<"$torch"
Torch_DIR=${Torch_DIR:-$prefix/Torch}
# Debian's own torch keeps its CMake files with its libraries.
[ -f "$Torch_DIR/TorchConfig.cmake" ] || Torch_DIR=$(echo /usr/lib/*/cmake/Torch)
[ -f "$Torch_DIR/TorchConfig.cmake" ] || refuse "no TorchConfig.cmake in $Torch_DIR; set Torch_DIR"
echo "torch $version, CUDA $cuda, $Torch_DIR"
[ "$cuda" != none ] || refuse "torch $version is built without CUDA"
[ "$abi" = 1 ] || refuse "torch $version has the old C++ ABI, other libraries here the new one; take 2.7 or later"
[ "$sees" = 1 ] || refuse "torch $version sees no GPU (CUDA $cuda; does the driver fit?)"

# TorchConfig.cmake of a torch with CUDA wants the toolkit.
nvcc=$(command -v nvcc || true)
[ -n "$nvcc" ] || [ ! -x /usr/local/cuda/bin/nvcc ] || nvcc=/usr/local/cuda/bin/nvcc
if [ -n "$nvcc" ]; then
  export CUDACXX=$nvcc
  "$nvcc" --version | tail -n 2 | head -n 1
else
  refuse "no nvcc: install the CUDA toolkit of version $cuda, or put its bin/ on PATH"
fi

say "Build in $build"
configure=(cmake -S . -B "$build/tree" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSENTINEL_TESTS=ON
  -DTorch_DIR="$Torch_DIR" -DPython3_EXECUTABLE="$(command -v "$python")")
targets=(sentinelnn unit_graph unit_fault unit_campaign)
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
grep -E '^(Torch_DIR|CMAKE_CUDA_COMPILER):' "$build/tree/CMakeCache.txt"
if [ -n "$dry" ]; then
  echo "would build: ${targets[*]}"
  echo "tests with Cuda or Gpu in their names: $(grep -rhoE '^TEST[_FP]*\([^)]*(Cuda|Gpu)[^)]*\)' tests | wc -l)"
  exit 0
fi
quietly build cmake --build "$build/tree" --parallel "${JOBS:-$(nproc)}" --target "${targets[@]}"
export SENTINELNN=$PWD/$build/tree/sentinelnn OMP_WAIT_POLICY=passive
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

say "Tests that need a GPU"
# Those of targets that were not built are not asked for.
quietly tests ctest --test-dir "$build/tree" --output-on-failure -R '^unit_(graph|fault|campaign)\..*(Cuda|Gpu)'
grep -E 'tests passed|No tests were found|Skipped' "$build/tests.log"
if grep -q Skipped "$build/tests.log"; then
  echo "gpu.sh: tests were skipped although there is a GPU; see $build/tests.log" >&2
  exit 71
fi

say "Engine == reference on the GPU"
"$python" tests/bench/engine_parity.py cells --data "$data" --work "$build/parity" --models resnet20 \
  --trials 10 --images 256 --ranks 1 --device cuda

say "Trials/s: sentinelnn, 1 rank, against eager PyTorch on the same GPU"
"$python" tests/bench/peer.py --data "$data" --trials "${TRIALS:-20}" --device cuda
