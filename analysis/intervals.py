"""Intervals for means over trials. The rule, as in the program (src/stats/interval.cpp):

- shares of images under single flips (T1), and shares of trials that count unequally:
  Korn-Graubard;
- other means, shares and differences: betting below 500 trials, t from there; where fewer than 20
  trials differ from the commonest value, betting stays, as t would be far too narrow.

The unit is the trial: all images of a trial share its faults, so an interval over images would be
far too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

ENOUGH_TRIALS = 500  # from here on t
ENOUGH_DIFFERENT = 20
BETTING, T = "betting", "t over trials"
KORN_GRAUBARD, RULE_OF_THREE = "Korn-Graubard", "rule of three"
OVER_IMAGES = "Clopper-Pearson over images"  # the program's, where each image has its own faults
LARGEST_BET = 0.75  # of what may be lost in one trial
ROUNDING = 1e-12  # shares are counts over at most 2^32 images: anything finer is rounding


class Interval(NamedTuple):
    """An estimate, its bounds (not a number where there are none), the trials used, the method."""

    estimate: float
    lower: float
    upper: float
    trials: int
    method: str = ""


# ---- the rule ----------------------------------------------------------------------------------


def trial_interval(
    values: np.ndarray, confidence: float, low: float = 0.0, high: float = 1.0
) -> Interval:
    """Mean over trials that count alike, of numbers in [low, high], in the order of their ids."""
    few = len(values) < ENOUGH_TRIALS or different(values) < ENOUGH_DIFFERENT
    return (betting_interval if few else t_interval)(values, confidence, low, high)


def different(values: np.ndarray) -> int:
    """Trials that differ from the commonest value."""
    _, counts = np.unique(values, return_counts=True)
    return len(values) - int(counts.max(initial=0))


def paired_interval(
    differences: np.ndarray, confidence: float, low: float = -1.0, high: float = 1.0
) -> Interval:
    """The same for per-trial differences."""
    interval = trial_interval(differences, confidence, low, high)
    return interval._replace(method=f"paired {interval.method}")


def group_interval(
    values: np.ndarray, weights: np.ndarray, confidence: float, single: bool
) -> Interval:
    """Mean share of a group of trials. `single`: single flips. Trials of several strata count
    unequally; those of one alike, as under simple sampling."""
    if alike(weights) and not single:
        return trial_interval(values, confidence)
    return korn_graubard_interval(values, confidence, None if alike(weights) else weights)


def alike(weights: np.ndarray) -> bool:
    return len(weights) == 0 or bool(np.ptp(weights) <= 1e-9 * weights.max())


# ---- betting -----------------------------------------------------------------------------------


def betting_interval(
    values: np.ndarray, confidence: float, low: float = 0.0, high: float = 1.0
) -> Interval:
    """Mean of independent numbers in [low, high] by hedged capital (Waudby-Smith & Ramdas 2024,
    "Estimating means of bounded random variables by betting"): holds for every n and distribution.
    All of the range without any.

    A mean m is bet against with stakes that the values before each one decide; it is excluded once
    a capital has grown to 2/(1 - confidence). The values' order counts: that of the trials' ids.
    """
    n = len(values)
    if n == 0:
        return Interval(float("nan"), low, high, 0, BETTING)
    y = np.clip((np.asarray(values, float) - low) / (high - low), 0.0, 1.0)
    stakes, mean = _stakes(y, 1 - confidence), float(y.mean())
    most = np.log(2 / (1 - confidence))  # of the logarithm of a capital

    def excluded(m: float, side: int) -> bool:
        """By the bet that the mean is above m (side 1), or below (-1)."""
        loss = m if side > 0 else 1 - m  # of the whole stake, at most
        bets = np.minimum(stakes, LARGEST_BET / loss) if loss > 0 else stakes
        return _capital(side * (y - m), bets) >= most

    lower = 0.0 if mean == 0 else _end(lambda m: excluded(m, 1), mean, 0.0)
    upper = 1.0 if mean == 1 else _end(lambda m: excluded(m, -1), mean, 1.0)
    estimate, width = float(np.mean(values)), high - low
    bounds = min(estimate, low + width * lower), max(estimate, low + width * upper)
    return Interval(estimate, *bounds, n, BETTING)


def _stakes(y: np.ndarray, alpha: float) -> np.ndarray:
    """lambda_t = sqrt(2 ln(2/alpha) / (n s2_{t-1})) of the values before each one."""
    t = np.arange(1, len(y) + 1)
    means = (0.5 + np.cumsum(y)) / (t + 1)
    spreads = (0.25 + np.cumsum((y - means) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], spreads[:-1]])
    return np.sqrt(2 * np.log(2 / alpha) / (len(y) * before))


def _capital(gains: np.ndarray, stakes: np.ndarray) -> float:
    """The largest logarithm that the capital prod(1 + stake gain) reaches."""
    return float(np.cumsum(np.log1p(stakes * gains)).max())


def _end(excluded: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where exclusion begins between the mean and an end of the range, by bisection."""
    if not excluded(outside):
        return outside
    while abs(outside - inside) > 1e-13:
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if excluded(middle) else (middle, outside)
    return outside


# ---- t, Korn-Graubard ----------------------------------------------------------------------------


def t_quantile(df: float, confidence: float) -> float:
    """t such that P(|T_df| <= t) = confidence."""
    return float(stdtrit(df, (1 + confidence) / 2))


def t_interval(
    values: np.ndarray, confidence: float, low: float = 0.0, high: float = 1.0
) -> Interval:
    """Mean over n >= 2 trials of numbers in [low, high], mean +- t s/sqrt(n)."""
    n, mean = len(values), float(np.mean(values))
    half = t_quantile(n - 1, confidence) * float(np.std(values, ddof=1)) / n**0.5
    return Interval(mean, max(low, mean - half), min(high, mean + half), n, T)


def korn_graubard_interval(
    shares: np.ndarray, confidence: float, weights: np.ndarray | None = None
) -> Interval:
    """Mean share sum w x/sum w over trials (Korn & Graubard 1998): Clopper-Pearson for p n_e
    failures of n_e = min(k - 1, p (1 - p)/V) (z/t_{k-1})^2 trials; k = (sum w)^2/sum w^2 is Kish's
    effective number, n where all count alike.

    V is the linearised variance of a ratio, n/(n-1) sum w^2 (x - mean)^2/(sum w)^2 (Sarndal,
    Swensson & Wretman 1992, ch. 5). Under stratified sampling it also counts the spread between
    strata, so that it is too wide rather than too narrow.
    """
    n = len(shares)
    weights = np.ones(n) if weights is None else weights
    if n < 2:
        return Interval(float(shares[0]) if n else float("nan"), 0.0, 1.0, n, KORN_GRAUBARD)
    part = weights / weights.sum()
    p, effective = float(part @ shares), 1 / float(np.sum(part**2))
    if np.ptp(shares) <= ROUNDING:
        return _without_spread(p, n, effective, confidence)
    if effective <= 1 + 1e-9:
        return Interval(p, 0.0, 1.0, n, KORN_GRAUBARD)
    variance = float(np.sum((part * (shares - p)) ** 2)) * n / (n - 1)
    quantiles = ndtri((1 + confidence) / 2) / t_quantile(effective - 1, confidence)
    used = min(effective - 1, p * (1 - p) / variance) * quantiles**2
    return Interval(p, *_clopper_pearson(p * used, used, confidence), n, KORN_GRAUBARD)


def count_interval(shares: np.ndarray, images: int, confidence: float) -> Interval:
    """Mean share of `images` images per trial that each fail or not by themselves: Clopper-Pearson
    over trials x images, whatever the chances of the images (Hoeffding 1956)."""
    failures = round(float(np.sum(shares)) * images)
    found = images_interval(failures, len(shares) * images, confidence)
    return found._replace(trials=len(shares))


def images_interval(failures: int, n: int, confidence: float) -> Interval:
    """Share of n images that each fail or not by themselves."""
    if n == 0:
        return Interval(float("nan"), 0.0, 1.0, 0, OVER_IMAGES)
    tail = (1 - confidence) / 2
    lower = float(betaincinv(failures, n - failures + 1, tail)) if failures > 0 else 0.0
    upper = float(betaincinv(failures + 1, n - failures, 1 - tail)) if failures < n else 1.0
    return Interval(failures / n, lower, upper, n, OVER_IMAGES)


def _clopper_pearson(failures: float, n: float, confidence: float) -> tuple[float, float]:
    """For numbers that need not be whole, 0 < failures < n. With less than one failure the lower
    end is 0, with less than one success the upper end is 1."""
    tail = (1 - confidence) / 2
    lower = 0.0 if failures < 1 else float(betaincinv(failures, n - failures + 1, tail))
    few = n - failures < 1
    return lower, 1.0 if few else float(betaincinv(failures + 1, n - failures, 1 - tail))


def _without_spread(share: float, n: int, effective: float, confidence: float) -> Interval:
    """Equal shares in n >= 2 trials: each bound moves towards its end of [0, 1] by the part that
    the rule of three allows (3/n at 95 %)."""
    most = min(1.0, unseen_share(effective, confidence))
    return Interval(share, share * (1 - most), share + most * (1 - share), n, RULE_OF_THREE)


def unseen_share(n: float, confidence: float) -> float:
    """What an outcome that was not met in n trials has as its share at most: 3/n at 95 %."""
    return float(-np.log1p(-confidence)) / n


# ---- two groups --------------------------------------------------------------------------------


class Group(NamedTuple):
    """Numbers of [low, high] in independent trials, and what each counts for."""

    values: np.ndarray
    weights: np.ndarray
    low: float = 0.0
    high: float = 1.0


def difference_interval(a: Group, b: Group, confidence: float) -> Interval:
    """Mean of a - mean of b. Trials that count alike: where the rule says t of both, Welch's, else
    from the intervals of both by MOVER, so that a group without any failure has its say. Trials of
    several strata: MOVER from Korn-Graubard's intervals."""
    if not (alike(a.weights) and alike(b.weights)):
        parts = (korn_graubard_interval(g.values, confidence, g.weights) for g in (a, b))
        return mover(*parts, f"MOVER of {KORN_GRAUBARD}")
    parts = [trial_interval(g.values, confidence, g.low, g.high) for g in (a, b)]
    if any(part.method == BETTING for part in parts):
        return mover(*parts, "two-sample betting")
    return welch_interval(a.values, b.values, confidence)


def mover(a: Interval, b: Interval, method: str) -> Interval:
    """Difference of two means from the intervals of both (Donner & Zou 2002): the distances of
    their ends from their means, added in squares."""
    difference = a.estimate - b.estimate
    below = np.hypot(a.estimate - a.lower, b.upper - b.estimate)
    above = np.hypot(a.upper - a.estimate, b.estimate - b.lower)
    bounds = max(-1.0, difference - below), min(1.0, difference + above)
    return Interval(difference, *bounds, a.trials + b.trials, method)


def welch_interval(a: np.ndarray, b: np.ndarray, confidence: float) -> Interval:
    """The same by t with Satterthwaite's degrees of freedom, of samples with some spread."""
    difference = float(np.mean(a) - np.mean(b))
    va, vb = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = t_quantile(df, confidence) * float(np.sqrt(va + vb))
    bounds = max(-1.0, difference - half), min(1.0, difference + half)
    return Interval(difference, *bounds, len(a) + len(b), "Welch")
