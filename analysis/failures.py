"""Failures by bit and by layer: what a flip in one place does."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hdf5 import ResultError
from intervals import Interval, difference_interval
from results import Result, layer_of
from summaries import failing_group, group_share, is_single, main_trials, mean_flips, trials_of

# Groups smaller than this are not compared.
MIN_GROUP = 10


def chosen_point(result: Result) -> int | None:
    """The point that tells most about single places: single flips where there are any, else the
    one in which a given bit position (one of 32) is flipped in nearest to half of the trials. Only
    points whose faults are all stored can be chosen."""
    trials = main_trials(result)
    left_out = trials.loc[trials["faults_stored"] == 0, "point"].unique()
    groups = trials[~trials["point"].isin(left_out)].groupby("point")
    singles = [point for point, rows in groups if is_single(rows)]
    if singles:
        return int(singles[0])
    means = {p: mean_flips(rows) for p, rows in groups}
    flips = pd.Series(means, dtype=float)
    flips = flips[flips > 0]
    if flips.empty:
        return None
    touched = 1 - (1 - 1 / 32) ** flips
    return int((touched - 0.5).abs().idxmin())


def failures_by(result: Result, column: str, point: int, model: int) -> pd.DataFrame:
    """What a flip in a bit position or layer (`column`) does, one row per value of the column.

    Single flips: mean failure share of the trials that hit it. Several flips a trial: mean failure
    share of the trials that hit it minus that of the trials that do not. Under binomial faults
    flips of other places are alike in both, so the difference is the effect of this one; where the
    number of flips is fixed (exact:K) trials without it have at least one flip more elsewhere.
    Trials of strata count by the strata's shares of the population, so that both groups stand for
    it. ResultError where faults of the point are left out of the file.
    """
    trials = trials_of(result, point, model)
    if (trials["faults_stored"] == 0).any():
        raise ResultError(f"{result.path}: faults of point {point} are not stored")
    single = is_single(trials)
    rows = []
    for value, hit in _hits(result, column, trials):
        interval = _effect(result, trials[hit], trials[~hit], single)
        counts = {"with_it": int(hit.sum()), "without": int((~hit).sum())}
        rows.append({column: value} | interval._asdict() | counts)
    return pd.DataFrame(rows, columns=[column, *Interval._fields, "with_it", "without"])


def _hits(result: Result, column: str, trials: pd.DataFrame) -> list[tuple[object, np.ndarray]]:
    faults = result.faults
    faults = faults[faults["row"].isin(trials.index)]
    found = []
    for value in _values(result, column, faults):
        rows = faults.loc[faults[column] == value, "row"].unique()
        found.append((value, trials.index.isin(rows)))
    return found


def _values(result: Result, column: str, faults: pd.DataFrame) -> list[object]:
    if column == "bit":
        return list(range(int(faults["word_bits"].max()) if len(faults) else 0))
    names: list[object] = []
    for model in result.models["name"]:
        layers = layer_of(result.tensors(model)["name"])
        names += [layer for layer in layers if layer not in names]
    return names


def _effect(result: Result, hit: pd.DataFrame, other: pd.DataFrame, single: bool) -> Interval:
    nothing = Interval(float("nan"), float("nan"), float("nan"), len(hit) + len(other))
    if single:
        return group_share(result, hit) if len(hit) >= 2 else nothing
    if min(len(hit), len(other)) < MIN_GROUP:
        return nothing
    return difference_interval(failing_group(hit), failing_group(other), result.confidence)
