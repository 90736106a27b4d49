"""Numbers of a campaign: means over trials, intervals, comparisons. Tables in, tables out.

Where the program stored an estimate, that one is reported; means of rows are weighted by the
design (weights.py).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from intervals import Interval, paired_interval, t_interval, welch_interval
from results import Result
from schema import OUTCOMES
from weights import PILOT, SEQUENTIAL, SIMPLE

NAN = float("nan")
# What a mean over the rows of a quantity is taken of, per image.
COLUMNS = {"accuracy": "accuracy", "failing": "failure"} | {name: name for name in OUTCOMES}
QUANTITIES = {"accuracy": "accuracy", "failing": "failing images"}


# ---- points and models -------------------------------------------------------------------------


def main_trials(result: Result) -> pd.DataFrame:
    """Trials that are in the estimates."""
    return result.trials[result.trials["weight"] > 0]


def trials_of(result: Result, point: int, model: int | None = None) -> pd.DataFrame:
    """Those of a point, and of a model."""
    trials = main_trials(result)
    trials = trials[trials["point"] == point]
    return trials if model is None else trials[trials["model"] == model]


def sampling_of(result: Result, point: int) -> str:
    return str(result.plans["sampling"][point])


def main_quantity(result: Result, point: int) -> str:
    """What the point is about: failing images for T1, else accuracy."""
    return "failing" if str(result.points["estimand"][point]).startswith("T1") else "accuracy"


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


def fault_free(result: Result) -> pd.Series:
    """Fault-free accuracy per model; not a number where it is not stored."""
    images = result.models["images"].where(result.models["images"] > 0)
    return result.models["correct"] / images


# ---- estimates ---------------------------------------------------------------------------------


def estimate(result: Result, point: int, model: int, quantity: str) -> Interval:
    """The stored estimate, else what the rows give: for simple sampling with an interval, for other
    plans the weighted mean without one, or nothing while strata are still without trials."""
    stored = _stored(result, point, model, quantity)
    return stored or _computed(result, trials_of(result, point, model), quantity)


def _computed(result: Result, trials: pd.DataFrame, quantity: str) -> Interval:
    values = _per_image(trials, quantity)
    if trials.empty or sampling_of(result, trials["point"].iloc[0]) == SIMPLE:
        return t_interval(values, result.confidence)
    mean = float(np.sum(values * trials["weight"])) if is_covered(result, trials) else NAN
    return Interval(mean, NAN, NAN, len(trials), "weighted mean")


def _per_image(trials: pd.DataFrame, quantity: str) -> np.ndarray:
    column = trials[COLUMNS[quantity]]
    return (column / trials["images"] if quantity in OUTCOMES else column).to_numpy()


def is_covered(result: Result, trials: pd.DataFrame) -> bool:
    """Whether the rows of a point and model stand for its whole population; a stratified plan that
    runs has strata without trials."""
    sequential = sampling_of(result, trials["point"].iloc[0]) == SEQUENTIAL
    return sequential or bool(trials["weight"].sum() > 1 - 1e-6)


def _stored(result: Result, point: int, model: int, quantity: str) -> Interval | None:
    rows = _of_quantity(result.estimates, point, model, quantity)
    return _interval(rows.iloc[-1]) if len(rows) else None


def _of_quantity(table: pd.DataFrame, point: int, model: int, quantity: str) -> pd.DataFrame:
    place = (table["point"] == point) & (table["model"] == model)
    return table[place & (table["against"] < 0) & (table["quantity"] == quantity)]


def _interval(row: pd.Series) -> Interval:
    bounds = (float(row[name]) for name in ("estimate", "lower", "upper"))
    return Interval(*bounds, int(row["trials"]), str(row["method"]))


def accuracy_table(result: Result) -> pd.DataFrame:
    """Accuracy under faults per point and model with its interval, and fault-free."""
    rows = []
    for (point, model), trials in main_trials(result).groupby(["point", "model"]):
        rows.append(
            {"point": point, "model": model, "flips": _mean_flips(trials)}
            | estimate(result, point, model, "accuracy")._asdict()
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


def _mean_flips(trials: pd.DataFrame) -> float:
    return float(np.average(trials["n_faults"], weights=trials["weight"]))


def gain_table(result: Result) -> pd.DataFrame:
    """Accuracy gained over the first model, per point and other model, with its interval."""
    rows = []
    for point in result.points["id"]:
        for model in result.models.index[1:]:
            gain = _stored_gain(result, point, model) or _computed_gain(result, point, model)
            if gain is not None:
                rows.append({"point": point, "model": model} | gain._asdict())
    return pd.DataFrame(rows, columns=["point", "model", *Interval._fields])


def _stored_gain(result: Result, point: int, model: int) -> Interval | None:
    table = result.estimates
    base = result.models.index[0]
    rows = table[(table["point"] == point) & (table["quantity"] == "accuracy_difference")]
    rows = rows[(rows["model"] == model) & (rows["against"] == base)]
    return _interval(rows.iloc[-1]) if len(rows) else None


def _computed_gain(result: Result, point: int, model: int) -> Interval | None:
    after = trials_of(result, point, model).set_index("id")
    before = trials_of(result, point, result.models.index[0]).set_index("id")
    if after.empty or before.empty:
        return None
    if sampling_of(result, point) != SIMPLE:
        parts = [_computed(result, rows, "accuracy").estimate for rows in (after, before)]
        gain = Interval(parts[0] - parts[1], NAN, NAN, len(after), "weighted mean")
        return None if np.isnan(gain.estimate) else gain
    if result.points["fault_model"].get(point) == "binomial":  # the same flips in both: paired
        differences = (after["accuracy"] - before["accuracy"]).dropna().to_numpy()
        return paired_interval(differences, result.confidence) if len(differences) else None
    values = (rows["accuracy"].to_numpy() for rows in (after, before))
    return welch_interval(*values, result.confidence)


def outcome_table(result: Result) -> pd.DataFrame:
    """Share of every outcome per point and model, and of images failing (SDC-critical or DUE), each
    with its interval (`<outcome>_lower`, `_upper`)."""
    trials = main_trials(result)
    rows = []
    for (point, model), mine in trials[trials["images"] > 0].groupby(["point", "model"]):
        row = {"point": point, "model": model, "trials": len(mine)}
        for quantity in (*OUTCOMES, "failing"):
            share = estimate(result, point, model, quantity)
            row |= {quantity: share.estimate, f"{quantity}_lower": share.lower}
            row |= {f"{quantity}_upper": share.upper, f"{quantity}_method": share.method}
        rows.append(row)
    ends = ("", "_lower", "_upper", "_method")
    shares = [f"{quantity}{end}" for quantity in (*OUTCOMES, "failing") for end in ends]
    return pd.DataFrame(rows, columns=["point", "model", "trials", *shares])


# ---- how trials were chosen --------------------------------------------------------------------


def strata_table(result: Result) -> pd.DataFrame:
    """Per point and stratum: weight, cost, trials of the pilot and of the main sample, and failing
    images of the first model in it."""
    first = result.trials[result.trials["model"] == _first(result)]
    place = ["point", "stratum"]
    main = first[first["weight"] > 0].groupby(place)
    counts = {
        "pilot": first[first["stage"] == PILOT].groupby(place).size(),
        "trials": main.size(),
        "failing": main["failure"].mean(),
    }
    table = result.strata.set_index(place)
    for name, column in counts.items():
        table[name] = column.reindex(table.index)
    return table.fillna({"pilot": 0, "trials": 0}).reset_index()


def _first(result: Result) -> int:
    return int(result.models.index[0]) if len(result.models) else 0


# ---- convergence -------------------------------------------------------------------------------


def running_estimates(result: Result, point: int, model: int, looks: int = 60) -> pd.DataFrame:
    """The point's main quantity over the number of trials, with its interval: for simple sampling
    the mean of the first n trials in the order of their numbers, for other plans what the program
    stored at its looks."""
    quantity = main_quantity(result, point)
    if sampling_of(result, point) != SIMPLE:
        stored = _of_quantity(result.looks, point, model, quantity).sort_values("trials")
        return stored[list(Interval._fields)].reset_index(drop=True)
    trials = trials_of(result, point, model).sort_values("id")
    values = _per_image(trials, quantity)
    if len(values) < 2:
        return pd.DataFrame(columns=Interval._fields)
    counts = np.unique(np.geomspace(2, len(values), looks).astype(int))
    return pd.DataFrame([t_interval(values[:n], result.confidence) for n in counts])


# ---- cost --------------------------------------------------------------------------------------


def overhead_table(result: Result) -> pd.DataFrame:
    """Parameters, MACs and memory, absolute and as ratios to the first model."""
    table = result.models[["name", "parameters", "macs", "memory_bytes"]].copy()
    for column in ("parameters", "macs", "memory_bytes"):
        first = table[column].iloc[0] if len(table) else 0
        table[f"{column}_ratio"] = table[column] / first if first else NAN
    return table


def load_table(result: Result) -> pd.DataFrame:
    """Trials and busy time [s] of every rank in every session."""
    groups = result.trials.groupby(["session", "rank"])["wall_us"]
    table = groups.agg(trials="size", busy="sum").reset_index()
    return table.assign(busy=table["busy"] / 1e6)


def time_table(result: Result) -> pd.DataFrame:
    """Wall time of the trials of every model [ms]: median, mean, and the 1 % and 99 % quantiles."""
    groups = result.trials.groupby("model")["wall_us"]
    table = groups.agg(trials="size", mean="mean")
    for name, quantile in (("median", 0.5), ("low", 0.01), ("high", 0.99)):
        table[name] = groups.quantile(quantile)
    table[["mean", "median", "low", "high"]] /= 1000
    return table.reset_index()
