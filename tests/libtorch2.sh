#!/usr/bin/env bash
# tests/run.sh with the LibTorch of pip's newest torch (a CUDA build, run on the CPU) in place of Debian's.
#   tests/libtorch2.sh [--all] [CTEST OPTIONS]     as tests/run.sh
#
# Variables, with their defaults:
#   PYTHON      a Python with torch; build/libtorch2/venv otherwise, made with pip (6 GB)
#   TORCH_PIP   torch    what pip installs into that venv, such as torch==2.9.0
# Builds in build/libtorch2/tree. Python tests and their PyTorch stay Debian's.
# Exit codes: 71 no fitting torch, a package is missing, or the build failed; else that of ctest.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/pip_torch.sh

pip_torch build/libtorch2/venv numpy || exit 71
LIBTORCH=$libtorch TREE=build/libtorch2/tree exec bash tests/run.sh "$@"
