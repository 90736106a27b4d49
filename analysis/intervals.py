"""Intervals for means over trials.

The unit is the trial: all images of a trial share its faults, so an interval over images would be
far too narrow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit


class Interval(NamedTuple):
    """An estimate, its bounds (not a number where there are none), the trials used, the method."""

    estimate: float
    lower: float
    upper: float
    trials: int
    method: str = ""


def t_quantile(df: float, confidence: float) -> float:
    """t such that P(|T_df| <= t) = confidence."""
    return float(stdtrit(df, (1 + confidence) / 2))


def t_interval(
    values: np.ndarray, confidence: float, low: float = 0.0, high: float = 1.0
) -> Interval:
    """Mean over trials of numbers in [low, high], mean +- t s/sqrt(n); all of it for n < 2."""
    return weighted_interval(values, np.ones(len(values)), confidence, low, high)


def weighted_interval(
    values: np.ndarray,
    weights: np.ndarray,
    confidence: float,
    low: float = 0.0,
    high: float = 1.0,
) -> Interval:
    """Weighted mean sum w x/sum w over trials of numbers in [low, high]; with equal weights mean +-
    t s/sqrt(n).

    The variance is the linearised one of a ratio, n/(n-1) sum w^2 (x - mean)^2/(sum w)^2 (Sarndal,
    Swensson & Wretman 1992, ch. 5), the degrees of freedom those of Kish's effective number of
    trials (sum w)^2/sum w^2. Under stratified sampling it also counts the spread between strata,
    so that it is too wide rather than too narrow.
    """
    n = len(values)
    if n < 2:
        mean = float(values[0]) if n else float("nan")
        return Interval(mean, low, high, n, "t over trials")
    mean = float(np.average(values, weights=weights))
    share = weights / weights.sum()
    effective = 1 / float(np.sum(share**2))
    if not _has_spread(values):
        return _without_spread(mean, n, effective, confidence, low, high)
    variance = float(np.sum((share * (values - mean)) ** 2)) * n / (n - 1)
    half = t_quantile(max(1.0, effective - 1), confidence) * variance**0.5
    method = "t over trials" if effective > n - 1e-6 else "t over weighted trials"
    return Interval(mean, max(low, mean - half), min(high, mean + half), n, method)


def welch_interval(a: np.ndarray, b: np.ndarray, confidence: float) -> Interval:
    """Mean of a - mean of b for shares in independent trials; all of [-1, 1] for n < 2."""
    n, least = len(a) + len(b), min(len(a), len(b))
    difference = float(np.mean(a) - np.mean(b))
    if least < 2:
        return Interval(difference, -1.0, 1.0, n, "Welch")
    if not _has_spread(a) and not _has_spread(b):
        return _without_spread(difference, n, least, confidence, -1.0, 1.0)
    va, vb = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = t_quantile(df, confidence) * float(np.sqrt(va + vb))
    lower, upper = max(-1.0, difference - half), min(1.0, difference + half)
    return Interval(difference, lower, upper, n, "Welch")


def difference_interval(hit: Interval, other: Interval) -> Interval:
    """Difference of two shares of rare events in independent trials, by MOVER (Zou and Donner,
    2008) from the intervals of both, so that a group without any event has its say."""
    difference = hit.estimate - other.estimate
    below = np.hypot(hit.estimate - hit.lower, other.upper - other.estimate)
    above = np.hypot(hit.upper - hit.estimate, other.estimate - other.lower)
    trials = hit.trials + other.trials
    return Interval(difference, difference - below, difference + above, trials, "MOVER")


def paired_interval(differences: np.ndarray, confidence: float) -> Interval:
    """Mean of per-trial differences of shares, as t_interval over [-1, 1]."""
    interval = t_interval(differences, confidence, -1.0, 1.0)
    return interval._replace(method=f"paired {interval.method}")


def _has_spread(values: np.ndarray) -> bool:
    """Shares are counts over at most 2^32 images: anything finer is rounding."""
    return bool(np.ptp(values) > 1e-12)


def _without_spread(
    mean: float, n: int, effective: float, confidence: float, low: float, high: float
) -> Interval:
    """Equal outcomes in n >= 2 trials, whose t interval would have no width: each bound moves
    towards its end of the range by the share that the rule of three allows (3/n at 95 %)."""
    share = min(1.0, float(-np.log1p(-confidence)) / effective)
    lower, upper = mean - share * (mean - low), mean + share * (high - mean)
    return Interval(mean, lower, upper, n, "rule of three")
