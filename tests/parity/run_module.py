#!/usr/bin/python3
"""Runs a TorchScript file that `sentinelnn export` wrote, with nothing but PyTorch.

Usage: run_module.py MODULE IMAGES LOGITS [TENSOR:ELEMENT:WORD ...]
Reads float32 images [N, 3, 32, 32], writes the logits. Before, stores the hexadecimal words in the
parameters, if any. Prints the names of the state_dict.
"""

import sys

import numpy
import torch


def store(state: dict[str, torch.Tensor], fault: str) -> None:
    name, element, word = fault.split(":")
    bits = numpy.array(int(word, 16), numpy.uint32).view(numpy.int32)
    state[name].view(-1).view(torch.int32)[int(element)] = int(bits)


def main() -> None:
    path, images_path, logits_path, *faults = sys.argv[1:]
    module = torch.jit.load(path)
    images = numpy.fromfile(images_path, numpy.float32).reshape(-1, 3, 32, 32)
    state = module.state_dict()
    for fault in faults:
        store(state, fault)
    with torch.no_grad():
        for _ in range(3):  # PyTorch optimises what it has seen twice
            logits = module(torch.from_numpy(images))
    logits.numpy().tofile(logits_path)
    print("\n".join(state))


if __name__ == "__main__":
    main()
