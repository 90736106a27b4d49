"""The page about vulnerability factors (report.py FACTORS.h5 [--against RESULT.h5])."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import plot_factors
from factors import CONFIDENCE, Check, Factors, check_against, read_factors
from matplotlib.figure import Figure
from results import Result
from text import correlation, count, interval, percent, points, share

Card = Callable[[Figure, str, str], dict[str, Any]]


def content(path: Path, against: Path | None, card: Card) -> dict[str, Any]:
    """What the template is given; `card` makes an inline image of a figure."""
    factors = read_factors(path)
    check = None
    if against is not None:
        with Result(against) as result:
            check = check_against(factors, result)
    attributes = factors.attributes
    return {
        "title": f"Vulnerability of {attributes.get('architecture')}",
        "file": path.name,
        "what": what_words(factors),
        "model": model_sentence(factors),
        "checked": check_sentences(factors, check),
        "rows": rows_of(factors, check),
        "against": against.name if against else "",
        "figures": [
            card(
                plot_factors.layers(factors, check),
                "Layers",
                plot_factors.layers_caption(factors, check),
            ),
            card(plot_factors.channels(factors), "Channels", plot_factors.CHANNELS_CAPTION),
        ],
        "provenance": sorted((key, str(value)) for key, value in attributes.items()),
    }


def what_words(factors: Factors) -> str:
    told = factors.attributes
    units = "channels" if told.get("units") == "channel" else "neurons"
    words = f"Factors of {units} under single flips of {factors.kind}, {told.get('images')} images"
    words += f" of {told.get('dataset')}"
    if told.get("sampled"):
        words += f", {percent(float(told['sample']), 1)} of the channels drawn"
    words += f"; {told.get('search')} search of tolerances"
    words += " up to 1024" if told.get("limited") else ""
    return words + "."


def model_sentence(factors: Factors) -> str:
    told = factors.attributes
    weighted, plain = (
        f"{share(told[f'{name}_lo'])} to {share(told[f'{name}_hi'])} "
        f"(standard error of the sampling {share(told[f'{name}_error'])})"
        for name in ("mvf", "mvf_unweighted")
    )
    return (
        f"MVF, the share of images that one uniform flip makes fail: {weighted}; the mean of "
        f"layers without weights: {plain}."
    )


def check_sentences(factors: Factors, check: Check | None) -> list[str]:
    if check is None:
        kind = "unchecked: operands cannot be injected." if factors.kind == "operands" else ""
        return [kind or "unchecked: no result of injected faults is given (--against)."]
    told, table = factors.attributes, check.table
    whole, lower, upper = check.whole
    meet = f"{count(table['meets'].sum())} of {count(table['meets'].notna().sum())}"
    return [
        f"By injection one uniform fault makes {share(whole)} {interval(lower, upper, share)} of "
        f"the images fail, by factors {share(told['mvf_lo'])} to {share(told['mvf_hi'])}.",
        f"Mean absolute error of the layers' factors: {percent(check.error)} over "
        f"{count(len(table))} layers; the intervals of {meet} layers meet.",
        "Spearman's rank correlation over layers, with a "
        f"{percent(CONFIDENCE, 0)} interval by layers drawn again: "
        f"{correlation(*check.correlation)}.",
    ]


def rows_of(factors: Factors, check: Check | None) -> list[dict[str, str]]:
    injected = {} if check is None else check.table.set_index("layer").to_dict("index")
    rows = []
    for row in factors.layers.itertuples():
        cells = {
            "layer": row.layer,
            "units": f"{count(row.units)} of {count(row.rows * row.positions)}",
            "factor": share(row.lvf_lo),
            "interval": interval(row.lower, row.upper, share),
            "injected": "–",
            "injected_interval": "",
            "difference": "–",
        }
        if found := injected.get(row.layer):
            cells["injected"] = share(found["estimate"])
            cells["injected_interval"] = interval(found["lower"], found["upper"], share)
            cells["difference"] = points(row.lvf_lo - found["estimate"])
        rows.append(cells)
    return rows
