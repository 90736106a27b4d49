"""Numbers of a campaign: means over trials, intervals, comparisons. Tables in, tables out.

The unit is the trial: all images of a trial share its faults, so an interval over images would be
far too narrow. Where the program stored an estimate, that one is reported.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from results import OUTCOMES, Result, ResultError, layer_of
from scipy.special import stdtrit

# Below this many trials a t interval over a skewed outcome may cover less than it says.
ENOUGH_TRIALS = 500
# Groups smaller than this are not compared.
MIN_GROUP = 10


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
    n = len(values)
    if n < 2:
        mean = float(values[0]) if n else float("nan")
        return Interval(mean, low, high, n, "t over trials")
    mean = float(np.mean(values))
    if not _has_spread(values):
        return _without_spread(mean, n, confidence, low, high)
    half = t_quantile(n - 1, confidence) * float(np.std(values, ddof=1)) / n**0.5
    return Interval(mean, max(low, mean - half), min(high, mean + half), n, "t over trials")


def welch_interval(a: np.ndarray, b: np.ndarray, confidence: float) -> Interval:
    """Mean of a - mean of b for shares in independent trials; all of [-1, 1] for n < 2."""
    n, least = len(a) + len(b), min(len(a), len(b))
    difference = float(np.mean(a) - np.mean(b))
    if least < 2:
        return Interval(difference, -1.0, 1.0, n, "Welch")
    if not _has_spread(a) and not _has_spread(b):
        return _without_spread(difference, least, confidence, -1.0, 1.0)._replace(trials=n)
    va, vb = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = t_quantile(df, confidence) * float(np.sqrt(va + vb))
    lower, upper = max(-1.0, difference - half), min(1.0, difference + half)
    return Interval(difference, lower, upper, n, "Welch")


def difference_interval(a: np.ndarray, b: np.ndarray, confidence: float) -> Interval:
    """Mean of a - mean of b for shares of rare events in independent trials, by MOVER (Zou and
    Donner, 2008) from both intervals, so that a group without any event has its say."""
    hit, other = t_interval(a, confidence), t_interval(b, confidence)
    difference = hit.estimate - other.estimate
    below = np.hypot(hit.estimate - hit.lower, other.upper - other.estimate)
    above = np.hypot(hit.upper - hit.estimate, other.estimate - other.lower)
    return Interval(difference, difference - below, difference + above, len(a) + len(b), "MOVER")


def paired_interval(differences: np.ndarray, confidence: float) -> Interval:
    """Mean of per-trial differences of shares, as t_interval over [-1, 1]."""
    interval = t_interval(differences, confidence, -1.0, 1.0)
    return interval._replace(method=f"paired {interval.method}")


def _has_spread(values: np.ndarray) -> bool:
    """Shares are counts over at most 2^32 images: anything finer is rounding."""
    return bool(np.ptp(values) > 1e-12)


def _without_spread(mean: float, n: int, confidence: float, low: float, high: float) -> Interval:
    """Equal outcomes in n >= 2 trials, whose t interval would have no width: each bound moves
    towards its end of the range by the share that the rule of three allows (3/n at 95 %)."""
    share = min(1.0, float(-np.log1p(-confidence)) / n)
    lower, upper = mean - share * (mean - low), mean + share * (high - mean)
    return Interval(mean, lower, upper, n, "rule of three")


# ---- the campaign's tables ---------------------------------------------------------------------


def main_trials(result: Result) -> pd.DataFrame:
    """Trials of the main sample. Stratified rows would need weights this version does not know."""
    trials = result.trials
    if (trials["stratum"] >= 0).any():
        raise ResultError(
            f"{result.path}: holds stratified trials, which plain means would distort"
        )
    return trials[trials["stage"] == 0]


def point_labels(result: Result) -> dict[int, str]:
    """Short names of the points: the BER, with the fault model where there are several."""
    several = result.points["fault_model"].nunique() > 1
    labels = {}
    for point in result.points.itertuples():
        rated = point.ber > 0 or has_rate(point.fault_model)
        ber = f"BER {number(point.ber)}" if rated else ""
        model = point.fault_model if several or not ber else ""
        labels[point.id] = ", ".join(part for part in (ber, model) if part)
    return labels


def has_rate(fault_model: str) -> bool:
    """Whether a BER rules the fault model; exact:K and channels have a fixed number of flips."""
    return not fault_model.startswith(("exact:", "channel:"))


def number(value: float) -> str:
    """A BER as people write it: 5e-6."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def accuracy_table(result: Result) -> pd.DataFrame:
    """Accuracy under faults per point and model with its interval, and fault-free."""
    rows = []
    groups = main_trials(result).groupby(["point", "model"])
    for (point, model), trials in groups:
        stored = _stored(result, point, model, "accuracy")
        interval = stored or t_interval(trials["accuracy"].to_numpy(), result.confidence)
        rows.append(
            {"point": point, "model": model, "flips": trials["n_faults"].mean()}
            | interval._asdict()
            | {"planned": int(result.points["trials"].get(point, 0))}
        )
    columns = ["point", "model", "flips", *Interval._fields, "planned"]
    table = pd.DataFrame(rows, columns=columns)
    described = result.points[["fault_model", "ber"]].reindex(table["point"])
    table[["fault_model", "ber"]] = described.to_numpy()
    table["ber"] = table["ber"].astype(float)
    table["model_name"] = result.models["name"].reindex(table["model"]).to_numpy()
    table["fault_free"] = fault_free(result).reindex(table["model"]).to_numpy()
    return table


def fault_free(result: Result) -> pd.Series:
    """Fault-free accuracy per model; not a number where it is not stored."""
    images = result.models["images"].where(result.models["images"] > 0)
    return result.models["correct"] / images


def gain_table(result: Result) -> pd.DataFrame:
    """Accuracy gained over the first model, per point and other model, with its interval."""
    rows = []
    for point in result.points["id"]:
        for model in result.models.index[1:]:
            gain = _stored_gain(result, point, model) or _computed_gain(result, point, model)
            if gain is not None:
                rows.append({"point": point, "model": model} | gain._asdict())
    return pd.DataFrame(rows, columns=["point", "model", *Interval._fields])


def outcome_table(result: Result) -> pd.DataFrame:
    """Mean share of every outcome per point and model (mean over trials of the trial's share), and
    of images failing (SDC-critical or DUE) with its interval."""
    trials = main_trials(result)
    trials = trials[trials["images"] > 0]
    rows = []
    for (point, model), mine in trials.groupby(["point", "model"]):
        shares = mine[list(OUTCOMES)].div(mine["images"], axis=0).mean()
        stored = _stored(result, point, model, "failing")
        failing = stored or t_interval(mine["failure"].to_numpy(), result.confidence)
        sizes = {"trials": len(mine), "images": int(mine["images"].sum())}
        bounds = {"failing": failing.estimate, "lower": failing.lower, "upper": failing.upper}
        rows.append({"point": point, "model": model} | shares.to_dict() | sizes | bounds)
    columns = ["point", "model", *OUTCOMES, "trials", "images", "failing", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns)


def overhead_table(result: Result) -> pd.DataFrame:
    """Parameters, MACs and memory, absolute and as ratios to the first model."""
    table = result.models[["name", "parameters", "macs", "memory_bytes"]].copy()
    for column in ("parameters", "macs", "memory_bytes"):
        first = table[column].iloc[0] if len(table) else 0
        table[f"{column}_ratio"] = table[column] / first if first else float("nan")
    return table


def load_table(result: Result) -> pd.DataFrame:
    """Trials and busy time [s] of every rank in every session."""
    groups = result.trials.groupby(["session", "rank"])["wall_us"]
    table = groups.agg(trials="size", busy="sum").reset_index()
    return table.assign(busy=table["busy"] / 1e6)


def running_estimates(result: Result, point: int, model: int, looks: int = 60) -> pd.DataFrame:
    """Mean accuracy of the first n trials, in the order of their numbers, with its interval."""
    trials = main_trials(result)
    mine = trials[(trials["point"] == point) & (trials["model"] == model)].sort_values("id")
    values = mine["accuracy"].to_numpy()
    if len(values) < 2:
        return pd.DataFrame(columns=Interval._fields)
    counts = np.unique(np.geomspace(2, len(values), looks).astype(int))
    return pd.DataFrame([t_interval(values[:n], result.confidence) for n in counts])


# ---- failures by bit and by layer --------------------------------------------------------------


def is_single(trials: pd.DataFrame) -> bool:
    """Whether every trial flips exactly one bit."""
    return len(trials) > 0 and bool((trials["n_faults"] == 1).all())


def chosen_point(result: Result) -> int | None:
    """The point that tells most about single places: single flips where there are any, else the
    one in which a given bit position (one of 32) is flipped in nearest to half of the trials."""
    trials = main_trials(result)
    flips = trials.groupby("point")["n_faults"].mean()
    flips = flips[flips > 0]
    singles = [point for point, rows in trials.groupby("point") if is_single(rows)]
    if singles:
        return int(singles[0])
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
    """
    trials = main_trials(result)
    trials = trials[(trials["point"] == point) & (trials["model"] == model)]
    failure = trials["failure"].to_numpy()
    single = is_single(trials)
    rows = []
    for value, hit in _hits(result, column, trials):
        interval = _effect(failure[hit], failure[~hit], single, result.confidence)
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


def _effect(hit: np.ndarray, other: np.ndarray, single: bool, confidence: float) -> Interval:
    nothing = Interval(float("nan"), float("nan"), float("nan"), len(hit) + len(other))
    if single:
        return t_interval(hit, confidence) if len(hit) >= 2 else nothing
    if min(len(hit), len(other)) < MIN_GROUP:
        return nothing
    return difference_interval(hit, other, confidence)


# ---- stored estimates --------------------------------------------------------------------------


def _stored(result: Result, point: int, model: int, quantity: str) -> Interval | None:
    table = result.estimates
    rows = table[
        (table["point"] == point)
        & (table["model"] == model)
        & (table["against"] < 0)
        & (table["quantity"] == quantity)
    ]
    return _interval(rows.iloc[-1]) if len(rows) else None


def _stored_gain(result: Result, point: int, model: int) -> Interval | None:
    table = result.estimates
    base = result.models.index[0]
    rows = table[(table["point"] == point) & (table["quantity"] == "accuracy_difference")]
    rows = rows[(rows["model"] == model) & (rows["against"] == base)]
    return _interval(rows.iloc[-1]) if len(rows) else None


def _computed_gain(result: Result, point: int, model: int) -> Interval | None:
    trials = main_trials(result)
    trials = trials[trials["point"] == point].set_index("id")
    after = trials.loc[trials["model"] == model, "accuracy"]
    before = trials.loc[trials["model"] == result.models.index[0], "accuracy"]
    if after.empty or before.empty:
        return None
    if result.points["fault_model"].get(point) == "binomial":  # the same flips in both: paired
        differences = (after - before).dropna().to_numpy()
        return paired_interval(differences, result.confidence) if len(differences) else None
    return welch_interval(after.to_numpy(), before.to_numpy(), result.confidence)


def _interval(row: pd.Series) -> Interval:
    bounds = (float(row[name]) for name in ("estimate", "lower", "upper"))
    return Interval(*bounds, int(row["trials"]), str(row["method"]))
