"""Scores of channels as a result or a ranking file holds them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hdf5 import ResultError, Store

SAMPLE = ("lower", "upper", "accuracy", "trials")  # known of channel-FI only
COLUMNS = ("method", "layer", "channel", "score", "rank", *SAMPLE)


def scores_of(store: Store) -> pd.DataFrame:
    """One row per method, layer (in the model's order) and channel; rank 0 is the best."""
    frames = [
        _layer(store, method, layer)
        for method in store.members("importance")
        for layer in store.in_order(f"importance/{method}")
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)


def _layer(store: Store, method: str, layer: str) -> pd.DataFrame:
    where = f"importance/{method}/{layer}"
    scores, order = store.numbers(f"{where}/scores", "fui"), store.numbers(f"{where}/order", "ui")
    if not np.array_equal(np.sort(order), np.arange(len(scores))):
        raise ResultError(f"{store.path}: /{where}: order is no order of its scores")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    table = pd.DataFrame({"method": method, "layer": layer, "channel": np.arange(len(scores))})
    table = table.assign(score=scores, rank=rank)
    for name in SAMPLE:
        stored = f"{where}/{name}" in store
        values = store.numbers(f"{where}/{name}", "fui") if stored else np.nan
        if stored and len(values) != len(scores):
            raise ResultError(f"{store.path}: /{where}: {name} has not one row for each channel")
        table[name] = values
    return table
