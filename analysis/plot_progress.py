"""Figures of how the campaign went: convergence of the estimates, time, load."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import summaries
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from plot_style import (
    COLUMN,
    PAGE,
    in_percent,
    model_style,
    models_left_out,
    percent,
    plain_log,
    shown_models,
)
from rankings import Sources, holds_channels
from results import Result
from weights import PILOT, SIMPLE

MAX_PANELS = 6


# ---- convergence -------------------------------------------------------------------------------


def convergence(sources: Sources) -> Figure | None:
    """The estimate over the number of trials with its interval."""
    result = sources.result
    points = _points_with_estimates(result)[:MAX_PANELS]
    if not points:
        return None
    columns = min(3, len(points))
    rows = -(-len(points) // columns)
    figure = Figure(figsize=(PAGE if columns > 1 else COLUMN, 1.75 * rows + 0.4))
    panels = figure.subplots(rows, columns, squeeze=False)
    labels = summaries.point_labels(result)
    explained: set[str] = set()
    for axes, point in zip(panels.flat, points):
        axes.set_title(labels[point], loc="left")
        _convergence_panel(axes, result, point)
        _explain(axes, explained)
    for axes in panels.flat[len(points) :]:
        axes.set_visible(False)
    return figure


def _explain(axes: Axes, explained: set[str]) -> None:
    """A legend of what no earlier panel explains."""
    entries = zip(*axes.get_legend_handles_labels())
    fresh = {name: handle for handle, name in entries if name not in explained}
    if fresh:
        axes.legend(fresh.values(), fresh.keys(), loc="best")
    explained.update(fresh)


def _points_with_estimates(result: Result) -> list[int]:
    if holds_channels(result):
        return []
    models = shown_models(result).index
    return [
        int(point)
        for point in result.points["id"]
        if any(summaries.has_running_estimates(result, point, model) for model in models)
    ]


def _convergence_panel(axes: Axes, result: Result, point: int) -> None:
    quantity = summaries.main_quantity(result, point)
    tables = {
        model: summaries.running_estimates(result, point, model).astype({"method": str})
        for model in shown_models(result).index
    }
    for place, (model, table) in enumerate(tables.items()):
        if not table.empty:
            _band(axes, table, place, str(result.models["name"][model]))
    _stop(axes, result, point, tables)
    axes.set(xlabel="trials", ylabel=f"{summaries.QUANTITIES[quantity]} [%]")
    axes.set_ylim(0, 1.02 if quantity == "accuracy" else _upper_end(tables))
    plain_log(axes)
    in_percent(axes.yaxis)


def _band(axes: Axes, table: pd.DataFrame, place: int, name: str) -> None:
    style = model_style(place)
    numbers = table[["trials", "estimate", "lower", "upper"]].astype(float)
    x, lower, upper = numbers["trials"], numbers["lower"], numbers["upper"]
    axes.plot(
        x, numbers["estimate"], color=style.colour, linestyle=style.line, marker=style.marker,
        markevery=[-1], label=name,
    )  # fmt: skip
    axes.fill_between(x, lower, upper, color=style.colour, alpha=0.2, lw=0)
    if len(numbers) == 1:
        axes.vlines(x, lower, upper, color=style.colour)


def _stop(axes: Axes, result: Result, point: int, tables: dict[int, pd.DataFrame]) -> None:
    """The half-width asked for, beside the last estimates, and where the rule was met."""
    plan = result.plans.loc[point]
    last = [table.iloc[-1] for table in tables.values() if not table.empty]
    if plan["half_width"] <= 0 or not last:
        return
    end = max(float(row["trials"]) for row in last)
    label = f"wanted: ±{100 * plan['half_width']:g} points"
    for row in last:
        axes.errorbar(
            end * 1.25, float(row["estimate"]), yerr=plan["half_width"], color="black", capsize=3,
            elinewidth=0.9, label=label,
        )  # fmt: skip
        label = None
    if plan["reached"]:
        axes.axvline(end, color="#555555", linestyle=":", linewidth=1, label="stopped")


def _upper_end(tables: dict[int, pd.DataFrame]) -> float:
    """Of an axis for shares that may be small: the early, wide intervals are cut."""
    ends = [0.0]
    for table in tables.values():
        if not table.empty:
            late = table[table["trials"] >= table["trials"].max() / 20]
            ends.append(float(late["upper"].max()))
    return 1.05 * min(1.0, max(ends)) or 1.0


def convergence_caption(sources: Sources) -> str:
    result = sources.result
    simple = result.plans["sampling"] == SIMPLE
    level = percent(result.confidence)
    parts = []
    if simple.any():
        families = _families(result, result.points["id"][simple])
        parts.append(
            f"Simple sampling: mean of the first n trials, in the order of their numbers, with the "
            f"{level} interval of those n ({families}); each interval holds for its n alone and is "
            "no rule for when to stop."
        )
    if (~simple).any():
        families = _families(result, result.points["id"][~simple])
        parts.append(
            f"Other plans: the program's estimate, of sequential ones at its looks, with its "
            f"{level} interval ({families}); a confidence sequence holds at all looks together."
        )
    text = " ".join(parts)
    if len(result.points) > MAX_PANELS:
        text += f" The first {MAX_PANELS} of {len(result.points)} points."
    return text + models_left_out(result)


def _families(result: Result, points: Iterable[int]) -> str:
    """How the intervals shown for these points were made."""
    models = shown_models(result).index
    tables = [
        summaries.running_estimates(result, point, model) for point in points for model in models
    ]
    return ", ".join(dict.fromkeys(method for table in tables for method in table["method"]))


# ---- time and load -----------------------------------------------------------------------------


def timing(sources: Sources) -> Figure | None:
    """How long trials took, and how the work spread over ranks."""
    result = sources.result
    if result.trials.empty:
        return None
    models = len(result.models)
    figure = Figure(figsize=(PAGE, max(1.9, 0.7 + 0.18 * models)))
    left, right = figure.subplots(1, 2)
    _times(left, result)
    _rank_load(right, result)
    return figure


def _times(axes: Axes, result: Result) -> None:
    table = summaries.time_table(result)
    names = {"whislo": "low", "q1": "first", "med": "median", "q3": "third", "whishi": "high"}
    least = 1e-3  # [ms] of an axis that has no zero
    boxes = [
        {key: max(least, getattr(row, name)) for key, name in names.items()}
        | {"mean": max(least, row.mean), "fliers": []}
        for row in table.itertuples()
    ]
    axes.bxp(
        boxes, vert=False, showfliers=False, showmeans=True, widths=0.6,
        medianprops={"color": "black"}, boxprops={"linewidth": 0.8},
        meanprops={"marker": "D", "markersize": 3, "markerfacecolor": "#D55E00",
                   "markeredgecolor": "#D55E00"},
    )  # fmt: skip
    axes.set_yticklabels(list(result.models["name"].reindex(table["model"])))
    axes.invert_yaxis()
    axes.set_xlabel("time of a trial [ms]")
    axes.grid(axis="y", visible=False)
    plain_log(axes)


def _rank_load(axes: Axes, result: Result) -> None:
    load = summaries.load_table(result)
    ranks = sorted(load["rank"].unique())
    bottom = pd.Series(0.0, index=ranks)
    for place, (session, rows) in enumerate(load.groupby("session")):
        busy = rows.set_index("rank")["busy"].reindex(ranks).fillna(0)
        shade, hatch = (("#4D4D4D", ""), ("#8C8C8C", "//"), ("#BFBFBF", ".."))[place % 3]
        axes.bar(
            range(len(ranks)), busy, bottom=bottom, color=shade, hatch=hatch, edgecolor="white",
            linewidth=0.3, label=f"session {session}",
        )  # fmt: skip
        bottom += busy
    axes.axhline(float(np.mean(bottom)), color="black", linestyle="--", linewidth=0.8, label="mean")
    axes.set(xlabel="rank", ylabel="time in trials [s]")
    axes.set_xticks(range(len(ranks)), [str(rank) for rank in ranks])
    if len(ranks) > 24:
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def timing_caption(sources: Sources) -> str:
    pilot = ", pilot included" if (sources.result.trials["stage"] == PILOT).any() else ""
    return (
        f"Left: wall time of the trials{pilot}; boxes: quartiles, whiskers: 1 % and 99 %, "
        "diamonds: mean. Right: time every rank spent in trials."
    )
