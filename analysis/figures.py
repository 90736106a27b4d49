#!/usr/bin/env python3
"""Figures of a result file, sized for a two-column paper, in colours safe for the colour-blind.

figures.py result.h5 --output figures --format pdf
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import summaries  # noqa: E402
from cli import arguments, run  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter  # noqa: E402
from results import Result  # noqa: E402

# Okabe and Ito's palette; markers and hatches differ too, so that grey prints stay readable.
MODEL_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MODEL_MARKERS = ("o", "s", "^", "D", "v", "P")
OUTCOME_STYLES = {
    "masked": ("masked", "#E6E6E6", ""),
    "sdc_noncritical": ("SDC, not critical", "#56B4E9", ""),
    "sdc_critical": ("SDC-critical", "#E69F00", "///"),
    "due": ("DUE (not finite)", "#000000", ""),
}
COLUMN, PAGE = 3.5, 7.16  # [inch] widths of one and of two columns
MAX_PANELS = 6

STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.5,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
    "svg.hashsalt": "sentinelnn",
}


class FigureKind(NamedTuple):
    """One kind of figure: file name, heading, and how to draw it (nothing: no data for it)."""

    name: str
    title: str
    draw: Callable[[Result], Figure | None]
    caption: Callable[[Result], str]


def accuracy(result: Result) -> Figure | None:
    """Accuracy under faults over BER (over points where faults are counted, not rated)."""
    table = summaries.accuracy_table(result)
    if table.empty:
        return None
    figure = Figure(figsize=(COLUMN, 2.6))
    axes = figure.subplots()
    log = bool((table["ber"] > 0).all())
    labels = summaries.point_labels(result)
    places = None if log else {point: number for number, point in enumerate(labels)}
    for place, model in enumerate(result.models.index):
        rows = table[table["model"] == model]
        if not rows.empty:
            shift = (place - (len(result.models) - 1) / 2) * 0.15
            _accuracy_lines(axes, rows, place, places, shift)
    if log:
        axes.set(xscale="log", xlabel="bit error rate [flips per bit and trial]")
    else:
        axes.set_xticks(range(len(labels)), list(labels.values()))
        axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set(ylabel="accuracy", ylim=(0, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2)
    return figure


def _accuracy_lines(
    axes: Axes, rows: pd.DataFrame, place: int, places: dict[int, int] | None, shift: float
) -> None:
    """One model over BER, or over the given places of the points."""
    colour, marker = _model_style(place)
    log = places is None
    for kind, (fault_model, line) in enumerate(rows.sort_values("ber").groupby("fault_model")):
        x = line["ber"] if places is None else line["point"].map(places) + shift
        several = rows["fault_model"].nunique() > 1 and log
        axes.errorbar(
            x,
            line["estimate"],
            yerr=_error_bars(line),
            color=colour,
            marker=marker,
            linestyle=("-", ":", "-.")[kind % 3] if log else "none",
            capsize=2,
            elinewidth=0.8,
            label=line["model_name"].iloc[0] + (f", {fault_model}" if several else ""),
        )
    free = rows["fault_free"].iloc[0]
    if np.isfinite(free):
        dashes = (place * 4, (4, 4))  # equal accuracies show as alternating dashes
        name = "fault-free" if place == 0 else None
        axes.axhline(free, color=colour, linestyle=dashes, linewidth=0.9, label=name)


def outcomes(result: Result) -> Figure | None:
    """Shares of the four outcomes, one stacked bar per point and model."""
    table = summaries.outcome_table(result)
    if table.empty:
        return None
    labels = summaries.point_labels(result)
    names = result.models["name"]
    height = 0.7 + 0.24 * len(table)
    figure = Figure(figsize=(PAGE, max(1.6, height)))
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
    axes.set(xlabel="share of images, mean over trials", xlim=(0, 1))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return figure


def failures_by_bit(result: Result) -> Figure | None:
    """Effect of a flip by its position in the word."""
    return _failures(result, "bit")


def failures_by_layer(result: Result) -> Figure | None:
    """Effect of a flip by the layer it hits."""
    return _failures(result, "layer")


def _failures(result: Result, column: str) -> Figure | None:
    point = summaries.chosen_point(result)
    if point is None:
        return None
    figure = Figure(figsize=(PAGE, 1.7 * len(result.models) + (0.2 if column == "bit" else 1.1)))
    panels = figure.subplots(len(result.models), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    single = summaries.is_single(_of_point(result, point))
    for place, (model, name) in enumerate(result.models["name"].items()):
        table = summaries.failures_by(result, column, point, model)
        _failure_panel(panels[place], table, place)
        unit = "%" if single else ""
        panels[place].yaxis.set_major_formatter(lambda y, _, unit=unit: f"{100 * y:g}{unit}")
        panels[place].set_title(name, loc="left", fontweight="bold")
        panels[place].set_ylabel("failing images" if single else "more failing images\n[points]")
    if column == "bit":
        panels[-1].set_xlabel("bit of the IEEE-754 word (0 lowest, 23–30 exponent, 31 sign)")
        panels[-1].set_xticks(range(0, 32))
    else:
        panels[-1].set_xticks(range(len(table)), list(table["layer"]), rotation=90)
    return figure


def _failure_panel(axes: Axes, table: pd.DataFrame, place: int) -> None:
    colour, marker = _model_style(place)
    x = np.arange(len(table))
    axes.axhline(0, color="#777777", linewidth=0.6)
    known = np.isfinite(table["lower"]) & np.isfinite(table["estimate"])
    sure = table[known]
    axes.vlines(x, 0, table["estimate"].fillna(0), color=colour, alpha=0.35, linewidth=3)
    axes.errorbar(
        x[known], sure["estimate"], yerr=_error_bars(sure), fmt=marker, color=colour, capsize=1.5,
        markersize=3, elinewidth=0.8,
    )  # fmt: skip
    absent = table["estimate"].isna()
    axes.plot(x[absent], np.zeros(absent.sum()), "x", color="#777777", markersize=3)
    axes.set_xlim(-0.7, len(table) - 0.3)
    axes.grid(axis="x", visible=False)


def importance(result: Result) -> Figure | None:
    """Channel scores of every layer, best first, relative to the layer's best."""
    table = result.importance
    if table.empty:
        return None
    methods = list(table["method"].unique())
    layers = list(table["layer"].unique())
    figure = Figure(figsize=(PAGE, 0.7 + len(methods) * (0.3 + 0.11 * len(layers))))
    panels = figure.subplots(len(methods), 1, squeeze=False)[:, 0]
    for axes, method in zip(panels, methods):
        image = _channel_map(axes, table[table["method"] == method], layers)
        axes.set_title(method, loc="left", fontweight="bold")
    panels[-1].set_xlabel("channels of the layer, best first [share]")
    label = "score / best score of the layer"
    figure.colorbar(image, ax=list(panels), label=label, shrink=0.6, pad=0.01)
    return figure


def _channel_map(axes: Axes, table: pd.DataFrame, layers: list[str]) -> matplotlib.image.AxesImage:
    columns = 128
    grid = np.full((len(layers), columns), np.nan)
    for row, layer in enumerate(layers):
        scores = np.sort(table.loc[table["layer"] == layer, "score"].to_numpy())[::-1]
        if len(scores) and scores[0] > 0:
            grid[row] = scores[np.arange(columns) * len(scores) // columns] / scores[0]
    image = axes.imshow(
        grid, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest",
        extent=(0, 1, len(layers) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_yticks(range(len(layers)), layers, fontsize=5)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(visible=False)
    return image


def convergence(result: Result) -> Figure | None:
    """Mean accuracy of the first n trials with its interval."""
    points = [point for point in result.points["id"] if not _of_point(result, point).empty]
    points = points[:MAX_PANELS]
    if not points:
        return None
    columns = min(3, len(points))
    rows = -(-len(points) // columns)
    figure = Figure(figsize=(PAGE if columns > 1 else COLUMN, 1.9 * rows + 0.3))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    labels = summaries.point_labels(result)
    for axes, point in zip(panels.flat, points):
        axes.set_title(labels[point], loc="left")
        _convergence_panel(axes, result, point)
    for axes in panels.flat[len(points) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("accuracy")
    panels[0, 0].legend(loc="lower left")
    return figure


def _convergence_panel(axes: Axes, result: Result, point: int) -> None:
    for place, (model, name) in enumerate(result.models["name"].items()):
        table = summaries.running_estimates(result, point, model)
        colour, _ = _model_style(place)
        axes.plot(table["trials"], table["estimate"].astype(float), color=colour, label=name)
        lower, upper = table["lower"].astype(float), table["upper"].astype(float)
        axes.fill_between(
            table["trials"].astype(float), lower, upper, color=colour, alpha=0.2, lw=0
        )
    axes.set(xlabel="trials", ylim=(0, 1.02))
    _plain_log(axes)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def timing(result: Result) -> Figure | None:
    """How long trials took, and how the work spread over ranks."""
    if result.trials.empty:
        return None
    figure = Figure(figsize=(PAGE, 2.2))
    left, right = figure.subplots(1, 2)
    _time_histogram(left, result)
    _rank_load(right, result)
    return figure


def _time_histogram(axes: Axes, result: Result) -> None:
    times = result.trials["wall_us"].clip(lower=1) / 1000
    low, high = times.min(), max(times.max(), times.min() * 1.5)
    bins = np.geomspace(low, high * 1.001, 40)
    for place, (model, name) in enumerate(result.models["name"].items()):
        mine = times[result.trials["model"] == model]
        colour, _ = _model_style(place)
        axes.hist(mine, bins, histtype="stepfilled", color=colour, alpha=0.25)
        axes.hist(mine, bins, histtype="step", color=colour, label=name)
    axes.set(xlabel="time of a trial [ms]", ylabel="trials")
    _plain_log(axes)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.legend(loc="best")


def _rank_load(axes: Axes, result: Result) -> None:
    load = summaries.load_table(result)
    ranks = sorted(load["rank"].unique())
    bottom = pd.Series(0.0, index=ranks)
    for place, (session, rows) in enumerate(load.groupby("session")):
        busy = rows.set_index("rank")["busy"].reindex(ranks).fillna(0)
        shade = ("#4D4D4D", "#8C8C8C", "#BFBFBF")[place % 3]
        axes.bar(range(len(ranks)), busy, bottom=bottom, color=shade, label=f"session {session}")
        bottom += busy
    axes.set(xlabel="rank", ylabel="time in trials [s]")
    axes.set_xticks(range(len(ranks)), [str(rank) for rank in ranks])
    if len(ranks) > 24:
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.grid(axis="x", visible=False)
    if load["session"].nunique() > 1:
        axes.legend(loc="lower right", frameon=True)


# ---- captions ----------------------------------------------------------------------------------


def _percent(confidence: float) -> str:
    return f"{100 * confidence:g}\u00a0%"


def _accuracy_caption(result: Result) -> str:
    return (
        "Mean accuracy over trials; images whose logits are not finite count as wrong. Bars: "
        f"{_percent(result.confidence)} intervals over trials. Dashed: fault-free."
    )


def _outcome_caption(result: Result) -> str:
    return (
        "Every image of a trial has exactly one outcome. Masked: logits bitwise those of the "
        "fault-free run; SDC, not critical: other logits, same prediction; SDC-critical: another "
        "prediction; DUE: some logit not finite. Failing: SDC-critical or DUE."
    )


def _failure_caption(result: Result, place: str) -> str:
    point = summaries.chosen_point(result)
    if point is None:
        return ""
    trials = _of_point(result, point)
    label = summaries.point_labels(result)[point]
    counts = f"{len(trials) // max(1, len(result.models))} trials per model at {label}"
    bars = f"Bars: {_percent(result.confidence)} intervals, each for itself alone."
    if summaries.is_single(trials):
        return (
            f"Share of images failing (SDC-critical or DUE) when the one flipped bit is in this "
            f"{place}; {counts}. {bars} With no failure among n trials the upper bound is the rule "
            "of three. ×: fewer than two such trials."
        )
    elsewhere = (
        "Flips elsewhere are alike in both."
        if result.points["fault_model"][point] == "binomial"
        else "The number of flips is fixed: trials without have at least one flip more elsewhere."
    )
    return (
        f"Share of images failing (SDC-critical or DUE) in trials with at least one flip in this "
        f"{place}, minus the share in trials without, in percentage points; {counts}, "
        f"{trials['n_faults'].mean():.3g} flips per trial on average. {elsewhere} {bars} "
        "Where all trials of a group fail alike, the rule of three. ×: fewer than "
        f"{summaries.MIN_GROUP} trials with or without, not compared. Shown is the point of the "
        "campaign in which a given bit position is flipped in nearest to half of the trials."
    )


def _importance_caption(result: Result) -> str:
    return "Scores of the channels of every convolution, sorted, relative to the layer's best."


def _convergence_caption(result: Result) -> str:
    text = (
        "Mean of the first n trials, in the order of their numbers, with the interval of those n. "
        "Each interval holds for its n alone; it is no rule for when to stop."
    )
    if len(result.points) > MAX_PANELS:
        text += f" The first {MAX_PANELS} of {len(result.points)} points."
    return text


def _timing_caption(result: Result) -> str:
    return "Left: wall time of the trials. Right: time every rank spent in trials."


FIGURES = (
    FigureKind("accuracy", "Accuracy under faults", accuracy, _accuracy_caption),
    FigureKind("outcomes", "Outcomes", outcomes, _outcome_caption),
    FigureKind(
        "failures_by_bit",
        "Failures by bit",
        failures_by_bit,
        lambda result: _failure_caption(result, "bit position"),
    ),
    FigureKind(
        "failures_by_layer",
        "Failures by layer",
        failures_by_layer,
        lambda result: _failure_caption(result, "layer"),
    ),
    FigureKind("importance", "Channel importance", importance, _importance_caption),
    FigureKind("convergence", "Convergence", convergence, _convergence_caption),
    FigureKind("timing", "Time and load", timing, _timing_caption),
)


# ---- drawing and writing -----------------------------------------------------------------------


def _of_point(result: Result, point: int) -> pd.DataFrame:
    trials = summaries.main_trials(result)
    return trials[trials["point"] == point]


def _model_style(place: int) -> tuple[str, str]:
    return MODEL_COLOURS[place % len(MODEL_COLOURS)], MODEL_MARKERS[place % len(MODEL_MARKERS)]


def _plain_log(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers, also between the powers of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _error_bars(table: pd.DataFrame) -> np.ndarray:
    below = (table["estimate"] - table["lower"]).clip(lower=0)
    above = (table["upper"] - table["estimate"]).clip(lower=0)
    return np.array([below, above])


def draw(kind: FigureKind, result: Result) -> Figure | None:
    """Draws one figure in the common style; None where the file has no data for it."""
    with matplotlib.rc_context(STYLE):
        return kind.draw(result)


def save(figure: Figure, where: object, extension: str) -> None:
    """Writes a figure to a path or stream; the same result gives the same bytes."""
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}[extension]
    with matplotlib.rc_context(STYLE):
        figure.savefig(where, format=extension, dpi=300, metadata=metadata)


def write_all(result: Result, folder: Path, extension: str) -> list[Path]:
    """Writes every figure the file has data for; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in FIGURES:
        figure = draw(kind, result)
        if figure is not None:
            paths.append(folder / f"{kind.name}.{extension}")
            save(figure, paths[-1], extension)
    return paths


def main(argv: list[str]) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder to write to")
    parser.add_argument("--format", choices=("pdf", "png", "svg"), default="pdf")
    options = parser.parse_args(argv)
    with Result(options.result) as result:
        for path in write_all(result, options.output, options.format):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run(main, sys.argv))
