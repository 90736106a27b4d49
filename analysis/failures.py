"""Failures by place: what a fault in one class of tensors, layout, layer or bit does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from hdf5 import ResultError
from intervals import (
    OVER_IMAGES,
    Group,
    Interval,
    alike,
    difference_interval,
    group_interval,
    images_interval,
    mover,
)
from results import Result, layer_of
from schema import CLASSES, LISTED, NOT_TOLD, OUTCOMES
from summaries import (
    failing_group,
    group_share,
    has_own_faults,
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


class Units(NamedTuple):
    """What fails or not, and the faults that it sees: trials, or the images of trials where each
    image has faults of its own."""

    table: pd.DataFrame  # failure, group_weight; those of images: the ones with faults
    faults: pd.DataFrame  # `unit` is an index of the table
    spared: pd.Series  # images without a fault, by trial; none of them fails
    weights: pd.Series  # what an image of each trial counts for


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
    singles = [point for point, _ in groups if has_one_fault(result, int(point))]
    if singles:
        return int(singles[0])
    means = {p: mean_flips(rows) / _units_of_trial(result, int(p), rows) for p, rows in groups}
    flips = pd.Series(means, dtype=float)
    flips = flips[flips > 0]
    if flips.empty:
        return None
    touched = 1 - (1 - 1 / widest_word(result)) ** flips
    return int((touched - 0.5).abs().idxmin())


def _units_of_trial(result: Result, point: int, trials: pd.DataFrame) -> float:
    return float(trials["images"].mean()) if has_own_faults(result, point) else 1.0


def failures_by(
    result: Result, column: str, point: int, model: int, words: Words | None = None
) -> pd.DataFrame:
    """Outcomes of faults by bit position, layer, class or layout (`column`), one row per value of
    the column; with `words`, faults in those words alone.

    A fault of several bits hits all of them. Single faults: mean failure share of the trials that
    hit it. Several faults a trial: mean failure share of the trials that hit it minus that of the
    trials that do not. Where each image has faults of its own, images stand for trials. Under
    binomial faults those of other places are alike in both, so the difference is the effect of this
    one; where the number of faults is fixed (exact:K) trials without it have at least one fault
    more elsewhere. Trials of strata count by the strata's shares of the population, so that both
    groups stand for it. Means over a list have no intervals.
    ResultError where faults of the point are left out of the file, or outcomes of their images.
    """
    trials = trials_of(result, point, model)
    if (trials["faults_stored"] == 0).any():
        raise ResultError(f"{result.path}: faults of point {point} are not stored")
    units = _units(result, point, trials)
    effect = _share if has_one_fault(result, point, model) else _difference
    rows = []
    for value, hit in _hits(result, column, units, words):
        interval = effect(result, point, units, hit)
        if is_listed(result, point):
            interval = interval._replace(lower=NAN, upper=NAN, method=LISTED)
        counts = {"with_it": int(hit.sum()), "without": int((~hit).sum() + units.spared.sum())}
        rows.append({column: value} | interval._asdict() | counts)
    return pd.DataFrame(rows, columns=[column, *Interval._fields, "with_it", "without"])


def has_one_fault(result: Result, point: int, model: int | None = None) -> bool:
    """Whether every trial (of a model) has exactly one fault, or every image one of its own."""
    trials = trials_of(result, point, model)
    if has_own_faults(result, point):
        one = str(result.points["fault_model"][point]) == "exact:1"
        return one and bool((trials["n_faults"] == trials["images"]).all())
    return is_single(trials)


def tells_places(result: Result, point: int) -> bool:
    """Whether the file tells which faults made which images fail; earlier versions did not where
    each image of a trial has faults of its own."""
    if not has_own_faults(result, point):
        return True
    faults = result.faults[result.faults["point"] == point]
    mixed = result.trials["images"].to_numpy()[faults["row"]] > 1
    return not bool((mixed & (faults["outcome"] == NOT_TOLD)).any())


def _units(result: Result, point: int, trials: pd.DataFrame) -> Units:
    faults = result.faults
    faults = faults[faults["row"].isin(trials.index)]
    if not has_own_faults(result, point):
        none = pd.Series(0, index=trials.index)
        return Units(trials, faults.assign(unit=faults["row"]), none, trials["group_weight"])
    if not tells_places(result, point):
        raise ResultError(f"{result.path}: the outcomes of images of point {point} are not stored")
    most = int(result.models["images"].max())
    faults = faults.assign(unit=faults["row"].astype(np.int64) * most + faults["image"])
    hit = faults.drop_duplicates("unit").set_index("unit")
    own = trials.loc[hit["row"]]
    failing = hit["outcome"].isin([OUTCOMES.index(name) for name in ("sdc_critical", "due")])
    of_trial = hit["outcome"] == NOT_TOLD  # which has this image alone
    table = pd.DataFrame(
        {
            "failure": np.where(of_trial, own["failure"], failing.astype(float)),
            "group_weight": own["group_weight"].to_numpy(),
        },
        index=hit.index,
    )
    spared = trials["images"] - hit.groupby("row").size().reindex(trials.index, fill_value=0)
    return Units(table, faults, spared, trials["group_weight"])


def _hits(
    result: Result, column: str, units: Units, words: Words | None
) -> list[tuple[object, np.ndarray]]:
    faults = units.faults
    if words is not None:
        check = (faults["class"] == "check") == words.check
        faults = faults[check & (faults["layout"] == words.layout)]
    found = []
    for value in _values(result, column, faults, words):
        hit = faults.loc[_is_at(faults, column, value), "unit"].unique()
        found.append((value, units.table.index.isin(hit)))
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
        layers = layer_of(tensors["name"], tensors["kind"])
        own = tensors["layout"] if column == "layout" else layers
        names += [name for name in own.unique() if name not in names]
    return names


def _share(result: Result, point: int, units: Units, hit: np.ndarray) -> Interval:
    """Of the units with a fault at a place, when each has one fault."""
    rows = units.table[hit]
    if len(rows) < 2:
        return Interval(NAN, NAN, NAN, len(units.table))
    if not has_own_faults(result, point):
        return group_share(result, rows)
    weights = rows["group_weight"].to_numpy()
    if not alike(weights):
        return group_interval(rows["failure"].to_numpy(), weights, result.confidence, True)
    return images_interval(int(rows["failure"].sum()), len(rows), result.confidence)


def _difference(result: Result, point: int, units: Units, hit: np.ndarray) -> Interval:
    """Units with a fault at a place minus the others."""
    mine, other = units.table[hit], units.table[~hit]
    without = int(len(other) + units.spared.sum())
    if min(len(mine), without) < MIN_GROUP:
        return Interval(NAN, NAN, NAN, len(mine) + without)
    if not has_own_faults(result, point):
        return difference_interval(failing_group(mine), failing_group(other), result.confidence)
    if alike(units.weights.to_numpy()):
        counts = (int(mine["failure"].sum()), len(mine)), (int(other["failure"].sum()), without)
        parts = (images_interval(*count, result.confidence) for count in counts)
        return mover(*parts, f"MOVER of {OVER_IMAGES}")
    spared = np.repeat(units.weights, units.spared).to_numpy()
    failing = np.concatenate([other["failure"], np.zeros(len(spared))])
    weights = np.concatenate([other["group_weight"], spared])
    hit_ones = Group(mine["failure"].to_numpy(), mine["group_weight"].to_numpy())
    return difference_interval(hit_ones, Group(failing, weights), result.confidence)


def has_bits(result: Result, point: int) -> bool:
    """Whether faults of the point hit some bits of a word, and not all of it."""
    return not hits_words(point_row(result, point))

