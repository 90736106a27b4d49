"""How far the methods that rank channels agree: Spearman's rank correlation with an interval.

A score that is measured by few flips has an error, and a correlation with it is as uncertain. Where
the flips are known, they are drawn again (bootstrap, Efron & Tibshirani 1993) within their strata,
else the channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import rankdata

CHANNEL_FI = "channel-FI"
# The yardstick of the other methods, best first.
REFERENCES = (CHANNEL_FI, "deepvigor")
REPLICATES, SEED = 1000, 20260102
FEWEST_CHANNELS = 4  # fewer say nothing about a correlation
MEAN = "mean"  # over layers


class Flips(NamedTuple):
    """Trials of a channel by stratum: share of failing images of each, weight of the stratum."""

    shares: list[np.ndarray]
    weights: list[float]


def flips_by_channel(
    trials: pd.DataFrame, places: dict[int, tuple[str, int]]
) -> dict[tuple[str, int], Flips]:
    """Of rows of /trials of one model; `places`: layer and channel of every point."""
    found = {}
    for point, rows in trials.groupby("point"):
        strata = [part for _, part in rows.groupby("stratum")]
        found[places[int(point)]] = Flips(
            [part["failure"].to_numpy() for part in strata],
            [float(part["group_weight"].sum()) for part in strata],
        )
    return found


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
    found = agreement(table, reference, {}, 0.95, replicates=0)
    return found.pivot(index="layer", columns="method", values="estimate").reindex(
        index=_layers_of(table, reference), columns=_others(table, reference)
    )


def agreement(
    table: pd.DataFrame,
    reference: str,
    flips: dict[tuple[str, int], Flips],
    confidence: float,
    replicates: int = REPLICATES,
) -> pd.DataFrame:
    """One row per layer of the reference and other method, and per method for the mean over layers:
    estimate, lower, upper, `over` (flips or channels: what was drawn again), `noise` (whether the
    errors of the reference's scores exceed their spread, so that the number says little)."""
    random = np.random.default_rng(SEED)
    scores = {
        key: part["score"].to_numpy(float) for key, part in table.groupby(["method", "layer"])
    }
    layers = _layers_of(table, reference)
    drawn = {
        layer: _drawn_scores(flips, layer, len(scores[reference, layer]), replicates, random)
        for layer in layers
    }
    noise = {layer: _is_noise(table, reference, layer, confidence) for layer in layers}
    rows = []
    for method in _others(table, reference):
        draws = []
        for layer in layers:
            mine, other = scores[reference, layer], scores.get((method, layer))
            estimate = float(_spearman(mine[None], other)[0])
            again = _again(mine, other, drawn[layer], replicates, random)
            draws.append((estimate, again))
            place = {"layer": layer, "method": method, "noise": noise[layer]}
            place["over"] = "channels" if drawn[layer] is None else "flips"
            rows.append(place | _estimate(estimate, again, confidence))
        mostly = bool(layers) and 2 * sum(noise.values()) > len(layers)
        rows.append({"layer": MEAN, "method": method, "noise": mostly, "over": rows[-1]["over"]})
        rows[-1] |= _mean(draws, confidence)
    columns = ["layer", "method", "estimate", "lower", "upper", "over", "noise"]
    return pd.DataFrame(rows, columns=columns)


def _layers_of(table: pd.DataFrame, reference: str) -> list[str]:
    known = set(table.loc[table["method"] == reference, "layer"])
    return [layer for layer in layers_in_order(table) if layer in known]


def _others(table: pd.DataFrame, reference: str) -> list[str]:
    return [name for name in table["method"].unique() if name != reference]


def _mean(draws: list[tuple[float, np.ndarray]], confidence: float) -> dict[str, float]:
    """Over the layers that have a correlation."""
    known = [(estimate, again) for estimate, again in draws if np.isfinite(estimate)]
    if not known:
        return _estimate(float("nan"), np.zeros(0), confidence)
    estimate, again = (np.mean([one[i] for one in known], axis=0) for i in (0, 1))
    return _estimate(float(estimate), again, confidence)


def _estimate(estimate: float, again: np.ndarray, confidence: float) -> dict[str, float]:
    """+- the distance to the farther quantile of the draws; no bounds where they say nothing.

    Errors of the scores pull a correlation towards 0, and those of a draw once more, so that the
    truth lies as far on the other side. Simulated coverage 0.88 to 0.96 where a layer is not noise.
    """
    again = again[np.isfinite(again)]
    if not np.isfinite(estimate) or not len(again):
        return {"estimate": estimate, "lower": float("nan"), "upper": float("nan")}
    ends = np.quantile(again, [(1 - confidence) / 2, (1 + confidence) / 2])
    half = float(np.abs(ends - estimate).max())
    bounds = {"lower": max(-1.0, estimate - half), "upper": min(1.0, estimate + half)}
    return {"estimate": estimate} | bounds


def _drawn_scores(
    flips: dict[tuple[str, int], Flips],
    layer: str,
    count: int,
    replicates: int,
    random: np.random.Generator,
) -> np.ndarray | None:
    """Scores [replicates, channels] of flips drawn again; None where flips are not known."""
    channels = [flips.get((layer, channel)) for channel in range(count)]
    if not any(channels):
        return None
    nothing = np.full(replicates, np.nan)
    columns = [nothing if one is None else _drawn(one, replicates, random) for one in channels]
    return np.array(columns).T


def _drawn(flips: Flips, replicates: int, random: np.random.Generator) -> np.ndarray:
    total = np.zeros(replicates)
    for shares, weight in zip(flips.shares, flips.weights):
        values, counts = np.unique(shares, return_counts=True)
        drawn = random.multinomial(len(shares), counts / len(shares), size=replicates)
        total += weight * (drawn @ values) / len(shares)
    return total


def _again(
    mine: np.ndarray,
    other: np.ndarray | None,
    drawn: np.ndarray | None,
    replicates: int,
    random: np.random.Generator,
) -> np.ndarray:
    """The correlation in every draw."""
    if other is None or len(other) != len(mine) or not replicates:
        return np.full(replicates, np.nan)
    if drawn is not None:
        return _spearman(drawn, other)
    if len(mine) < FEWEST_CHANNELS:
        return np.full(replicates, np.nan)
    places = random.integers(0, len(mine), (replicates, len(mine)))
    return _spearman(mine[places], other[places])


def _spearman(mine: np.ndarray, other: np.ndarray | None) -> np.ndarray:
    """Of every row [rows, channels] with the same of `other`, or with one row for all."""
    rows = len(mine)
    if other is None or other.shape[-1] != mine.shape[-1]:
        return np.full(rows, np.nan)
    other = np.broadcast_to(other, mine.shape)
    known = np.isfinite(mine[0]) & np.isfinite(other[0])
    mine, other = mine[:, known], other[:, known]
    if mine.shape[1] < 2:
        return np.full(rows, np.nan)
    a, b = (_centred(rankdata(part, axis=1)) for part in (mine, other))
    length = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), length, where=length > 0, out=np.full(rows, np.nan))


def _centred(ranks: np.ndarray) -> np.ndarray:
    return ranks - ranks.mean(axis=1, keepdims=True)


def _is_noise(table: pd.DataFrame, reference: str, layer: str, confidence: float) -> bool:
    """Whether the scores' errors, from their intervals, exceed the spread of what they measure:
    whether they make up more than half of the variance of the scores."""
    mine = table[(table["method"] == reference) & (table["layer"] == layer)]
    mine = mine.dropna(subset=["score", "lower", "upper"])
    if len(mine) < 2:
        return False
    half = (mine["upper"] - mine["lower"]).to_numpy(float) / 2
    errors = half / ndtri((1 + confidence) / 2)
    return bool(2 * np.mean(errors**2) > np.var(mine["score"].to_numpy(float), ddof=1))
