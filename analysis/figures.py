#!/usr/bin/env python3
"""Figures of a result file for a two-column paper: PDF and PNG, no letter below 7 pt.

figures.py result.h5 --output figures                     all of them, PDF and PNG
figures.py result.h5 accuracy -o accuracy.pdf             one of them
figures.py result.h5 rank_correlation --rankings l2-norm.h5 channel-FI.h5 -o agreement.pdf
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import plot_channels
import plot_faults
import plot_frontier
import plot_progress
import report_design
from cli import arguments, run, warn
from hdf5 import ResultError
from matplotlib.figure import Figure
from outputs import check_folder, check_output, write_output
from plot_style import STYLE, FigureKind, save, show_names_as_they_are
from rankings import Sources, sources_of
from results import Result
from text import printable

FIGURES = {
    kind.name: kind
    for kind in (
        FigureKind(
            "accuracy",
            "Accuracy under faults",
            plot_faults.accuracy,
            plot_faults.accuracy_caption,
        ),
        FigureKind("outcomes", "Outcomes", plot_faults.outcomes, plot_faults.outcome_caption),
        FigureKind(
            "failures_by_bit",
            "Failures by bit",
            plot_faults.failures_by_bit,
            plot_faults.bit_caption,
        ),
        FigureKind(
            "failures_by_layer",
            "Failures by layer",
            plot_faults.failures_by_layer,
            plot_faults.layer_caption,
        ),
        FigureKind(
            "failures_by_class",
            "Failures by class of stored tensor",
            plot_faults.failures_by_class,
            plot_faults.class_caption,
        ),
        FigureKind(
            "failures_by_layout",
            "Failures by layout",
            plot_faults.failures_by_layout,
            plot_faults.layout_caption,
        ),
        FigureKind(
            "frontier",
            "Stored forms: accuracy, faults and memory",
            plot_frontier.of_result,
            plot_frontier.result_caption,
        ),
        FigureKind(
            "vulnerability",
            "Vulnerability of channels",
            plot_channels.vulnerability,
            plot_channels.vulnerability_caption,
        ),
        FigureKind(
            "importance",
            "Importance of channels",
            plot_channels.importance,
            plot_channels.importance_caption,
        ),
        FigureKind(
            "rank_correlation",
            "Agreement of the importance methods",
            plot_channels.rank_correlation,
            plot_channels.correlation_caption,
        ),
        FigureKind(
            "convergence",
            "Convergence",
            plot_progress.convergence,
            plot_progress.convergence_caption,
        ),
        FigureKind("timing", "Time and load", plot_progress.timing, plot_progress.timing_caption),
    )
}
FORMATS = ("pdf", "png", "svg")


def draw(name: str, sources: Sources) -> Figure | None:
    """Draws one figure in the common style; None where the file has no data for it."""
    with matplotlib.rc_context(STYLE):
        figure = FIGURES[name].draw(sources)
    if figure is not None:
        show_names_as_they_are(figure)
    return figure


def write_all(
    sources: Sources, names: Iterable[str], folder: Path, formats: Iterable[str]
) -> list[Path]:
    """Writes the figures that the file has data for; returns the paths."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        for extension in formats:
            check_output(folder / f"{name}.{extension}", extension)
    paths = []
    for name in names:
        figure = draw(name, sources)
        for extension in formats if figure is not None else ():
            paths.append(folder / f"{name}.{extension}")
            write_figure(figure, paths[-1], extension)
    return paths


def write_figure(figure: Figure, path: Path, extension: str) -> None:
    stream = io.BytesIO()
    save(figure, stream, extension)
    write_output(path, extension, stream.getvalue())


def write_one(sources: Sources, name: str, path: Path) -> None:
    """Writes one figure, in the format that the path ends with."""
    check_output(path, path.suffix[1:])
    figure = draw(name, sources)
    if figure is None:
        raise ResultError(f"{sources.result.path}: holds nothing for the figure {name}")
    write_figure(figure, path, path.suffix[1:])


def main(argv: list[str]) -> int:
    parser = arguments(__doc__)
    parser.add_argument(
        "figure", nargs="*", help=f"which ones (default: all): {', '.join(FIGURES)}"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("figures"),
        help="folder, or for one figure a file ending with .pdf, .png or .svg",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=FORMATS, nargs="+", default=FORMATS[:2], help="in the folder"
    )
    options = parser.parse_args(argv)
    for name in options.figure:
        if name not in FIGURES:
            parser.error(f"no figure {name}; there are {', '.join(FIGURES)}")
    single = options.output.suffix[1:] in FORMATS
    if single and len(options.figure) != 1:
        parser.error(f"--output {options.output} is one file; name one figure, or give a folder")
    with Result(options.result) as result:
        sources = sources_of(result, options.rankings)
        for note in report_design.ranking_notes(sources):
            warn(f"figures.py: {note}")
        if single:
            write_one(sources, options.figure[0], options.output)
            paths = [options.output]
        else:
            names = options.figure or FIGURES
            paths = write_all(sources, names, options.output, options.format)
    for path in paths:
        print(printable(str(path)))
    return 0


if __name__ == "__main__":
    sys.exit(run(main, sys.argv))
