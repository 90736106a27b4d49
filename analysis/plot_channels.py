"""Figures of channels: importance by method, agreement of the methods, vulnerability."""

from __future__ import annotations

from typing import Any

import agreement
import matplotlib
import numpy as np
import pandas as pd
import rankings
from agreement import CHANNEL_FI
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from plot_style import COLUMN, PAGE, ROW, in_percent, percent
from rankings import Sources
from text import correlation

PER_ROW = 6  # methods side by side
SAMPLES = 128  # of a layer's channels, in the figure of importance


# ---- importance --------------------------------------------------------------------------------


def importance(sources: Sources) -> Figure | None:
    """Channel scores of every layer, best first, relative to the layer's best."""
    table = sources.importance
    if table.empty:
        return None
    methods = list(table["method"].unique())
    layers = agreement.layers_in_order(table)
    columns = min(PER_ROW, len(methods))
    rows = -(-len(methods) // columns)
    width = PAGE if columns > 2 else COLUMN
    figure = Figure(figsize=(width, rows * (0.75 + ROW * max(8, len(layers)))))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, method in zip(panels.flat, methods):
        image = _profile(axes, table[table["method"] == method], layers)
        axes.set_title(_wrapped(method), loc="left", fontsize=7)
    for axes in panels.flat[len(methods) :]:
        axes.set_visible(False)
    figure.supxlabel("channels of the layer, best first [%]", fontsize=8)
    figure.colorbar(image, ax=panels, label="score / layer's best", pad=0.02, aspect=30)
    return figure


def _wrapped(method: str) -> str:
    """A method told apart by its file, on two lines."""
    return method.replace(" (", "\n(")


def _profile(axes: Axes, table: pd.DataFrame, layers: list[str]) -> matplotlib.image.AxesImage:
    grid = np.full((len(layers), SAMPLES), np.nan)
    for row, layer in enumerate(layers):
        scores = table.loc[table["layer"] == layer, "score"].dropna().to_numpy(float)
        scores = np.sort(scores)[::-1]
        if len(scores) and scores[0] > 0:
            grid[row] = scores[np.arange(SAMPLES) * len(scores) // SAMPLES] / scores[0]
    image = axes.imshow(
        grid, aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="nearest",
        extent=(0, 1, len(layers) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_facecolor("#DDDDDD")
    axes.set_yticks(range(len(layers)), layers)
    axes.set_xticks([0, 0.5, 1])
    in_percent(axes.xaxis)
    axes.grid(visible=False)
    return image


def importance_caption(sources: Sources) -> str:
    return (
        "Scores of the channels of every convolution, sorted, relative to the layer's best; light "
        "is important. Grey: not scored, or no score above zero."
    )


# ---- agreement ---------------------------------------------------------------------------------


def rank_correlation(sources: Sources) -> Figure | None:
    """Spearman's rank correlation of the methods with the reference, layer by layer."""
    found = rankings.agreement_of(sources)
    if found is None:
        return None
    reference = agreement.reference_of(sources.importance["method"].unique())
    methods, layers = list(found["method"].unique()), list(found["layer"].unique())
    wide = len(methods) > 1
    figure = Figure(figsize=(PAGE if wide else COLUMN, 1.1 + ROW * len(layers)))
    axes = figure.subplots()
    for row in found.itertuples():
        _agreement_cell(axes, row, methods, layers, len(methods) <= PER_ROW)
    axes.set(xlim=(-0.5, len(methods) - 0.5), ylim=(len(layers) - 0.5, -0.5))
    axes.axhline(len(layers) - 1.5, color="black", linewidth=0.8)
    axes.set_yticks(range(len(layers)), layers)
    axes.set_xticks(range(len(methods)), [_wrapped(name) for name in methods])
    axes.tick_params(axis="x", rotation=0 if len(methods) <= PER_ROW else 90)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_title(f"rank correlation with {reference}")
    return figure


def _agreement_cell(
    axes: Axes, row: Any, methods: list[str], layers: list[str], with_interval: bool
) -> None:
    """Coloured by the correlation; grey where it says nothing."""
    x, y = methods.index(row.method), layers.index(row.layer)
    known = np.isfinite(row.estimate) and not row.noise
    fill = matplotlib.colormaps["RdBu"]((row.estimate + 1) / 2) if known else "#DDDDDD"
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=fill, edgecolor="none"))
    bounds = (row.lower, row.upper) if with_interval else (np.nan, np.nan)
    colour = "#777777" if row.noise else "white" if abs(row.estimate) > 0.6 else "black"
    text = correlation(row.estimate, *bounds)
    axes.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)


def correlation_caption(sources: Sources) -> str:
    found = rankings.agreement_of(sources)
    if found is None:
        return ""
    reference = agreement.reference_of(sources.importance["method"].unique())
    over = "flips drawn again" if (found["over"] == "flips").any() else "channels drawn again"
    text = (
        f"Spearman's rank correlation of the channels' scores with those of {reference}, layer by "
        f"layer, and the mean over layers, with {percent(sources.result.confidence)} intervals by "
        f"bootstrap ({over}). –: no such layer, or equal scores throughout."
    )
    if found["noise"].any():
        text += (
            f" Grey: the errors of {reference}'s scores make up more than half of their "
            "variance, so that the number says little."
        )
    return text


# ---- vulnerability -----------------------------------------------------------------------------


def vulnerability(sources: Sources) -> Figure | None:
    """Vulnerability of every channel, layers below each other; the worst channel by number."""
    table = _vulnerability(sources)
    return None if table.empty else channel_map(table, _unit(table))


def channel_map(table: pd.DataFrame, unit: str) -> Figure:
    """Scores of channels (method, layer, channel, score), which are shares."""
    layers = agreement.layers_in_order(table)
    grid = np.full((len(layers), int(table["channel"].max()) + 1), np.nan)
    rows = table["layer"].map({layer: row for row, layer in enumerate(layers)})
    grid[rows, table["channel"].astype(int)] = table["score"]
    figure = Figure(figsize=(PAGE, 0.9 + ROW * max(8, len(layers))))
    axes = figure.subplots()
    image = axes.imshow(
        grid, aspect="auto", cmap="cividis_r", vmin=0, vmax=np.nanmax(grid) or 1,
        interpolation="nearest",
    )  # fmt: skip
    _mark_worst(axes, grid)
    axes.set_yticks(range(len(layers)), layers)
    axes.set(xlabel="channel")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False)
    bar = figure.colorbar(image, ax=axes, label=unit, aspect=30, pad=0.13)
    in_percent(bar.ax.yaxis)
    return figure


def _mark_worst(axes: Axes, grid: np.ndarray) -> None:
    """A cross on the worst channel of every layer, its number and value at the right."""
    right = axes.secondary_yaxis("right")
    labels = []
    for row, scores in enumerate(grid):
        worst = int(np.nanargmax(scores))
        labels.append(f"{worst}: {100 * scores[worst]:.3g}")
        axes.plot(worst, row, "x", color="black", markersize=3.5, markeredgewidth=1.4)
        axes.plot(worst, row, "x", color="white", markersize=3, markeredgewidth=0.7)
    right.set_yticks(range(len(grid)), labels)
    axes.text(1.01, 1.01, "worst [%]", transform=axes.transAxes, va="bottom", fontsize=7)
    right.tick_params(length=0)
    right.spines[:].set_visible(False)


def _vulnerability(sources: Sources) -> pd.DataFrame:
    """Scores that are shares in themselves: of channel-FI, else of deepvigor."""
    table = sources.importance
    for method in agreement.REFERENCES:
        mine = table[table["method"] == method].dropna(subset=["score"])
        if not mine.empty:
            return mine
    return table.iloc[:0]


def _unit(table: pd.DataFrame) -> str:
    return "failing images [%]" if table["method"].iloc[0] == CHANNEL_FI else "vulnerability [%]"


def vulnerability_caption(sources: Sources) -> str:
    table = _vulnerability(sources)
    if table["method"].iloc[0] != CHANNEL_FI:
        what = "Vulnerability of every channel as deepvigor predicts it, without injected faults."
    else:
        what = "Share of images failing (SDC-critical or DUE) under single flips in a channel's "
        what += "weights, by channel-FI."
        trials = table["trials"].dropna()
        if not trials.empty:
            half = ((table["upper"] - table["lower"]) / 2).median()
            least, most = int(trials.min()), int(trials.max())
            what += f" {least}" + (f" to {most}" if most > least else "")
            what += " trials per channel; the median "
            what += f"half-width of the {percent(sources.result.confidence)} intervals is "
            what += f"{100 * half:.2g} points."
    return (
        f"{what} ×, and at the right: the worst channel of the layer and its value [%]. White: no "
        "such channel, or not sampled."
    )
