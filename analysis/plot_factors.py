"""Figures of vulnerability factors: layers with intervals, injected shares, channels."""

from __future__ import annotations

import matplotlib
import numpy as np
from factors import Check, Factors
from matplotlib.figure import Figure
from plot_channels import channel_map
from plot_style import (
    COLUMN,
    ROW,
    STYLE,
    error_bars,
    in_percent,
    model_style,
    show_names_as_they_are,
)


def layers(factors: Factors, check: Check | None) -> Figure:
    """LVF of every layer, and what injection found beside it."""
    with matplotlib.rc_context(STYLE):
        table = factors.layers
        figure = Figure(figsize=(COLUMN, 0.9 + 1.3 * ROW * max(4, len(table))))
        axes = figure.subplots()
        y = np.arange(len(table))
        bars = error_bars(table.assign(estimate=table["lvf_lo"]))
        style = model_style(1)
        axes.errorbar(
            table["lvf_lo"], y, xerr=bars, fmt=style.marker, color=style.colour, capsize=2,
            elinewidth=0.8, label="LVF",
        )  # fmt: skip
        if check is not None:
            places = {layer: place for place, layer in enumerate(table["layer"])}
            style = model_style(0)
            axes.errorbar(
                check.table["estimate"], check.table["layer"].map(places) + 0.3,
                xerr=error_bars(check.table), fmt=style.marker, color=style.colour, capsize=2,
                elinewidth=0.8, label="injected",
            )  # fmt: skip
        axes.set_yticks(y, list(table["layer"]))
        axes.set_ylim(len(table) - 0.2, -0.8)
        largest = max(table["lvf_lo"].max(), 0 if check is None else check.table["estimate"].max())
        axes.set_xlim(0, 3 * largest or 1)  # bars of few channels are long
        axes.set_xlabel("images failing by one flip [%]")
        in_percent(axes.xaxis)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        show_names_as_they_are(figure)
        return figure


def layers_caption(factors: Factors, check: Check | None) -> str:
    text = (
        "Squares: LVF, the mean factor of the layer's units; bars: its bracket on the grid of "
        "tolerances, widened by the 95 % interval of the sampling of channels; the longest are cut."
    )
    if factors.layers["lvf_error"].isna().any():
        text += " No bar: one channel was measured, which tells nothing of the others."
    if check is not None:
        text += " Dots: share of failing images under single injected faults, with 95 % intervals."
    return text


def channels(factors: Factors) -> Figure:
    """Mean factor of every channel that was measured."""
    mean = factors.units.groupby(["layer", "row"], sort=False)["vf_lo"].mean().reset_index()
    table = mean.rename(columns={"row": "channel", "vf_lo": "score"}).assign(method="")
    with matplotlib.rc_context(STYLE):
        figure = channel_map(table, "vulnerability [%]")
        show_names_as_they_are(figure)
        return figure


CHANNELS_CAPTION = (
    "Factor of every channel, the mean of its neurons where these were measured. ×, and at the "
    "right: the worst channel of the layer and its value [%]. White: no such channel, or not drawn."
)
