"""Numbers of a campaign: means over trials, intervals, comparisons. Tables in, tables out.

Where the program stored an estimate, that one is reported; what is computed from rows is what the
program estimates (estimation.py), with intervals by its rule (intervals.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from estimation import OF_LABELS, Observations, observations
from intervals import (
    OVER_IMAGES,
    Group,
    Interval,
    count_interval,
    difference_interval,
    group_interval,
    korn_graubard_interval,
    paired_interval,
    trial_interval,
    unseen_share,
)
from results import Result
from schema import LISTED, OUTCOMES
from text import percent
from weights import PILOT, SEQUENTIAL, SIMPLE, known_share

NAN = float("nan")
QUANTILES = {"low": 0.01, "first": 0.25, "median": 0.5, "third": 0.75, "high": 0.99}
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


def is_bounded(result: Result, point: int, model: int | None = None) -> bool:
    """Whether the program answered for a model, or for every model of the point, without trials: by
    a bound that holds whatever some trials show."""
    if model is None:
        return all(is_bounded(result, point, own) for own in result.models.index)
    rows = result.estimates
    rows = rows[(rows["point"] == point) & (rows["model"] == model) & (rows["against"] < 0)]
    return len(rows) > 0 and bool((rows["trials"] == 0).all())


def answered(result: Result) -> list[tuple[int, int, pd.DataFrame]]:
    """Point, model and trials of all that has an estimate; of bounded models the trials are none.
    """
    trials = main_trials(result)
    groups = {(int(p), int(m)): rows for (p, m), rows in trials.groupby(["point", "model"])}
    for point in result.points["id"]:
        for model in result.models.index:
            if is_bounded(result, point, model):
                groups[int(point), int(model)] = trials.iloc[:0]
    return [(*place, rows) for place, rows in sorted(groups.items(), key=lambda group: group[0])]


def is_single(trials: pd.DataFrame) -> bool:
    """Whether every trial has exactly one fault."""
    return len(trials) > 0 and bool((trials["n_faults"] == 1).all())


def is_t1(result: Result, point: int) -> bool:
    """Whether the point is about single flips."""
    return str(result.points["estimand"][point]).startswith("T1")


def is_listed(result: Result, point: int) -> bool:
    """Whether its faults come from a list, which is no sample: means have no intervals."""
    return str(result.points["estimand"][point]) == LISTED


def main_quantity(result: Result, point: int) -> str:
    """What the point is about: failing images for T1, else accuracy."""
    return "failing" if is_t1(result, point) else "accuracy"


def trials_used(result: Result, point: int) -> int:
    """Trials in the estimates of the point, of the model that has most."""
    rows = trials_of(result, point)
    return int(rows.groupby("model").size().max()) if len(rows) else 0


def point_row(result: Result, point: int) -> Any:
    """The point's row of /points, its columns as attributes."""
    return next(result.points.loc[[point]].itertuples())


def has_own_faults(result: Result, point: int) -> bool:
    """Whether each image of a trial draws faults of its own."""
    return bool(result.points["lifetime"][point] == "image")


def counts_images(result: Result) -> bool:
    """Whether some intervals are over trials x images."""
    return any(
        bool((table["method"] == OVER_IMAGES).any())
        for table in (result.estimates, result.stratum_estimates)
    )


def fault_parts(point: Any) -> list[str]:
    """How faults of a point (a row of /points) differ from single flips of all weights."""
    usual = {"effect": "flip", "shape": "bit", "target": "weight", "selection": ""}
    return [str(getattr(point, k)) for k, v in usual.items() if getattr(point, k) not in (v, "")]


def has_single_flips(point: Any) -> bool:
    """Whether each fault inverts one bit."""
    return bool(point.effect == "flip" and point.shape == "bit")


def hits_words(point: Any) -> bool:
    """Whether each fault replaces a word, so that rates are per word."""
    return point.effect == "random-word" or str(point.effect).startswith("value:")


def fault_noun(point: Any) -> str:
    """The name that a caption gives to a fault of the point."""
    return "flip" if has_single_flips(point) else "fault"


def rate_words(point: Any) -> tuple[str, str]:
    """Name and unit of the point's rate."""
    per = ", image and trial" if point.lifetime == "image" else " and trial"
    if point.shape not in ("bit", LISTED):
        return "event rate", f"events per bit{per}"
    if hits_words(point):
        return "fault rate", f"faults per word{per}"
    unit = "flips" if has_single_flips(point) else "faults"
    return "bit error rate", f"{unit} per bit{per}"


def fault_words(result: Result) -> str:
    """What failed in a campaign, whose points differ in their rates alone: "weight faults"."""
    point = next(result.points.itertuples())
    if point.estimand == LISTED:
        return "a list of faults"
    target = point.target or "weight"
    where = "weight faults" if target == "weight" else f"faults in {target.replace(',', ', ')}"
    how = [part for part in fault_parts(point) if part != point.target]
    if point.lifetime == "image":
        how.append("each image has its own")
    return where + (f" ({'; '.join(how)})" if how else "")


def count_words(result: Result) -> str:
    """What `n_faults` counts."""
    flips = all(has_single_flips(point) for point in result.points.itertuples())
    return "Flips" if flips else "Faults"


def point_labels(result: Result) -> dict[int, str]:
    """Short names of the points: the BER, with the fault model where there are several."""
    several = result.points["fault_model"].nunique() > 1
    labels = {}
    for point in result.points.itertuples():
        rated = point.ber > 0 or has_rate(point.fault_model)
        name = rate_words(point)[0]
        rate = "BER" if name == "bit error rate" else name
        ber = f"{rate} {number(point.ber)}" if rated else ""
        model = point.fault_model if several or not ber else ""
        labels[point.id] = ", ".join(part for part in (ber, model) if part)
    return labels


def at_point(result: Result, point: int) -> str:
    """As in "at BER 1e-5"."""
    return "of the list" if is_listed(result, point) else f"at {point_labels(result)[point]}"


def has_rate(fault_model: str) -> bool:
    """Whether a BER rules the fault model; exact:K, channels and lists have none."""
    return not fault_model.startswith(("exact:", "channel:", LISTED))


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
    plans without one, and nothing while strata are still without trials."""
    stored = _stored(result, point, model, quantity)
    return stored or computed(result, point, model, quantity)


def computed(
    result: Result, point: int, model: int, quantity: str, against: int | None = None
) -> Interval:
    """An estimate from the rows, whether or not one is stored."""
    found = observations(result, point, model, quantity, against)
    if sampling_of(result, point) == SIMPLE and not is_listed(result, point):
        return _of_simple(result, found, quantity, against)
    mean = result.mean(quantity, point, model, against)
    method = LISTED if is_listed(result, point) else "weighted mean"
    return Interval(mean, NAN, NAN, len(found.values), method)


def _of_simple(
    result: Result, found: Observations, quantity: str, against: int | None = None
) -> Interval:
    """The interval that the program gives the observations of simple sampling."""
    points = found.rows["point"].unique()
    own = len(points) > 0 and has_own_faults(result, int(points[0])) and not len(result.blocks)
    if own and against is None:
        images = int(found.rows["images"].iloc[0])
        counted = count_interval(found.values - found.low, images, result.confidence)
        return _shifted(counted, found.low + found.shift, 0.0)
    if len(points) and is_t1(result, points[0]) and quantity not in OF_LABELS:
        return korn_graubard_interval(found.values, result.confidence)
    if against is not None:
        interval = paired_interval(found.values, result.confidence, found.low, found.high)
        return _shifted(interval, found.shift, -1.0)
    interval = trial_interval(found.values, result.confidence, found.low, found.high)
    return _shifted(interval, found.shift, 0.0)


def _shifted(interval: Interval, by: float, least: float) -> Interval:
    bounds = max(least, interval.lower + by), min(1.0, interval.upper + by)
    return Interval(interval.estimate + by, *bounds, interval.trials, interval.method)


def group_share(result: Result, trials: pd.DataFrame) -> Interval:
    """Share of failing images over a group of trials, at least one, of one point and model: those
    that hit a bit, a layer, a stratum."""
    point, model = (int(trials[name].iloc[0]) for name in ("point", "model"))
    group = failing_group(trials)
    if has_own_faults(result, point) and not len(result.blocks):
        images = int(trials["images"].iloc[0])
        return count_interval(group.values, images, result.confidence)
    single = is_single(trials_of(result, point, model))
    return group_interval(group.values, group.weights, result.confidence, single)


def failing_group(trials: pd.DataFrame) -> Group:
    """In the order of the trials' ids."""
    trials = trials.sort_values("id", kind="stable")
    return Group(trials["failure"].to_numpy(), trials["group_weight"].to_numpy())


def is_covered(result: Result, trials: pd.DataFrame) -> bool:
    """Whether the rows of a point and model stand for its whole population; a stratified plan that
    runs has strata without trials."""
    point = int(trials["point"].iloc[0])
    share = trials["weight"].sum() + known_share(result.strata, point)
    return sampling_of(result, point) == SEQUENTIAL or bool(share > 1 - 1e-6)


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
    for point, model, trials in answered(result):
        rows.append(
            {"point": point, "model": model, "flips": mean_flips(trials)}
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


def mean_flips(trials: pd.DataFrame) -> float:
    """Faults per trial, in a mean over the population; not a number without trials."""
    if trials.empty:
        return NAN
    return float(np.average(trials["n_faults"], weights=trials["weight"]))


def gain_table(result: Result) -> pd.DataFrame:
    """Accuracy gained over the first model, per point and other model, with its interval."""
    rows = []
    for point in result.points["id"]:
        for model in result.models.index[1:]:
            gain = _stored_gain(result, point, model) or computed_gain(result, point, model)
            if gain is not None:
                rows.append({"point": point, "model": model} | gain._asdict())
    return pd.DataFrame(rows, columns=["point", "model", *Interval._fields])


def _stored_gain(result: Result, point: int, model: int) -> Interval | None:
    table = result.estimates
    base = result.models.index[0]
    rows = table[(table["point"] == point) & (table["quantity"] == "accuracy_difference")]
    rows = rows[(rows["model"] == model) & (rows["against"] == base)]
    return _interval(rows.iloc[-1]) if len(rows) else None


def computed_gain(result: Result, point: int, model: int) -> Interval | None:
    """The gain in accuracy from the rows; None where they tell nothing."""
    first = result.models.index[0]
    parts = [observations(result, point, m, "accuracy") for m in (model, first)]
    if any(part.rows.empty for part in parts):
        return None
    paired = result.points["fault_model"].get(point) == "binomial"  # the same flips in both
    if paired or sampling_of(result, point) != SIMPLE or is_listed(result, point):
        gain = computed(result, point, model, "accuracy", first)
        return None if np.isnan(gain.estimate) else gain
    groups = (Group(p.values, np.ones(len(p.values)), p.low, p.high) for p in parts)
    gain = difference_interval(*groups, result.confidence)
    return _shifted(gain, parts[0].shift - parts[1].shift, -1.0)


def no_difference(result: Result, point: int, model: int) -> str:
    """Said of a paired gain where both networks had as many images right in every trial of simple
    sampling: an interval would only tell how few they were. Empty otherwise."""
    paired = result.points["fault_model"].get(point) == "binomial"
    if not paired or sampling_of(result, point) != SIMPLE or is_bounded(result, point, model):
        return ""
    mine, base = (
        trials_of(result, point, m).set_index("id")[["correct", "images"]]
        for m in (model, result.models.index[0])
    )
    if mine.empty or not mine.sort_index().equals(base.sort_index()):
        return ""
    n = len(mine)
    most = unseen_share(n, result.confidence)  # 3/n at 95 %
    if most >= 1:
        return f"no difference in {n} trial{'s' if n > 1 else ''}, too few to exclude one"
    return f"no difference in {n} trials; one in more than {percent(most)} of them is excluded"


def outcome_table(result: Result) -> pd.DataFrame:
    """Share of every outcome per point and model, and of images failing (SDC-critical or DUE), each
    with its interval (`<outcome>_lower`, `_upper`)."""
    rows = []
    for point, model, trials in answered(result):
        mine = trials[trials["images"] > 0]
        if mine.empty and not is_bounded(result, point, model):
            continue
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
    images of the first model in it with their interval."""
    first = result.trials[result.trials["model"] == _first(result)]
    place = ["point", "stratum"]
    main = first[first["weight"] > 0].groupby(place)
    shares = {key: group_share(result, rows) for key, rows in main}
    counts = {
        "pilot": first[first["stage"] == PILOT].groupby(place).size(),
        "trials": main.size(),
        "failing": pd.Series({key: share.estimate for key, share in shares.items()}, dtype=float),
        "lower": pd.Series({key: share.lower for key, share in shares.items()}, dtype=float),
        "upper": pd.Series({key: share.upper for key, share in shares.items()}, dtype=float),
        "method": pd.Series({key: share.method for key, share in shares.items()}, dtype=object),
    }
    table = result.strata.set_index(place)
    for name, column in counts.items():
        table[name] = column.reindex(table.index) if len(column) else np.nan
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
    found = observations(result, point, model, quantity)
    total = len(found.values)
    if total < 2 or is_listed(result, point):
        return pd.DataFrame(columns=Interval._fields)
    counts = np.unique(np.geomspace(2, total, looks).astype(int))
    first = (found.only(np.arange(total) < n) for n in counts)
    return pd.DataFrame([_of_simple(result, part, quantity) for part in first])


def has_running_estimates(result: Result, point: int, model: int) -> bool:
    if is_listed(result, point):
        return False
    if sampling_of(result, point) != SIMPLE:
        return len(running_estimates(result, point, model)) > 0
    return len(trials_of(result, point, model)) >= 2


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
    """Wall time of the trials of every model [ms]: mean, quartiles, and the 1 % and 99 %
    quantiles."""
    groups = result.trials.groupby("model")["wall_us"]
    table = groups.agg(trials="size", mean="mean")
    for name, quantile in QUANTILES.items():
        table[name] = groups.quantile(quantile)
    table[["mean", *QUANTILES]] /= 1000
    return table.reset_index()
