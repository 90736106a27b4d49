#!/usr/bin/env python3
"""Stored forms of one network: accuracy over the rate of faults, and the memory of each form.

    plot_frontier.py fp32.h5 int8.h5 int4=int4_bch.h5 --output frontier.png

Left: mean accuracy with its interval, one line per form. Right: the largest measured rate up to
which accuracy is kept, over memory. The table goes to stdout (Markdown). Results must be of one
network (`--several-networks` compares more), of the same images and the same kind of fault. A
campaign gives a form for each of its networks, hardened and so on.
"""

from __future__ import annotations

import io
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path

import matplotlib
import pandas as pd
from cli import OneLineParser, run
from frontier import (
    Form,
    Frontier,
    frontier_of,
    kept_words,
    largest_rate,
    markdown,
    points_words,
    rates_of,
)
from hdf5 import ResultError
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from outputs import check_output, write_output
from plot_style import (
    COLUMN,
    PAGE,
    STYLE,
    error_bars,
    in_percent,
    model_style,
    percent,
    save,
    show_names_as_they_are,
)
from rankings import Sources
from results import Result
from text import printable

POINTS = 1.0  # of accuracy that may be lost, where nothing else is said
FORMATS = ("png", "pdf", "svg")


# ---- figure ------------------------------------------------------------------------------------


def draw(frontier: Frontier) -> Figure:
    """Both panels, or the left one alone where memory is not compared."""
    compared = frontier.reference is not None and len(frontier.forms) > 1
    columns = _legend_columns(frontier) if compared else 1
    rows = -(-(len(frontier.forms) + (4 if compared else 2)) // columns)
    legend = 0.17 * rows
    figure = Figure(figsize=(PAGE if compared else COLUMN, 2.5 + legend))
    grid = figure.add_gridspec(2, 2 if compared else 1, height_ratios=[2.5, legend])
    left = figure.add_subplot(grid[0, 0])
    _accuracy(left, frontier)
    if compared:
        _memory(figure.add_subplot(grid[0, 1]), frontier)
    below = figure.add_subplot(grid[1, :])
    below.set_axis_off()
    handles, labels = left.get_legend_handles_labels()
    if compared:
        mark = {"marker": "o", "color": "#555555", "linestyle": "none"}
        handles += [Line2D([], [], **mark), Line2D([], [], markerfacecolor="white", **mark)]
        labels += ["filled: lower end of the interval", "open: mean"]
    below.legend(handles, labels, loc="center", ncols=columns, handlelength=3)
    return figure


def _legend_columns(frontier: Frontier) -> int:
    """As many as fit side by side on a page, at most three."""
    letter, sample = 0.05, 0.6  # [inch], of the legend's font
    longest = max(len(frontier.label(form)) for form in frontier.forms)
    return max(1, min(3, int(PAGE / (sample + letter * max(longest, 30)))))


def _accuracy(axes: Axes, frontier: Frontier) -> None:
    for place, form in enumerate(frontier.forms):
        _line(axes, form, frontier.label(form), place)
    reference = frontier.reference
    if reference is not None:
        lines = {"color": "black", "linewidth": 0.8}
        label = f"{reference.name} without faults"
        axes.axhline(reference.fault_free, linestyle="--", label=label, **lines)
        below = f"{points_words(frontier)} below"
        axes.axhline(frontier.wanted(reference), linestyle=":", label=below, **lines)
    name, unit = frontier.forms[0].rate
    axes.set(xscale="log", ylim=(0, 1.03), xlabel=f"{name} [{unit}]", ylabel="mean accuracy [%]")
    in_percent(axes.yaxis)


def _line(axes: Axes, form: Form, label: str, place: int) -> None:
    style, line = model_style(place), form.line
    alone = len(line) == 1
    axes.errorbar(
        line["ber"], line["estimate"], yerr=error_bars(line) if alone else None, capsize=2,
        color=style.colour, marker=style.marker, linestyle=style.line, label=label,
    )  # fmt: skip
    if not alone:
        bounds = line[["lower", "upper"]].astype(float)
        axes.fill_between(
            line["ber"], bounds["lower"], bounds["upper"], color=style.colour, alpha=0.13, lw=0
        )


def _memory(axes: Axes, frontier: Frontier) -> None:
    assert frontier.reference is not None
    rates = rates_of(frontier)
    none = rates[0] / 4
    for place, form in enumerate(frontier.forms):
        sure, mean = (largest_rate(frontier, form, name) for name in ("lower", "estimate"))
        style, x = model_style(place), frontier.memory(form)
        ends = [none if pd.isna(found.rate) else found.rate for found in (sure, mean)]
        axes.plot([x, x], ends, color=style.colour, linewidth=0.8, alpha=0.6)
        for y, found, face in ((ends[1], mean, "white"), (ends[0], sure, style.colour)):
            axes.plot(
                [x], [y], marker=style.marker, color=style.colour, markerfacecolor=face,
                markersize=5, clip_on=False,
            )  # fmt: skip
            if found.beyond:
                arrow = {"arrowstyle": "->", "color": style.colour, "lw": 0.8, "shrinkA": 4}
                axes.annotate("", (x, y * 4.5), (x, y), arrowprops=arrow, annotation_clip=False)
    axes.set(yscale="log", ylim=(none / 1.7, rates[-1] * 6))
    axes.set_xlabel(f"memory / that of {frontier.reference.name}")
    axes.set_xlim(0, 1.1 * max(frontier.memory(form) for form in frontier.forms))
    axes.axhline(none, color="#777777", linewidth=0.6)
    axes.text(0.01, none, "none", transform=axes.get_yaxis_transform(), va="bottom", fontsize=7)
    label = f"largest {frontier.forms[0].rate[0]} {kept_words(frontier)}"
    axes.set_ylabel(textwrap.fill(label, 34))


def caption(frontier: Frontier) -> str:
    text = (
        f"Mean accuracy over trials on {frontier.images} images; images whose logits are not "
        f"finite count as wrong. Bands: {percent(frontier.confidence)} intervals over trials."
    )
    fails = {form.fails for form in frontier.forms}
    text += f" Faults hit {fails.pop()}." if len(fails) == 1 else " Forms differ in what fails."
    if frontier.reference is None or len(frontier.forms) < 2:
        return text
    return text + (
        " Right: the largest measured rate at which, and at every lower one measured, accuracy is "
        f"{kept_words(frontier)}: filled, the interval's lower end; open, the mean. Nothing is "
        "interpolated. Arrow: at all measured rates, so the limit lies higher. Memory: all stored "
        f"bits over those of {frontier.reference.name}."
    )


# ---- as a figure of a report -------------------------------------------------------------------


def of_sources(sources: Sources) -> Frontier | None:
    """The stored forms of a result with several rates or networks."""
    frontier = frontier_of([("", sources.result)], POINTS / 100, several=True)
    if frontier is None or max(len(frontier.forms), len(rates_of(frontier))) < 2:
        return None
    return frontier


def of_result(sources: Sources) -> Figure | None:
    """The frontier of several networks; the figure of accuracy is enough for one."""
    frontier = of_sources(sources)
    return draw(frontier) if frontier is not None and len(frontier.forms) > 1 else None


def result_caption(sources: Sources) -> str:
    frontier = of_sources(sources)
    return caption(frontier) if frontier is not None else ""


# ---- as a command ------------------------------------------------------------------------------


def named(text: str) -> tuple[str, Path]:
    """NAME=FILE, or a file, which is called by its own name."""
    name, equals, path = text.partition("=")
    if equals and name and not Path(text).exists():
        return name, Path(path)
    return Path(text).stem, Path(text)


def main(argv: list[str]) -> int:
    parser = OneLineParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("result", nargs="+", help="result file, or NAME=FILE to name the form")
    parser.add_argument("-o", "--output", type=Path, default=Path("frontier.png"))
    parser.add_argument(
        "--points", type=float, default=POINTS, metavar="P",
        help="accuracy counts as kept within P percentage points (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--reference", default="", metavar="NAME",
        help="form that the others are compared with (default: the first that is all fp32)",
    )  # fmt: skip
    parser.add_argument(
        "--several-networks", action="store_true",
        help="results may be of different networks; each form is called by its network too",
    )  # fmt: skip
    options = parser.parse_args(argv)
    if not 0 <= options.points <= 100:
        parser.error(f"--points {options.points:g}: give a number from 0 to 100")
    extension = options.output.suffix[1:]
    if extension not in FORMATS:
        parser.error(f"--output {options.output}: give a name ending with .png, .pdf or .svg")
    check_output(options.output, extension)
    with ExitStack() as files:
        files_named = [named(text) for text in options.result]
        results = [(name, files.enter_context(Result(path))) for name, path in files_named]
        frontier = frontier_of(
            results, options.points / 100, options.reference, options.several_networks
        )
        if frontier is None:
            raise ResultError(f"{results[0][1].path}: has no point with a rate of faults")
        write_output(options.output, extension, _bytes(frontier, extension))
    print(printable_lines(frontier))
    print(printable(f"written to {options.output}"))
    return 0


def printable_lines(frontier: Frontier) -> str:
    text = f"{markdown(frontier)}\n\n{caption(frontier)}"
    return "\n".join(printable(line) for line in text.replace("\u00a0", " ").splitlines())


def _bytes(frontier: Frontier, extension: str) -> bytes:
    with matplotlib.rc_context(STYLE):
        figure = draw(frontier)
        show_names_as_they_are(figure)
        stream = io.BytesIO()
        save(figure, stream, extension)
    return stream.getvalue()


if __name__ == "__main__":
    sys.exit(run(main, sys.argv))
