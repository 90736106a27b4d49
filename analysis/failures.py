"""Failures by place: what a fault in one class of tensors, layout, layer or bit does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from hdf5 import ResultError
from intervals import Interval, difference_interval
from results import Result, layer_of
from schema import CLASSES, LISTED
from summaries import (
    failing_group,
    group_share,
    hits_words,
    is_listed,
    is_single,
    main_trials,
    mean_flips,
    point_row,
    trials_of,
)

# Groups smaller than this are not compared.
MIN_GROUP = 10
NAN = float("nan")


class Words(NamedTuple):
    """Stored words whose bits mean the same."""

    layout: str
    check: bool  # check words that the code keeps apart
    bits: int

    @property
    def name(self) -> str:
        return f"check words of {self.layout}" if self.check else self.layout


def words_of(result: Result, model: str) -> list[Words]:
    """The kinds of words of a model that may fail, in the order of its tensors."""
    check = CLASSES.index("check")
    tensors = result.tensors(model)[["layout", "kind", "word_bits"]].drop_duplicates()
    rows = tensors.itertuples(index=False)
    return list(dict.fromkeys(Words(str(r[0]), r[1] == check, int(r[2])) for r in rows))


def widest_word(result: Result) -> int:
    """Bits of the widest stored word of any model."""
    widths = [words.bits for model in result.models["name"] for words in words_of(result, model)]
    return max(widths, default=32)


def chosen_point(result: Result) -> int | None:
    """The point that tells most about single places: single faults where there are any, else the
    one in which a given bit position of the widest word is hit in nearest to half of the trials.
    Only points whose faults are all stored can be chosen."""
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
    touched = 1 - (1 - 1 / widest_word(result)) ** flips
    return int((touched - 0.5).abs().idxmin())


def failures_by(
    result: Result, column: str, point: int, model: int, words: Words | None = None
) -> pd.DataFrame:
    """Outcomes of faults by bit position, layer, class or layout (`column`), one row per value of
    the column; with `words`, faults in those words alone.

    A fault of several bits hits all of them. Single faults: mean failure share of the trials that
    hit it. Several faults a trial: mean failure share of the trials that hit it minus that of the
    trials that do not. Under binomial faults those of other places are alike in both, so the
    difference is the effect of this one; where the number of faults is fixed (exact:K) trials
    without it have at least one fault more elsewhere. Trials of strata count by the strata's shares
    of the population, so that both groups stand for it. Means over a list have no intervals.
    ResultError where faults of the point are left out of the file.
    """
    trials = trials_of(result, point, model)
    if (trials["faults_stored"] == 0).any():
        raise ResultError(f"{result.path}: faults of point {point} are not stored")
    single = is_single(trials)
    rows = []
    for value, hit in _hits(result, column, trials, words):
        interval = _effect(result, trials[hit], trials[~hit], single)
        if is_listed(result, point):
            interval = interval._replace(lower=NAN, upper=NAN, method=LISTED)
        counts = {"with_it": int(hit.sum()), "without": int((~hit).sum())}
        rows.append({column: value} | interval._asdict() | counts)
    return pd.DataFrame(rows, columns=[column, *Interval._fields, "with_it", "without"])


def _hits(
    result: Result, column: str, trials: pd.DataFrame, words: Words | None
) -> list[tuple[object, np.ndarray]]:
    faults = result.faults
    faults = faults[faults["row"].isin(trials.index)]
    if words is not None:
        check = (faults["class"] == "check") == words.check
        faults = faults[check & (faults["layout"] == words.layout)]
    found = []
    for value in _values(result, column, faults, words):
        rows = faults.loc[_is_at(faults, column, value), "row"].unique()
        found.append((value, trials.index.isin(rows)))
    return found


def _is_at(faults: pd.DataFrame, column: str, value: object) -> pd.Series:
    if column != "bit":
        return faults[column] == value
    above = int(str(value)) - faults["bit"].astype(int)
    return (above >= 0) & (above < faults["length"])


def _values(
    result: Result, column: str, faults: pd.DataFrame, words: Words | None
) -> list[object]:
    if column == "bit":
        widest = words.bits if words else faults["word_bits"].max() if len(faults) else 0
        return list(range(int(widest)))
    if column == "class":
        kinds = {int(k) for model in result.models["name"] for k in result.tensors(model)["kind"]}
        return [CLASSES[kind] for kind in sorted(kinds)]
    names: list[object] = []
    for model in result.models["name"]:
        tensors = result.tensors(model)
        own = tensors["layout"] if column == "layout" else layer_of(tensors["name"])
        names += [name for name in own.unique() if name not in names]
    return names


def _effect(result: Result, hit: pd.DataFrame, other: pd.DataFrame, single: bool) -> Interval:
    nothing = Interval(NAN, NAN, NAN, len(hit) + len(other))
    if single:
        return group_share(result, hit) if len(hit) >= 2 else nothing
    if min(len(hit), len(other)) < MIN_GROUP:
        return nothing
    return difference_interval(failing_group(hit), failing_group(other), result.confidence)


def has_bits(result: Result, point: int) -> bool:
    """Whether faults of the point hit some bits of a word, and not all of it."""
    return not hits_words(point_row(result, point))

