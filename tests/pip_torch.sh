# shellcheck shell=bash
# Sourced by libtorch2.sh and bench/gpu.sh: a Python with torch 2.x, and what CMake wants to know of it.
#
#   pip_torch FOLDER PACKAGE…   takes $PYTHON, or a venv in FOLDER into which pip puts $TORCH_PIP and the packages;
#                               sets python, version, cuda (what it is built for, or none), libtorch (its folder)
# Returns 1 after a line that says what is wrong.
pip_torch() {
  local folder=$1 packages=("${@:2}") wanted abi found
  read -ra wanted <<<"${TORCH_PIP:-torch} ${packages[*]}"
  python=${PYTHON:-$folder/bin/python} version=none cuda=none libtorch=
  if [ -z "${PYTHON:-}" ] && [ "$(cat "$folder/complete" 2>/dev/null)" != "${wanted[*]}" ]; then
    bash jobs/install_packages.sh pip || return 1
    echo "Making $folder with pip: ${wanted[*]} (gigabytes), output in $folder.log"
    mkdir -p "$folder"
    if ! { python3 -m venv --clear "$folder" &&
      "$python" -m pip install --progress-bar off "${wanted[@]}"; } >"$folder.log" 2>&1 </dev/null; then
      echo "${0##*/}: pip could not install '${wanted[*]}' (see $folder.log); set TORCH_PIP, or PYTHON to a Python with torch" >&2
      return 1
    fi
    echo "${wanted[*]}" >"$folder/complete"
  fi
  if ! found=$("$python" -W ignore -c '
import importlib, os, sys
try:
    torch, *_ = [importlib.import_module(name) for name in sys.argv[1:]]
except ImportError as error:
    sys.exit(f"{sys.executable}: {error}")
print(torch.__version__, torch.version.cuda or "none", int(torch._C._GLIBCXX_USE_CXX11_ABI),
      os.path.dirname(torch.__file__), sep="\t")' torch "${packages[@]}"); then
    echo "${0##*/}: $python does not have torch ${packages[*]}; set PYTHON to one that has, or TORCH_PIP" >&2
    return 1
  fi
  IFS=$'\t' read -r version cuda abi libtorch <<<"$found"
  echo "torch $version, CUDA $cuda, $libtorch"
  if [ "$abi" != 1 ]; then
    echo "${0##*/}: torch $version has the old C++ ABI, other libraries here the new one; take 2.7 or later" >&2
    return 1
  fi
  if [ ! -f "$libtorch/share/cmake/Torch/TorchConfig.cmake" ]; then
    echo "${0##*/}: $libtorch has no share/cmake/Torch/TorchConfig.cmake; take pip's torch" >&2
    return 1
  fi
}
