"""What was estimated and how, in words; what a reader must know before using the numbers."""

from __future__ import annotations

from typing import Any

import failures
import numpy as np
import pandas as pd
import summaries
from intervals import ENOUGH_TRIALS, T
from plot_faults import places_of
from rankings import CHANNEL_POINT, Sources, holds_channels
from results import Result
from schema import LISTED
from text import count, interval, listed, percent, share
from weights import ALLOCATED, BY_STRATA, DIVIDED, PILOT, SEQUENTIAL, SIMPLE, STRATIFIED

# ---- what --------------------------------------------------------------------------------------


# Values that a network computes, by target.
OUTPUTS = {
    "activation": "the outputs of convolutions and linear layers",
    "post": "what convolutions and linear layers read",
}


def estimand_words(point: Any) -> str:
    """What a point (a row of /points) estimates."""
    estimand, fault_model = point.estimand, point.fault_model
    rate = summaries.number(point.ber)
    if fault_model.startswith(CHANNEL_POINT):
        layer, channel = fault_model.removeprefix(CHANNEL_POINT).rsplit(":", 1)
        return _single_fault(point, f" in the weights of channel {channel} of {layer}")
    if estimand == "T1":
        return _single_fault(point, "")
    if estimand == LISTED:
        return "the mean over the trials of a list of faults, which is no sample: no intervals"
    if fault_model == "binomial":
        return (
            f"T2: the expected accuracy A(β) when {_each_site(point)} with probability β = {rate}"
        )
    plain = summaries.has_single_flips(point)
    if fault_model == "per-layer-floor":
        what = "bits of each layer flip" if plain else f"faults hit each tensor{_of(point)}"
        return f"the expected accuracy when ⌊{rate} × {_sites(point)}⌋ {what}"
    what = "bits flip" if plain else f"faults hit a network{_of(point)}"
    return f"the expected accuracy when {fault_model.removeprefix('exact:')} {what} ({fault_model})"


def _single_fault(point: Any, place: str) -> str:
    plain = summaries.has_single_flips(point)
    what = f"bit flip{place}" if plain else f"fault{place}{_of(point)}"
    return (
        f"T1: the probability θ that one uniform {what} makes one uniform test image fail "
        "(SDC-critical, DUE, or either)"
    )


def _sites(point: Any) -> str:
    return "words" if summaries.hits_words(point) else "bits"


def _of(point: Any) -> str:
    """What faults are, and where: "(stuck-at-1; scale)" behind a blank; empty: as usual."""
    parts = summaries.fault_parts(point)
    return f" ({'; '.join(parts)})" if parts else ""


def _each_site(point: Any) -> str:
    """As in "each stored weight bit flips"."""
    if not summaries.fault_parts(point):
        return "each stored weight bit flips"
    stored = f"stored {point.target.replace(',', ', ')}"
    where = OUTPUTS.get(point.target, stored)
    if point.selection:
        where += f" ({point.selection})"
    if point.shape != "bit":
        return f"an event ({point.effect}, {point.shape}) starts at each bit of {where}"
    if _sites(point) == "words":
        return f"each word of {where} is replaced ({point.effect})"
    verb = "flips" if point.effect == "flip" else f"is {point.effect}"
    return f"each bit of {where} {verb}"


# ---- how ---------------------------------------------------------------------------------------


def plan_words(result: Result, point: int) -> str:
    """How the trials of a point were chosen and when they ended."""
    plan = result.plans.loc[point]
    parts = [_sampling_words(result, point, str(plan["sampling"]))]
    if not summaries.is_listed(result, point):
        parts.append(f"Stopping rule: {plan['stop_rule']}.")
    if plan["half_width"] > 0:
        wanted = f"±{100 * plan['half_width']:g} points at {percent(result.confidence, 0)}"
        met = "met" if plan["reached"] else "not met"
        parts.append(f"Wanted half-width: {wanted}: {met}.")
    return " ".join(parts)


def _sampling_words(result: Result, point: int, sampling: str) -> str:
    strata = result.strata[result.strata["point"] == point]
    if summaries.is_listed(result, point):
        return "The trials of the list; none is drawn."
    if sampling == SIMPLE:
        return "Simple sampling: every trial is drawn from the whole population."
    if sampling == STRATIFIED:
        return (
            f"Stratified by {len(strata)} strata: a pilot only decides how many trials each "
            "stratum gets; the estimate is the mean of the strata's means weighted by their shares "
            "of the population."
        )
    if sampling in DIVIDED:
        part = {"layer": "stored tensor", "class": "class of tensors", "bit": "bit of the words"}
        shared = "as many trials of each"
        if sampling.endswith(":allocated"):
            shared = "a pilot decides how many trials of each"
        return (
            f"Stratified by {part[sampling[4:].partition(':')[0]]}, {len(strata)} strata, "
            f"{shared}; each has estimates of its own. The estimate of the whole is the mean of "
            "the strata's means weighted by their shares of the network's population."
        )
    if sampling == ALLOCATED:
        rounds = result.rounds.loc[result.rounds["point"] == point, "round"].nunique()
        return (
            f"Stratified by {len(strata)} strata, allocated in {rounds} "
            f"round{'s' if rounds != 1 else ''} for the half-width; the estimate is the mean of "
            "the strata's means weighted by their shares of the population, with the conservative "
            "interval of MOVER."
        )
    kind = "a guaranteed" if result.plans["guaranteed"][point] else "an asymptotic"
    rounds = result.rounds.loc[result.rounds["point"] == point, "round"].nunique()
    return (
        f"Sequential over {len(strata)} strata: each trial draws its stratum with probabilities "
        f"that follow from earlier rounds ({rounds} so far) and counts inversely to them; "
        f"{kind} confidence sequence decides when to stop."
    )


def unit_words(result: Result) -> str:
    """What is independent of each other, and why."""
    if (result.points["lifetime"] == LISTED).any():
        return "The faults of each trial are listed, for one image or for all."
    if not any(summaries.has_own_faults(result, point) for point in result.points["id"]):
        return "The unit is the trial: all images of a trial share its faults."
    if not summaries.counts_images(result):
        return "The unit is the trial. Each of its images has faults of its own."
    return (
        "Each image of a trial has faults of its own. So the unit is the image where the method "
        "says so, and else the trial."
    )


def block_words(result: Result) -> str:
    """On which images a trial runs."""
    if not len(result.blocks):
        return "Each trial runs on all images."
    blocks, images = count(len(np.unique(result.blocks))), count(len(result.blocks))
    return (
        f"Each trial runs on one of {blocks} random blocks of the {images} images, drawn with "
        "probability proportional to its size."
    )


def plan_rows(result: Result) -> list[dict[str, str]]:
    """One row per point: what, how, how many trials."""
    labels = summaries.point_labels(result)
    rows = []
    for point in result.points.itertuples():
        bounded = summaries.is_bounded(result, point.id)
        rows.append(
            {
                "point": labels[point.id],
                "what": estimand_words(point),
                "how": plan_words(result, point.id),
                "trials": count(0 if bounded else summaries.trials_used(result, point.id)),
                "pilot": count(_pilot(result, point.id)),
                "planned": count(point.trials - int(result.plans["first"].get(point.id, 0))),
            }
        )
    return rows


def _pilot(result: Result, point: int) -> int:
    rows = result.trials[(result.trials["point"] == point) & (result.trials["stage"] == PILOT)]
    return int(rows["id"].nunique())


def strata_rows(result: Result) -> list[dict[str, str]]:
    labels = summaries.point_labels(result)
    return [
        {
            "point": labels.get(row.point, str(row.point)),
            "name": row.name,
            "weight": share(row.weight),
            "cost": f"{row.cost:.3g}",
            "pilot": count(row.pilot),
            "trials": count(row.trials),
            "failing": share(row.failing),
            "interval": interval(row.lower, row.upper, share) if row.trials else "",
            "method": row.method if row.trials else "",
        }
        for row in summaries.strata_table(result).itertuples(index=False)
    ]


# ---- warnings ----------------------------------------------------------------------------------


def notes(result: Result) -> list[str]:
    """What a reader must know before using the numbers."""
    found = [_progress(result), _uncovered(result), _few(result), _not_reached(result)]
    found.append(_without_places(result))
    if result.rows_beyond_plan:
        found.append(
            f"{count(result.rows_beyond_plan)} stored rows lie beyond the trials that count (the "
            "campaign was shortened, or its stopping rule met) and are in no number below."
        )
    mismatches = int(result.audit["mismatches"].sum())
    if mismatches:
        found.append(
            f"The audit found {count(mismatches)} images whose outcome differs from that of the "
            "reference path: the fast engine cannot be trusted here (below, Audit)."
        )
    return [note for note in found if note]


def ranking_notes(sources: Sources) -> list[str]:
    """Ranking files of earlier versions do not name their network."""
    return [
        f"{name} does not say which network it ranks; its channels are taken as this network's."
        for name in sources.unnamed
    ]


def _progress(result: Result) -> str:
    if result.complete:
        return ""
    planned = int((result.points["trials"] * max(1, len(result.models))).sum())
    at_most = "at most " if result.plans["sampling"].isin((SEQUENTIAL, ALLOCATED)).any() else ""
    return (
        f"The campaign is not complete: {count(len(result.trials))} of {at_most}{count(planned)} "
        "rows (trials of a model) are stored, and every number below is of those."
    )


def _uncovered(result: Result) -> str:
    """Stratified plans that have strata without trials: their rows estimate nothing yet."""
    groups = summaries.main_trials(result).groupby(["point", "model"])
    open_points = [point for (point, _), rows in groups if not summaries.is_covered(result, rows)]
    started = set(summaries.main_trials(result)["point"])
    stratified = result.plans.index[
        result.plans["sampling"].isin(BY_STRATA) & (result.points["trials"] > 0)
    ]
    open_points += [point for point in stratified if point not in started]
    if not open_points:
        return ""
    return (
        f"Strata of {_labels(result, open_points)} are still without trials: what the program has "
        "not estimated is left empty."
    )


def _few(result: Result) -> str:
    """Files of earlier versions hold t intervals of few trials."""
    if holds_channels(result):
        return ""
    few = [point for point in result.points.index if _is_t_of_few(result, point)]
    if not few:
        return ""
    return (
        f"Fewer than {ENOUGH_TRIALS} trials at {_labels(result, few)}: the stored t intervals of "
        "so few skewed outcomes may cover less than their nominal level."
    )


def _is_t_of_few(result: Result, point: int) -> bool:
    if result.plans["sampling"][point] != SIMPLE:
        return False
    quantity = summaries.main_quantity(result, point)
    found = [summaries.estimate(result, point, m, quantity) for m in result.models.index]
    return any(0 < one.trials < ENOUGH_TRIALS and one.method == T for one in found)


def _not_reached(result: Result) -> str:
    plans = result.plans
    short = plans.index[(plans["half_width"] > 0) & ~plans["reached"]]
    if not result.complete or not len(short):
        return ""
    return f"The wanted half-width was not reached at {_labels(result, list(short))}."


def _without_places(result: Result) -> str:
    """Why there are no figures by place."""
    if holds_channels(result) or summaries.main_trials(result).empty:
        return ""
    point = failures.chosen_point(result)
    if point is None:
        if (summaries.main_trials(result)["n_faults"] == 0).all():
            return ""
        return (
            "The faults are not stored in the file (--faults-stored yes keeps them). So nothing "
            "tells where they hurt: by class, layout, layer or bit."
        )
    if not failures.tells_places(result, point):
        return (
            "Each image of a trial has faults of its own, and an earlier version of the program "
            "wrote rows without the outcome of each. So nothing tells where they hurt."
        )
    if any(places_of(result, column) for column in ("layer", "bit")):
        return ""
    if summaries.is_listed(result, point):
        where, advice = "In the list", ""
    else:
        where = f"At {summaries.point_labels(result)[point]}"
        advice = " Single faults tell it (--single-bit), or more trials at a lower rate."
    return (
        f"{where} too few trials have a fault in a given layer or bit, or too few have none: what "
        f"one place does cannot be told.{advice}"
    )


def _labels(result: Result, found: list[int]) -> str:
    labels = summaries.point_labels(result)
    return listed([labels[point] for point in dict.fromkeys(found)])


# ---- trials of channel-FI ----------------------------------------------------------------------


def channel_rows(importance: pd.DataFrame, method: str, worst: int = 3) -> list[dict[str, str]]:
    """One row per layer of channel-FI: trials, failing images, the worst channels."""
    rows = []
    for layer, table in importance[importance["method"] == method].groupby("layer", sort=False):
        if table["score"].isna().all():
            continue
        best = table.dropna(subset=["score"]).sort_values("rank").head(worst)
        named = [f"{row.channel} ({_score(row)})" for row in best.itertuples()]
        rows.append(
            {
                "layer": str(layer),
                "channels": count(table["score"].notna().sum()),
                "trials": count(table["trials"].sum()) if table["trials"].notna().any() else "–",
                "failing": share(table["score"].mean()),
                "accuracy": percent(table["accuracy"].mean()),
                "worst": "; ".join(named),
            }
        )
    return rows


def _score(row: Any) -> str:
    bounds = "" if pd.isna(row.lower) else f" {interval(row.lower, row.upper, share)}"
    return f"{share(row.score)}{bounds}"


def channel_methods(result: Result) -> str:
    """How the intervals of channels were made, where the file of the trials says it."""
    if not holds_channels(result):
        return ""
    found = result.estimates.loc[result.estimates["quantity"] == "failing", "method"].unique()
    return f" ({listed(list(found))})" if len(found) else ""


def channel_sentence(result: Result) -> str:
    """For a file of channel-FI's trials, instead of a sentence for each of its points."""
    if not holds_channels(result):
        return ""
    sampled = result.trials["point"].nunique()
    return (
        f"Trials of channel-FI: one flipped bit per trial in the weights of one channel; "
        f"{count(len(result.trials))} trials in {count(sampled)} of {count(len(result.points))} "
        "channels."
    )
