"""Where a fault of a result lies in the checkpoint (.pth) of its network.

A result numbers the words of a convolution with duplicated channels as [originals, copies]. So does
a checkpoint with `--selection own`. With `--selection group` the d duplicated channels are the
first, and the file has their copies right behind them, as the Python tool does: [d originals, d
copies, the other originals].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

GROUP = "group"  # a layer's `layout` in the structure of the model


def element_in_file(
    element: np.ndarray, originals: int, elements: int, layout: str = GROUP
) -> np.ndarray:
    """Elements of a tensor as /faults numbers them -> places in the flattened tensor of the .pth.

    `originals`, `elements`: of the tensor's row in /models/<m>/tensors; `layout`: of its layer in
    the model's structure. The words of other layouts lie where they are.
    """
    element = np.asarray(element, np.int64)
    if layout != GROUP:
        return element
    part = elements - originals  # words of the copies, and of the channels that they copy
    behind = np.where(element < part, element, element + part)
    return np.where(element >= originals, element - originals + part, behind)


def elements_in_file(
    structure: dict[str, Any], tensors: pd.DataFrame, tensor: np.ndarray, element: np.ndarray
) -> np.ndarray:
    """The same of many faults: `tensor` is each one's row in `tensors`, `structure` the model's."""
    places = np.asarray(element, np.int64).copy()
    for number in np.unique(tensor):
        row = tensors.iloc[number]
        mine, layout = tensor == number, _layout(structure, str(row["name"]).rpartition(".")[0])
        sizes = int(row["originals"]), int(row["elements"])
        places[mine] = element_in_file(places[mine], *sizes, layout)
    return places


def _layout(structure: dict[str, Any], layer: str) -> str:
    """Empty where the structure does not tell one."""
    layers = structure.get("layers")
    record = layers.get(layer) if isinstance(layers, dict) else None
    return str(record.get("layout", "")) if isinstance(record, dict) else ""
