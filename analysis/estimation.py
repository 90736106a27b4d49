"""What the program estimates, from the rows of /trials (src/campaign/estimates.cpp).

Accuracy is estimated by what faults take away: a trial's accuracy minus that of the fault-free
network on the same images, averaged, plus the fault-free accuracy on all images. So the choice of
an image block, or of a stratum by another probability than its share, adds no noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from hdf5 import ResultError
from schema import OUTCOMES
from weights import BY_STRATA, DIVIDED, SEQUENTIAL, known_share

if TYPE_CHECKING:
    from results import Result

COUNTS = {"accuracy": ("correct",), "accuracy_argmax": ("correct_argmax",)}
COUNTS |= {"failing": ("sdc_critical", "due")} | {name: (name,) for name in OUTCOMES}
OF_LABELS = ("accuracy", "accuracy_argmax")  # the difference to the fault-free network is averaged
LARGEST_WEIGHT = 5.0  # of a trial of a sequential plan: a stratum is drawn with W/5 at least
LARGEST_BET = 0.5


class Observations(NamedTuple):
    """What is averaged: one number of [low, high] per row; the mean plus `shift` is estimated."""

    rows: pd.DataFrame  # of result.trials, in the order of their ids
    values: np.ndarray
    low: float
    high: float
    shift: float

    def only(self, kept: np.ndarray) -> Observations:
        return self._replace(rows=self.rows[kept], values=self.values[kept])


def observations(
    result: Result, point: int, model: int, quantity: str, against: int | None = None
) -> Observations:
    """Of the trials that are in the estimates; of a quantity of `model`, or with `against` of its
    difference to that model's, where both have the trial."""
    mine = _of_model(result, point, model, quantity)
    if against is None:
        return mine
    base = _of_model(result, point, against, quantity)
    own, other = mine.rows["id"].to_numpy(), base.rows["id"].to_numpy()
    _, here, there = np.intersect1d(own, other, return_indices=True)
    free = np.zeros(1)
    if quantity in OF_LABELS:
        free = _free(result, model) - _free(result, against)
    low, high = -1 - free.max(), 1 - free.min()
    values, shift = mine.values[here] - base.values[there], mine.shift - base.shift
    return Observations(mine.rows.iloc[here], values, low, high, shift)


def _of_model(result: Result, point: int, model: int, quantity: str) -> Observations:
    if quantity not in COUNTS:
        raise ResultError(f"no quantity '{quantity}': there are {', '.join(COUNTS)}")
    trials = result.trials
    mine = (trials["point"] == point) & (trials["model"] == model) & (trials["weight"] > 0)
    rows = trials[mine & (trials["images"] > 0)].sort_values("id", kind="stable")
    values = sum(rows[name] for name in COUNTS[quantity]) / rows["images"]
    values = values.to_numpy(float)
    if quantity not in OF_LABELS:
        return Observations(rows, values, 0.0, 1.0, 0.0)
    free, block = _free(result, model), np.maximum(rows["block"].to_numpy(), 0)
    if len(block) and block.max() >= len(free):
        raise ResultError(
            f"{result.path}: /trials names block {block.max()}: not in /design/blocks"
        )
    values = values - free[block]
    return Observations(rows, values, -free.max(), 1 - free.min(), _whole(result, model))


def _whole(result: Result, model: int) -> float:
    """Fault-free accuracy; 0 where it is not stored, so that accuracies themselves are averaged."""
    images = result.models["images"][model]
    return float(result.models["correct"][model] / images) if images > 0 else 0.0


def _free(result: Result, model: int) -> np.ndarray:
    """Fault-free accuracy by block of images, of all of them where there are no blocks."""
    if not len(result.blocks):
        return np.array([_whole(result, model)])
    golden = result.golden(str(result.models["name"][model]))
    if len(golden) != len(result.blocks):
        raise ResultError(f"{result.path}: /design/blocks and /golden are of different images")
    right = (golden["label"] == golden["prediction"]).astype(float)
    return right.groupby(result.blocks).mean().to_numpy()


def estimate(
    result: Result, point: int, model: int, quantity: str, against: int | None = None
) -> float:
    """The program's estimate; not a number while a stratum is without trials."""
    value = _estimate(result, point, model, quantity, against)
    if quantity not in OF_LABELS:
        return value
    return float(np.clip(value, 0 if against is None else -1, 1))


def _estimate(
    result: Result, point: int, model: int, quantity: str, against: int | None = None
) -> float:
    if quantity in COUNTS and quantity not in OF_LABELS and _has_centres(result, point):
        share = joint_shares(result, point, model)[quantity]
        return share if against is None else share - joint_shares(result, point, against)[quantity]
    sampling = result.plans["sampling"][point]
    if against is not None and sampling in DIVIDED:  # each network has shares of its own
        own, base = (estimate(result, point, m, quantity) for m in (model, against))
        return own - base
    found = observations(result, point, model, quantity, against)
    if not len(found.values):
        return float("nan")
    known = known_share(result.strata, point)
    is_certain = quantity == "masked" and against is None  # of the known share: else 0
    shift = found.shift + known * is_certain
    if sampling == SEQUENTIAL:
        return shift + (1 - known) * _sequential(result, point, found, quantity, against)
    weight = found.rows["weight"]
    covered = sampling not in BY_STRATA or weight.sum() > 1 - known - 1e-6
    return shift + float(found.values @ weight) if covered else float("nan")


def group_mean(found: Observations) -> float:
    """Of rows chosen by what happened in them: strata count by their shares of the population."""
    weights = found.rows["group_weight"].to_numpy()
    if not len(weights):
        return float("nan")
    return found.shift + float(np.average(found.values, weights=weights))


# ---- sequential plans ----------------------------------------------------------------------------


def joint_shares(result: Result, point: int, model: int) -> dict[str, float]:
    """Shares of the outcomes in a plan that stores centres c: means over the trials of
    c + (W/q)(y - c), which sum to 1 in every trial."""
    rows = observations(result, point, model, "masked").rows
    if rows.empty:
        return dict.fromkeys(COUNTS, float("nan"))
    centres = result.centres
    mine = centres[(centres["point"] == point) & (centres["model"] == model)].set_index("round")
    centre = mine[list(OUTCOMES)].reindex(_rounds(result, point, rows["id"])).to_numpy()
    if np.isnan(centre).any():
        raise ResultError(f"{result.path}: /design/centres lacks a round of point {point}")
    y = rows[list(OUTCOMES)].to_numpy() / rows[["images"]].to_numpy()
    means = (centre + _ratio(result, point, rows)[:, None] * (y - centre)).mean(axis=0)
    known = known_share(result.strata, point)
    means = known * (np.array(OUTCOMES) == "masked") + (1 - known) * means
    if means.min() < 0:
        means = np.maximum(means, 0) / np.maximum(means, 0).sum()
    shares = dict(zip(OUTCOMES, means.tolist()))
    return shares | {"failing": shares["sdc_critical"] + shares["due"]}


def _rounds(result: Result, point: int, ids: pd.Series) -> np.ndarray:
    rounds = result.rounds[result.rounds["point"] == point].drop_duplicates("round")
    rounds = rounds.sort_values("first")
    place = np.searchsorted(rounds["first"].to_numpy(), ids.to_numpy(), side="right") - 1
    return rounds["round"].to_numpy()[np.maximum(place, 0)]


def _ratio(result: Result, point: int, rows: pd.DataFrame) -> np.ndarray:
    """W_h/q of every trial, W_h of what is not known without trials."""
    sampled = 1 - known_share(result.strata, point)
    return (rows["weight"] * len(rows)).to_numpy() / sampled


def _has_centres(result: Result, point: int) -> bool:
    return bool((result.centres["point"] == point).any())


def _sequential(
    result: Result, point: int, found: Observations, quantity: str, against: int | None
) -> float:
    """The mean of the observations, each W/q times its value."""
    drawn = found.values * _ratio(result, point, found.rows)
    if _has_centres(result, point):
        return float(np.clip(drawn.mean(), found.low, found.high))
    low, high = _first_range(result, found, quantity, against)
    if result.plans["guaranteed"][point]:
        return _bernstein(drawn, low, high, result.confidence)
    return float(np.clip(drawn.mean(), low, high))


def _first_range(
    result: Result, found: Observations, quantity: str, against: int | None
) -> tuple[float, float]:
    """What version 1 of sequential plans took as the range of the observations."""
    if against is not None:
        return -2.0, 2.0
    blocks = quantity in OF_LABELS and len(result.blocks) > 0
    return (-1.0, 1.0) if blocks else (found.low, found.high)


def _bernstein(drawn: np.ndarray, low: float, high: float, confidence: float) -> float:
    """Version 1 of a guaranteed plan: weighted by the bets of the empirical-Bernstein sequence."""
    low, high = LARGEST_WEIGHT * low, LARGEST_WEIGHT * high
    y = np.clip((drawn - low) / (high - low), 0, 1)
    return low + (high - low) * float(np.average(y, weights=_bets(y, confidence)))


def _bets(y: np.ndarray, confidence: float) -> np.ndarray:
    """Waudby-Smith & Ramdas 2024, predictable plug-in: of the values before each one."""
    i = np.arange(1, len(y) + 1)
    means = (0.5 + np.cumsum(y)) / (i + 1)
    spreads = (0.25 + np.cumsum((y - means) ** 2)) / (i + 1)
    before = np.concatenate([[0.25], spreads[:-1]])
    bets = np.sqrt(2 * np.log(2 / (1 - confidence)) / (before * i * np.log1p(i)))
    return np.minimum(LARGEST_BET, bets)
