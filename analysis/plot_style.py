"""The common look of the figures: sizes for a two-column paper, no letter below 7 pt, colours safe
for the colour-blind, and never colour alone: markers, line styles and hatches differ too."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.axis import Axis  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402
from rankings import Sources  # noqa: E402
from results import Result  # noqa: E402

COLUMN, PAGE = 3.4, 7.0  # [inch] widths of one and of two columns
ROW = 0.135  # [inch] height of a line of labels
MAX_MODELS = 6  # shown with a panel or band each

# Okabe and Ito's palette.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))

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


class ModelStyle(NamedTuple):
    colour: str
    marker: str
    line: object


class FigureKind(NamedTuple):
    """One kind of figure: file name, heading, and how to draw it (None: no data for it)."""

    name: str
    title: str
    draw: Callable[[Sources], Figure | None]
    caption: Callable[[Sources], str]


def model_style(place: int) -> ModelStyle:
    """Of the model at this place in the file."""
    return ModelStyle(
        _COLOURS[place % len(_COLOURS)],
        _MARKERS[place % len(_MARKERS)],
        _LINES[place % len(_LINES)],
    )


def shown_models(result: Result) -> pd.Series:
    """Names of the models that get a panel or a band."""
    return result.models["name"].iloc[:MAX_MODELS]


def models_left_out(result: Result) -> str:
    """For captions."""
    total = len(result.models)
    return f" The first {MAX_MODELS} of {total} models." if total > MAX_MODELS else ""


def percent(confidence: float) -> str:
    return f"{100 * confidence:g}\u00a0%"


def plain_log(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers, also between the powers of ten where they fit."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 60 * low else (1,)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def in_percent(axis: Axis) -> None:
    """Shares as numbers of percent; the unit is in the label."""
    axis.set_major_formatter(lambda share, _: f"{round(100 * share, 9):g}".replace("-", "−"))


def error_bars(table: pd.DataFrame) -> np.ndarray:
    """Lengths below and above the estimate; none where there is no interval."""
    below = (table["estimate"] - table["lower"]).astype(float).clip(lower=0)
    above = (table["upper"] - table["estimate"]).astype(float).clip(lower=0)
    return np.array([below.fillna(0), above.fillna(0)])


def _without_formulas(text: str) -> str:
    """Labels of matplotlib's own are formulas; in names from files a $ is a $."""
    return text if text.startswith(r"$\mathdefault") else text.replace("$", r"\$")


def _escaping(labels: Callable[..., str]) -> Callable[..., str]:
    return lambda *place: _without_formulas(labels(*place))


def show_names_as_they_are(figure: Figure) -> None:
    """Two $ would begin and end a formula, whose errors end the program. Once per figure."""
    axes = [axis for each in figure.axes for axis in (each.xaxis, each.yaxis)]
    for formatter in {axis.get_major_formatter() for axis in axes}:  # panels may share one
        if isinstance(formatter, FuncFormatter):  # of names along an axis
            formatter.func = _escaping(formatter.func)
    for text in figure.findobj(Text):
        text.set_text(_without_formulas(text.get_text()))


def save(figure: Figure, where: object, extension: str) -> None:
    """Writes a figure to a path or stream; the same result gives the same bytes."""
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}[extension]
    with matplotlib.rc_context(STYLE):
        figure.savefig(where, format=extension, dpi=300, metadata=metadata)
