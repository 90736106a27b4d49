"""Figures of what faults do: accuracy, outcomes, failures by class, layout, layer and bit."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import failures
import numpy as np
import pandas as pd
import summaries
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from plot_style import (
    COLUMN,
    PAGE,
    error_bars,
    in_percent,
    model_style,
    models_left_out,
    percent,
    shown_models,
)
from rankings import Sources, holds_channels
from results import Result
from schema import LISTED
from words import bits_in_words

MAX_PANELS = 12
OUTCOME_STYLES = {
    "masked": ("masked", "#E6E6E6", ""),
    "sdc_noncritical": ("SDC, not critical", "#56B4E9", "..."),
    "sdc_critical": ("SDC-critical", "#E69F00", "////"),
    "due": ("DUE (not finite)", "#000000", ""),
}


# ---- accuracy ----------------------------------------------------------------------------------


def accuracy(sources: Sources) -> Figure | None:
    """Accuracy under faults: over BER; one line per model at a single point; over points where
    faults are counted, not rated."""
    result = sources.result
    table = summaries.accuracy_table(result).dropna(subset=["estimate"])
    if table.empty or holds_channels(result):
        return None
    if len(result.points) == 1:
        return _accuracy_at_one_point(result, table)
    legend_rows = -(-(len(result.models) + 1) // 2)
    figure = Figure(figsize=(COLUMN, 2.1 + 0.15 * legend_rows))
    axes = figure.subplots()
    log = bool((table["ber"] > 0).all())
    labels = summaries.point_labels(result)
    places = None if log else {point: number for number, point in enumerate(labels)}
    for place, model in enumerate(result.models.index):
        rows = table[table["model"] == model]
        if not rows.empty:
            shift = (place - (len(result.models) - 1) / 2) * min(0.15, 0.8 / len(result.models))
            _accuracy_lines(axes, rows, place, places, shift)
    if log:
        name, unit = summaries.rate_words(next(result.points.itertuples()))
        axes.set(xscale="log", xlabel=f"{name} [{unit}]")
    else:
        axes.set_xticks(range(len(labels)), list(labels.values()))
        if sum(map(len, labels.values())) > 40:  # they would touch each other
            axes.tick_params(axis="x", rotation=90)
            figure.set_figheight(figure.get_figheight() + 0.055 * max(map(len, labels.values())))
        axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set(ylabel="mean accuracy [%]", ylim=(0, 1.03))
    in_percent(axes.yaxis)
    axes.legend(loc="lower center", bbox_to_anchor=(0.42, 1.0), ncols=2, columnspacing=1)
    return figure


def _accuracy_lines(
    axes: Axes, rows: pd.DataFrame, place: int, places: dict[int, int] | None, shift: float
) -> None:
    """One model over BER, or over the given places of the points."""
    style = model_style(place)
    log = places is None
    for kind, (fault_model, line) in enumerate(rows.sort_values("ber").groupby("fault_model")):
        x = line["ber"] if places is None else line["point"].map(places) + shift
        several = rows["fault_model"].nunique() > 1 and log
        name = line["model_name"].iloc[0] + (f", {fault_model}" if several else "")
        axes.errorbar(
            x, line["estimate"], yerr=error_bars(line), color=style.colour, marker=style.marker,
            linestyle=("-", ":", "-.")[kind % 3] if log else "none", capsize=2, elinewidth=0.8,
            label=name if log or kind == 0 else None,
        )  # fmt: skip
    free = rows["fault_free"].iloc[0]
    if np.isfinite(free):
        dashes = (place * 4, (4, 4))  # equal accuracies show as alternating dashes
        name = "fault-free" if place == 0 else None
        axes.axhline(free, color=style.colour, linestyle=dashes, linewidth=0.9, label=name)


def _accuracy_at_one_point(result: Result, table: pd.DataFrame) -> Figure:
    """Models below each other."""
    figure = Figure(figsize=(COLUMN, 0.85 + 0.17 * len(table)))
    axes = figure.subplots()
    y = np.arange(len(table))
    places = [result.models.index.get_loc(model) for model in table["model"]]
    for row, place in enumerate(places):
        style, line = model_style(place), table.iloc[[row]]
        axes.errorbar(
            line["estimate"], [row], xerr=error_bars(line), color=style.colour,
            marker=style.marker, linestyle="none", capsize=2, elinewidth=0.8,
        )  # fmt: skip
    axes.plot(table["fault_free"], y, "|", color="black", markersize=7, label="fault-free")
    axes.set_yticks(y, list(table["model_name"]))
    axes.invert_yaxis()
    axes.set_xlabel(f"mean accuracy [%] {summaries.at_point(result, table['point'].iloc[0])}")
    in_percent(axes.xaxis)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def accuracy_caption(sources: Sources) -> str:
    result = sources.result
    single = len(result.points) == 1
    level = percent(result.confidence)
    over = "trials x images" if summaries.counts_images(result) else "trials"
    bars = f"Bars: {level} intervals over {over} ({_families(result)}). "
    if any(summaries.is_listed(result, point) for point in result.points["id"]):
        bars = "A list of faults is no sample: there are no intervals. "
    return (
        f"Mean accuracy over trials; images whose logits are not finite count as wrong. {bars}"
        + ("Upright strokes: fault-free." if single else "Dashed: fault-free.")
    )


def _families(result: Result) -> str:
    return ", ".join(summaries.accuracy_table(result)["method"].unique())


# ---- outcomes ----------------------------------------------------------------------------------


def outcomes(sources: Sources) -> Figure | None:
    """Shares of the four outcomes, one stacked bar per point and model."""
    result = sources.result
    table = summaries.outcome_table(result).dropna(subset=list(OUTCOME_STYLES))
    if table.empty or holds_channels(result):
        return None
    labels = summaries.point_labels(result)
    names = result.models["name"]
    figure = Figure(figsize=(PAGE, max(1.3, 0.8 + 0.2 * len(table))))
    axes = figure.subplots()
    left = np.zeros(len(table))
    for outcome, (label, colour, hatch) in OUTCOME_STYLES.items():
        share = table[outcome].to_numpy()
        axes.barh(
            range(len(table)), share, left=left, color=colour, hatch=hatch, label=label,
            edgecolor="white", linewidth=0.5, height=0.78,
        )  # fmt: skip
        left += share
    ticks = [f"{labels[row.point]}, {names[row.model]}" for row in table.itertuples()]
    axes.set_yticks(range(len(table)), ticks)
    axes.set(xlabel="share of images [%]", xlim=(0, max(1, left.max())))
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    in_percent(axes.xaxis)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return figure


def outcome_caption(sources: Sources) -> str:
    text = (
        "Every image of a trial has exactly one outcome. Masked: logits bitwise those of the "
        "fault-free run; SDC, not critical: other logits, same prediction; SDC-critical: another "
        "prediction; DUE: some logit not finite. Failing: SDC-critical or DUE."
    )
    sequential = sources.result.plans.index[sources.result.plans["sampling"] == "sequential"]
    if not set(sequential) <= set(sources.result.centres["point"]):
        text += " Of sequential plans each share is estimated for itself; they need not sum to 100."
    return text


# ---- failures by place -------------------------------------------------------------------------


def failures_by_bit(sources: Sources) -> Figure | None:
    """Effect of a fault by its position in the word that it hit."""
    return _failures(sources.result, "bit")


def failures_by_layer(sources: Sources) -> Figure | None:
    """Effect of a fault by the layer it hits."""
    return _failures(sources.result, "layer")


def failures_by_class(sources: Sources) -> Figure | None:
    """Effect of a fault by the class of stored tensor it hits."""
    return _failures(sources.result, "class")


def failures_by_layout(sources: Sources) -> Figure | None:
    """Effect of a fault by the layout of the word it hits."""
    return _failures(sources.result, "layout")


class Panel(NamedTuple):
    """Outcomes of faults in one model, or in the words of one kind of it."""

    place: int  # of the model
    title: str
    table: pd.DataFrame
    words: failures.Words | None = None


class Places(NamedTuple):
    """The content of a figure by place."""

    point: int
    single: bool  # whether each trial, or image with faults of its own, has one
    panels: list[Panel]


@lru_cache(maxsize=8)
def places_of(result: Result, column: str) -> Places | None:
    """None where the file tells nothing of such places, or of one class or layout alone."""
    point = None if holds_channels(result) else failures.chosen_point(result)
    if point is None or not failures.tells_places(result, point):
        return None
    if column == "bit" and not failures.has_bits(result, point):
        return None
    panels = _panels(result, column, point)[:MAX_PANELS]
    values = {value for panel in panels for value in panel.table[column]}
    several = len(values) > 1 or column in ("bit", "layer")
    if not several or not any(panel.table["estimate"].notna().any() for panel in panels):
        return None
    return Places(point, failures.has_one_fault(result, point), panels)


def _panels(result: Result, column: str, point: int) -> list[Panel]:
    panels = []
    for place, (model, name) in enumerate(shown_models(result).items()):
        kinds = failures.words_of(result, name) if column == "bit" else [None]
        for words in kinds:
            title = f"{name}, {words.name}" if words else name
            table = failures.failures_by(result, column, point, model, words)
            panels.append(Panel(place, title, table, words))
    return panels


def _failures(result: Result, column: str) -> Figure | None:
    found = places_of(result, column)
    if found is None:
        return None
    point, single, shown = found
    alike = len({panel.words for panel in shown}) == 1
    height = (1.15 if alike else 1.35) * len(shown) + (0.45 if column == "bit" else 1.2)
    figure = Figure(figsize=(PAGE, max(1.9, height)))
    axes = figure.subplots(len(shown), 1, sharex=alike, sharey=True, squeeze=False)[:, 0]
    top = max(0.01, *(_upper_end(panel.table) for panel in shown))
    for each, panel in zip(axes, shown):
        _failure_panel(each, panel.table, panel.place)
        each.set_title(panel.title, loc="left", fontweight="bold")
        if single:
            each.set_ylim(-0.04 * top, 1.04 * top)
        in_percent(each.yaxis)
        if column == "bit" and (not alike or each is axes[-1]):
            _bit_axis(each, panel)
    if not single:  # without a bar the axis would have three zeros
        low, high = axes[0].get_ylim()
        axes[0].set_ylim(min(low, -0.01), max(high, 0.01))
    noun = summaries.fault_noun(summaries.point_row(result, point))
    one, several = f"by one {noun}\nin this {column} [%]", f"with a {noun} in this\n{column} minus"
    text = f"images failing {one if single else f'{several} without [points]'}"
    figure.supylabel(text, fontsize=8)
    if column != "bit":
        _named_axis(axes[-1], [str(value) for value in shown[-1].table[column]], column)
    return figure


def _bit_axis(axes: Axes, panel: Panel) -> None:
    bits = len(panel.table)
    axes.set_xticks(range(bits))
    words = panel.words
    parts = bits_in_words(words.layout, words.bits, words.check) if words else ""
    axes.set_xlabel("bit of the word (0 lowest" + (f"; {parts})" if parts else ")"))


def _named_axis(axes: Axes, names: list[str], column: str) -> None:
    """Values of a column; above each other where they would touch."""
    upright = column != "layer" and sum(map(len, names)) < 90
    axes.set_xticks(range(len(names)), names, rotation=0 if upright else 90)
    axes.set_xlabel({"class": "class of stored tensor", "layout": "stored as"}.get(column, column))


def _upper_end(table: pd.DataFrame) -> float:
    """Of an axis for shares: bars of few trials, which say nothing, are cut."""
    many = table[table["with_it"] >= failures.MIN_GROUP]
    return min(1.0, float(np.nanmax([0.01, *table["estimate"], *many["upper"]])))


def _failure_panel(axes: Axes, table: pd.DataFrame, place: int) -> None:
    style = model_style(place)
    x = np.arange(len(table))
    axes.axhline(0, color="#777777", linewidth=0.6)
    known = np.isfinite(table["estimate"])
    sure = table[known]
    axes.vlines(x, 0, table["estimate"].fillna(0), color=style.colour, alpha=0.35, linewidth=3)
    axes.errorbar(
        x[known], sure["estimate"], yerr=error_bars(sure), fmt=style.marker, color=style.colour,
        capsize=1.5, markersize=3, elinewidth=0.8,
    )  # fmt: skip
    absent = table["estimate"].isna()
    axes.plot(x[absent], np.zeros(absent.sum()), "x", color="#777777", markersize=3)
    axes.set_xlim(-0.7, len(table) - 0.3)
    axes.grid(axis="x", visible=False)


def bit_caption(sources: Sources) -> str:
    return _failure_caption(sources.result, "bit position of the words")


def layer_caption(sources: Sources) -> str:
    return _failure_caption(sources.result, "layer")


def class_caption(sources: Sources) -> str:
    return _failure_caption(sources.result, "class of stored tensors")


def layout_caption(sources: Sources) -> str:
    return _failure_caption(sources.result, "layout")


def _of_stored(result: Result) -> str:
    left_out = (summaries.main_trials(result)["faults_stored"] == 0).any()
    return ", of those whose faults are stored" if left_out else ""


def _failure_caption(result: Result, place: str) -> str:
    point = failures.chosen_point(result)
    if point is None:
        return ""
    single = failures.has_one_fault(result, point)
    of_one = _caption_of_one if single else _caption_of_several
    left_out = models_left_out(result)
    kinds = sum(len(failures.words_of(result, name)) for name in shown_models(result))
    if place.startswith("bit") and kinds > MAX_PANELS:
        left_out += f" The first {MAX_PANELS} of {kinds} kinds of words."
    return of_one(result, point, place) + _what_failed(result, point) + left_out


def _what_failed(result: Result, point: int) -> str:
    """The name of a fault, where it is no flip."""
    row = summaries.point_row(result, point)
    if summaries.has_single_flips(row):
        return ""
    if summaries.is_listed(result, point):
        return " The faults are those of a list, which is no sample: there are no intervals."
    what = f" A fault: {'; '.join(summaries.fault_parts(row))}."
    if row.effect.startswith("stuck"):
        what += " One that leaves its bit as it was counts too."
    if row.shape != "bit":
        what += " It hits each of its bits."
    return what


def _bars(result: Result, point: int, families: str) -> str:
    if summaries.is_listed(result, point):
        return ""
    level = percent(result.confidence)
    return f" Bars: {level} intervals, each for itself alone ({families})."


def _caption_of_one(result: Result, point: int, place: str) -> str:
    flips = summaries.has_single_flips(summaries.point_row(result, point))
    noun = "flipped bit" if flips else "fault"
    own = summaries.has_own_faults(result, point)
    families = "Korn-Graubard; with equal shares in all of n trials the rule of three"
    if own:
        families = "Clopper-Pearson over images, or Korn-Graubard where they count unequally"
    if summaries.sampling_of(result, point) != "simple":
        families += ". Strata count by their shares of the population"
    unit = "images" if own else "trials"
    return (
        f"Share of images failing (SDC-critical or DUE) when the one {noun} is in this {place}; "
        f"{_counts(result, point)}.{_bars(result, point, families)} Bars of fewer than "
        f"{failures.MIN_GROUP} {unit} may be cut. ×: fewer than two such {unit}."
    )


def _counts(result: Result, point: int) -> str:
    trials = summaries.trials_used(result, point)
    own = ", each image with faults of its own" if summaries.has_own_faults(result, point) else ""
    return f"{trials} trials per model {summaries.at_point(result, point)}{own}"


def _families_of_several(simple: bool, own_faults: bool) -> str:
    if not simple:
        return (
            "MOVER from Korn-Graubard intervals of those with and without, strata counting by "
            "their shares of the population"
        )
    if own_faults:
        return "MOVER of Clopper-Pearson over images"
    return "two-sample betting; Welch's from 500 trials with and without"


def _caption_of_several(result: Result, point: int, place: str) -> str:
    noun = summaries.fault_noun(summaries.point_row(result, point))
    elsewhere = {
        "binomial": f"{noun.capitalize()}s elsewhere are alike in both.",
        LISTED: f"{noun.capitalize()}s elsewhere are as the list has them.",
    }.get(
        str(result.points["fault_model"][point]),
        f"The number of {noun}s is fixed: trials without have at least one {noun} more elsewhere.",
    )
    own = summaries.has_own_faults(result, point)
    unit = "images" if own else "trials"
    families = _families_of_several(summaries.sampling_of(result, point) == "simple", own)
    flips = summaries.mean_flips(summaries.trials_of(result, point))
    in_units = "among images" if own else "in trials"
    return (
        f"Share of images failing (SDC-critical or DUE) {in_units} with at least one {noun} in this "
        f"{place}, minus the share {in_units} without, in percentage points; "
        f"{_counts(result, point)}, {flips:.3g} {noun}s per trial on average. {elsewhere}"
        f"{_bars(result, point, families)} ×: fewer than {failures.MIN_GROUP} {unit} with or "
        "without, not compared. Shown is the point of the campaign in which a given bit position "
        f"is hit in nearest to half of the {unit}{_of_stored(result)}."
    )
