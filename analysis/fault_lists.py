#!/usr/bin/env python3
"""Fault lists for `sentinelnn inject --faults`, made from what a result says of its network.

  fault_lists.py pe --rows R --cols C --dataflow ws result.h5

lists the weights that each processing element of a weight-stationary systolic array holds: one
trial for each element. A layer's weights are a matrix W[k, m], k over input channels and the
window, m over output channels (copies of duplicated channels behind them). The element in row i,
column j holds W[k, m] where k mod R = i and m mod C = j. Its trial is i C + j.

It is the example for other lists (docs/fault_lists.md): make `Fault`s, and write them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cli import OneLineParser, run
from hdf5 import ResultError
from outputs import check_output, write_output
from results import Result
from text import printable

WEIGHT = 0  # kind of a tensor
HEAD = "trial,tensor,element,bit,effect"


class Fault(NamedTuple):
    trial: int
    tensor: str
    element: int
    bit: int
    effect: str


@dataclass(frozen=True)
class Weight:
    """Words [outputs, inputs], row-major: inputs = in/groups * kh * kw."""

    name: str
    outputs: int
    inputs: int
    bits: int


def weights_of(result: Result, model: str) -> list[Weight]:
    """The weights of a network that the result's faults could hit."""
    (index,) = result.models.index[result.models["name"] == model]
    try:
        layers = json.loads(str(result.models["structure"][index]))["layers"]
    except (ValueError, KeyError, TypeError, RecursionError):
        layers = {}
    tensors = result.tensors(model)
    return [_weight(result.path, layers, row) for row in tensors.itertuples() if row.kind == WEIGHT]


def _weight(path: Path, layers: object, row: object) -> Weight:
    name, originals = str(row.name), int(row.originals)
    layer = layers.get(name.rpartition(".")[0]) if isinstance(layers, dict) else None
    outputs = layer.get("out_channels") if isinstance(layer, dict) else None
    if not isinstance(outputs, int) or outputs < 1 or originals % outputs != 0:
        raise ResultError(f"{path}: does not tell how many output channels {name} has")
    if "+repeat" in str(row.layout):
        raise ResultError(f"{path}: {name} is stored as {row.layout}: no word is a weight there")
    inputs = originals // outputs
    return Weight(name, int(row.elements) // inputs, inputs, int(row.word_bits))


def elements_of(weight: Weight, row: int, column: int, rows: int, columns: int) -> np.ndarray:
    """The words that the processing element (row, column) of rows x columns holds, ascending."""
    k, m = np.arange(row, weight.inputs, rows), np.arange(column, weight.outputs, columns)
    return (m[:, None] * weight.inputs + k[None, :]).reshape(-1)


def processing_elements(
    weights: Iterable[Weight], rows: int, columns: int, bit: int, effect: str
) -> Iterator[Fault]:
    """The same fault in all words of an element, one trial each."""
    weights = list(weights)
    for trial in range(rows * columns):
        for weight in weights:
            for element in elements_of(weight, *divmod(trial, columns), rows, columns):
                yield Fault(trial, weight.name, int(element), bit, effect)


def list_text(faults: Iterable[Fault], trials: int) -> str:
    lines = [f"# sentinelnn-faults 1 trials={trials}", HEAD]
    return "\n".join([*lines, *(",".join(map(str, fault)) for fault in faults)]) + "\n"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(text)


def _arguments() -> argparse.ArgumentParser:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    pe = kinds.add_parser("pe", help="words of each processing element of a systolic array")
    pe.add_argument("result", type=Path, help="result file (HDF5) of faults in weights")
    pe.add_argument("--rows", type=_positive, required=True, metavar="R")
    pe.add_argument("--cols", type=_positive, required=True, metavar="C")
    pe.add_argument("--dataflow", choices=["ws"], default="ws", help="ws: weight-stationary")
    pe.add_argument("--model", default="unprotected", help="network of the result, by its name")
    pe.add_argument("--layers", nargs="+", metavar="NAME", help="only these (otherwise all)")
    pe.add_argument("--bit", type=int, default=30, help="of the stored word (30)")
    pe.add_argument("--effect", default="stuck-at-1", help="flip, stuck-at-0, stuck-at-1")
    pe.add_argument("-o", "--output", type=Path, default=Path("pe.csv"))
    return parser


def _chosen(weights: list[Weight], options: argparse.Namespace) -> list[Weight]:
    wanted = {f"{layer}.weight" for layer in options.layers or ()}
    if not weights:
        raise ResultError(f"{options.result}: its faults could not hit weights; take another one")
    unknown = wanted - {weight.name for weight in weights}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ResultError(f"{options.result}: its faults could not hit {names}")
    chosen = [weight for weight in weights if not wanted or weight.name in wanted]
    for weight in chosen:
        if not 0 <= options.bit < weight.bits:
            bits = f"the words of {weight.name} have the bits 0 to {weight.bits - 1}"
            raise ResultError(f"{options.result}: --bit {options.bit}: {bits}")
    return chosen


def main(argv: list[str]) -> int:
    options = _arguments().parse_args(argv)
    check_output(options.output, "csv")
    with Result(options.result) as result:
        if options.model not in set(result.models["name"]):
            raise ResultError(f"{options.result}: has no network {options.model}")
        weights = _chosen(weights_of(result, options.model), options)
    array = options.rows, options.cols
    faults = processing_elements(weights, *array, options.bit, options.effect)
    text = list_text(faults, options.rows * options.cols)
    write_output(options.output, "csv", text.encode())
    print(printable(str(options.output)))
    return 0


if __name__ == "__main__":
    sys.exit(run(main, sys.argv))
