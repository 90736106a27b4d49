#!/usr/bin/python3
"""Prints name, type, shape and SHA-256 of every tensor of a checkpoint, loaded as weights only.

Usage: load_checkpoint.py FILE
"""

import hashlib
import sys
from collections import OrderedDict

import torch


def line(name: str, tensor: torch.Tensor) -> str:
    shape = "".join(f"{size}," for size in tensor.shape)
    digest = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    return f"{name} {str(tensor.dtype).removeprefix('torch.')} ({shape}) {digest}"


def main() -> None:
    state = torch.load(sys.argv[1], weights_only=True)
    if type(state) is not OrderedDict:
        raise SystemExit(f"{sys.argv[1]} holds {type(state)}, not an OrderedDict")
    for name, tensor in state.items():
        print(line(name, tensor))


if __name__ == "__main__":
    main()
