"""Importance of channels: scores of results and ranking files, and how far the methods agree."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from hdf5 import ResultError, Store
from results import Result
from schema import RANKING, RESULT
from scipy import stats
from scores import COLUMNS, scores_of
from summaries import estimate

CHANNEL_FI = "channel-FI"
# The yardstick of the other methods, best first.
REFERENCES = (CHANNEL_FI, "deepvigor")
CHANNEL_POINT = "channel:"


def holds_channels(result: Result) -> bool:
    """Whether the points of a result are channels: the trials of channel-FI."""
    models = result.points["fault_model"]
    return len(models) > 0 and bool(models.str.startswith(CHANNEL_POINT).all())


def importance_of(result: Result) -> pd.DataFrame:
    """Scores of every method in the file, those that trials of channel-FI give included."""
    table = result.importance
    if not holds_channels(result) or CHANNEL_FI in set(table["method"]):
        return table
    return pd.concat([table, _channel_scores(result)], ignore_index=True)


def _channel_scores(result: Result) -> pd.DataFrame:
    """Share of failing images under single flips in the channel, estimated from its trials so far;
    not a number for planned channels without trials."""
    started = set(result.trials["point"])
    rows = []
    for point in result.points[result.points["trials"] > 0].itertuples():
        layer, channel = point.fault_model.removeprefix(CHANNEL_POINT).rsplit(":", 1)
        row = {"method": CHANNEL_FI, "layer": layer, "channel": int(channel)}
        score = _channel_score(result, point.id) if point.id in started else {"trials": 0}
        rows.append(row | score)
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"score": float})
    best_first = table.groupby("layer", sort=False)["score"]
    return table.assign(rank=best_first.rank(method="first", ascending=False) - 1)


def _channel_score(result: Result, point: int) -> dict[str, float]:
    failing = estimate(result, point, 0, "failing")
    accuracy = estimate(result, point, 0, "accuracy")
    score = {"score": failing.estimate, "lower": failing.lower, "upper": failing.upper}
    return score | {"accuracy": accuracy.estimate, "trials": failing.trials}


def add_rankings(known: pd.DataFrame, paths: Iterable[Path]) -> pd.DataFrame:
    """The scores known and those of further files: rankings, or trials of channel-FI.

    A method that is known with the same scores is not listed again; one with others gets the name
    of its file.
    """
    for path in paths:
        for method, table in read_ranking(path).groupby("method", sort=False):
            mine = known[known["method"] == method]
            if _same(mine, table):
                continue
            name = method if mine.empty else f"{method} ({path.stem})"
            known = pd.concat([known, table.assign(method=name)], ignore_index=True)
    return known


def read_ranking(path: Path) -> pd.DataFrame:
    """Scores in a ranking file, or those that a result, such as trials of channel-FI, holds."""
    with Store(path, RANKING, RESULT) as store:
        table = scores_of(store)
        schema = store.schema
    if schema == RESULT:
        with Result(path) as result:
            table = importance_of(result)
    if table.empty:
        raise ResultError(f"{path}: holds no scores of channels")
    return table


def _same(known: pd.DataFrame, table: pd.DataFrame) -> bool:
    """Equal but for the rounding of means."""
    places = [part[["layer", "channel"]].to_numpy() for part in (known, table)]
    if len(known) != len(table) or not np.array_equal(*places):
        return False
    scores = [part["score"].to_numpy(float) for part in (known, table)]
    return np.allclose(*scores, rtol=1e-12, atol=0, equal_nan=True)


# ---- agreement of the methods ------------------------------------------------------------------


def layers_in_order(table: pd.DataFrame) -> list[str]:
    """Every layer of any method, as the method with the most layers orders them."""
    groups = table.groupby("method", sort=False)["layer"].unique()
    names = sorted((list(layers) for layers in groups), key=len, reverse=True)
    return list(dict.fromkeys(layer for layers in names for layer in layers))


def reference_of(methods: Iterable[str]) -> str:
    """What the others are compared with: channel-FI where there is one, else deepvigor, else the
    first."""
    methods = list(methods)
    for wanted in REFERENCES:
        if wanted in methods:
            return wanted
    return methods[0]


def rank_correlation(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Spearman's rank correlation with the reference; one row per layer of the reference, one
    column per other method. Not a number where a layer is missing, of one score, or of another
    width (a pruned network's)."""
    known = table[table["method"] == reference]
    layers = [layer for layer in layers_in_order(table) if layer in set(known["layer"])]
    methods = [name for name in table["method"].unique() if name != reference]
    scores = {
        key: part["score"].to_numpy(float) for key, part in table.groupby(["method", "layer"])
    }
    rows = [
        [_spearman(scores[reference, layer], scores.get((method, layer))) for method in methods]
        for layer in layers
    ]
    return pd.DataFrame(rows, index=pd.Index(layers, name="layer"), columns=methods, dtype=float)


def _spearman(reference: np.ndarray, other: np.ndarray | None) -> float:
    if other is None or len(other) != len(reference):
        return float("nan")
    known = np.isfinite(reference) & np.isfinite(other)
    reference, other = reference[known], other[known]
    if len(other) < 2 or np.ptp(reference) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(stats.spearmanr(reference, other).statistic)


# ---- what reports and figures are made of ------------------------------------------------------


class Sources(NamedTuple):
    """A result, and the importance of channels of it and of the ranking files given with it."""

    result: Result
    importance: pd.DataFrame


def sources_of(result: Result, rankings: Iterable[Path] = ()) -> Sources:
    return Sources(result, add_rankings(importance_of(result), rankings))
