"""Weights of trials: what a row counts for in a mean over the population of its point.

A point is sampled simply (every row 1/n), by strata, in one round or several (a row of stratum h
counts W_h/n_h), or sequentially (the stratum drawn with probability q: (W_h/q)/n). A pilot only
planned the others and counts 0, as do rows beyond those that a sequential plan used.

`weight` is for means of what a trial has by its draw, such as flips per trial. The program's
estimates need more than weights (estimation.py): Result.mean gives them. `group_weight` is for
means over some of the rows, chosen by what happened in them, sum w x/sum w: there strata count by
their shares W_h/n_h under every plan, so that the rows of one stratum count alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from hdf5 import ResultError

SIMPLE, STRATIFIED, SEQUENTIAL = "simple", "stratified", "sequential"
ALLOCATED = "allocated"  # strata too, in rounds until an interval is narrow enough
# By parts of the memory, with estimates of each.
PARTS = ("layer", "class", "bit")
DIVIDED = tuple(f"per-{part}{how}" for part in PARTS for how in ("", ":allocated"))
SAMPLINGS = (SIMPLE, STRATIFIED, SEQUENTIAL, ALLOCATED, *DIVIDED)
BY_STRATA = (STRATIFIED, ALLOCATED, *DIVIDED)
MAIN, PILOT = 0, 1  # TrialRow::stage


def weights_of(
    path: Path,
    trials: pd.DataFrame,
    plans: pd.DataFrame,
    strata: pd.DataFrame,
    shares: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """`weight` and `group_weight` of every row. Weights of a point and model sum to 1 (`weight` of
    a sequential plan: in expectation), or, while strata are still without trials, to the share of
    the population sampled. `shares`: strata of other shares in networks after the first."""
    sampling = plans["sampling"].reindex(trials["point"]).to_numpy()
    used = _used(trials, plans, sampling)
    rows = trials[used]
    share = shares_of(path, rows, strata, shares)
    kind = sampling[used]
    group = rows.groupby(["point", "model"])["id"].transform("size").to_numpy()
    parts = rows.groupby(["point", "model", "stratum"])["id"].transform("size").to_numpy()
    drawn = share / (rows["probability"].to_numpy() * group)
    weights = pd.DataFrame(0.0, index=trials.index, columns=["weight", "group_weight"])
    by_strata = np.where(kind == SIMPLE, 1 / group, share / parts)
    weights.loc[used, "group_weight"] = by_strata
    weights.loc[used, "weight"] = np.where(kind == SEQUENTIAL, drawn, by_strata)
    return weights


def known_share(strata: pd.DataFrame, point: int) -> float:
    """Share of a point's population that needs no trials, as its network is read as without faults:
    the stratum whose cost is 0."""
    known = (strata["point"] == point) & (strata["cost"] == 0)
    return float(strata["weight"][known].sum())


def _used(trials: pd.DataFrame, plans: pd.DataFrame, sampling: np.ndarray) -> np.ndarray:
    """Rows of the main sample; of a sequential plan that has looked, the first `used` of them."""
    used = (trials["stage"] == MAIN).to_numpy()
    main = trials[used].sort_values("id", kind="stable")
    place = main.groupby(["point", "model"]).cumcount().reindex(trials.index, fill_value=0)
    limit = plans["used"].reindex(trials["point"]).to_numpy()
    beyond = (sampling == SEQUENTIAL) & (limit > 0) & (place.to_numpy() >= limit)
    return used & ~beyond


def shares_of(
    path: Path, rows: pd.DataFrame, strata: pd.DataFrame, shares: pd.DataFrame | None
) -> np.ndarray:
    """W_h of every row in its network's population, 1 where the point has no strata."""
    known = strata.set_index(["point", "stratum"])["weight"]
    key = pd.MultiIndex.from_frame(rows[["point", "stratum"]])
    share = known.reindex(key).to_numpy(dtype=float)
    if shares is not None and len(shares):
        place = ["point", "model", "stratum"]
        own = shares.set_index(place)["weight"].reindex(pd.MultiIndex.from_frame(rows[place]))
        share = np.where(own.isna(), share, own)
    share[(rows["stratum"] < 0).to_numpy()] = 1
    for place in np.flatnonzero(np.isnan(share)):
        point, stratum = key[place]
        raise ResultError(
            f"{path}: /trials names stratum {stratum} of point {point}: not in /design/strata"
        )
    return share
