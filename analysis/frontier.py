"""Stored forms of one network: accuracy over the rate of faults, and the memory that it costs.

A form is a network as it is stored, with what of its memory fails. Forms come from one result or
from several, all of the same images and the same kind of fault. Where several networks are wanted
on one picture, the name of each form begins with that of its network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import storage
import summaries
from hdf5 import ResultError, json_object
from rankings import holds_channels
from results import Result
from schema import STORED
from text import count

NAN = float("nan")
LINE = ["ber", "estimate", "lower", "upper", "trials", "method"]
ROUNDING = 1e-9
UNPROTECTED = "unprotected"  # what campaigns call the network that the others were made from


class Network(NamedTuple):
    """What all stored forms of a network share. Protection keeps the names of layers; training goes
    on with the same network."""

    architecture: str  # "" where the file does not tell
    layers: frozenset[str]  # convolutions and linear layers


class Form(NamedTuple):
    """`line`: accuracy with its interval by rate, ascending (columns LINE)."""

    name: str
    network: Network
    stored: str
    fails: str  # classes and parts of the memory that faults hit
    plain: bool  # all fp32
    stored_bits: float
    bits_per_weight: float
    fault_free: float
    line: pd.DataFrame
    rate: tuple[str, str]  # its name and unit


class Frontier(NamedTuple):
    """`reference`: the fp32 network, where there is one; the others are compared with it."""

    forms: list[Form]
    reference: Form | None
    points: float  # accuracy that may be lost, as a share
    confidence: float
    images: int

    def wanted(self, form: Form) -> float:
        """The accuracy that a form must keep."""
        return (self.reference or form).fault_free - self.points

    def memory(self, form: Form) -> float:
        """Relative to the reference; not a number without one."""
        return form.stored_bits / self.reference.stored_bits if self.reference else NAN

    def label(self, form: Form) -> str:
        """The form's name, and what fails where that is not the same in all forms."""
        alike = len({other.fails for other in self.forms}) == 1
        return form.name if alike else f"{form.name}, faults in {form.fails}"


class Largest(NamedTuple):
    """The largest measured rate up to which accuracy is kept at every measured rate; not a number
    where it is at none. `beyond`: it is at all of them, so that the limit lies higher. `lost`: it
    is not kept without faults either."""

    rate: float
    beyond: bool
    lost: bool


def forms_of(result: Result, label: str = "") -> list[Form]:
    """One per network and kind of fault; empty where no point has a rate."""
    if holds_channels(result):
        return []
    table = summaries.accuracy_table(result).dropna(subset=["estimate"])
    table = table[_with_rate(table)]
    forms = []
    for model, rows in table.groupby("model"):
        name = str(result.models["name"][model])
        if label:
            name = label if len(result.models) == 1 else f"{label}: {name}"
        forms.append(_form(result, int(str(model)), name, rows))
    return forms


def _with_rate(points: pd.DataFrame) -> pd.Series:
    return (points["ber"] > 0) & points["fault_model"].map(summaries.has_rate)


def _form(result: Result, model: int, name: str, rows: pd.DataFrame) -> Form:
    if rows["ber"].duplicated().any():
        raise ResultError(
            f"{result.path}: has a rate twice, by {' and '.join(rows['fault_model'].unique())}; "
            "give a result of one --fault-count"
        )
    point = summaries.point_row(result, rows["point"].iloc[0])
    images = int(result.models["images"][model])
    if images == 0:
        raise ResultError(f"{result.path}: does not tell the fault-free accuracy of {name}")
    target = point.target.split(",")
    fails = "all parameters" if set(target) == set(STORED) else ", ".join(target)
    return Form(
        name,
        network_of(result, model),
        storage.stored_as(result, model),
        fails + (f" ({point.selection})" if point.selection else ""),
        storage.is_plain(result, model),
        storage.stored_bits(result, model),
        storage.bits_per_weight(result, model),
        float(result.models["correct"][model] / images),
        rows.sort_values("ber")[LINE].reset_index(drop=True),
        summaries.rate_words(point),
    )


def network_of(result: Result, model: int) -> Network:
    name = str(result.models["name"][model])
    record = json_object(result.models["structure"][model])
    nodes = result.nodes(name)
    layers = nodes.loc[nodes["op"].isin(storage.WEIGHTED), "name"]
    return Network(str(record.get("architecture", "")), frozenset(layers))


def frontier_of(
    results: Sequence[tuple[str, Result]],
    points: float = 0.01,
    reference: str = "",
    several: bool = False,
) -> Frontier | None:
    """The frontier of results and their labels. `reference`: name of the form that the others are
    compared with; else `unprotected`, or the first that is all fp32. `several`: forms may be of
    different networks. None where no result has a rate. ResultError where results cannot be
    compared."""
    forms: list[Form] = []
    for label, result in results:
        found = forms_of(result, label)
        if not found:
            if len(results) == 1:
                return None
            raise ResultError(f"{result.path}: has no point with a rate of faults")
        _check_comparable(result, results[0][1], found[0], forms)
        forms += found
        if not several:
            _check_one_network(result, results[0][1], forms)
    first = results[0][1]
    forms = _told_apart(_by_network(forms))
    images = int(first.models["images"].iloc[0])
    return Frontier(forms, _reference(forms, reference), points, first.confidence, images)


def _check_comparable(result: Result, first: Result, form: Form, forms: list[Form]) -> None:
    own, other = (r.provenance.get("images_sha256", "") for r in (result, first))
    if own != other:
        raise ResultError(
            f"{result.path}: is of other images than {first.path}; accuracies on different images "
            "are not compared"
        )
    if result.confidence != first.confidence:
        raise ResultError(
            f"{result.path}: has intervals of {100 * result.confidence:g} %, and {first.path} of "
            f"{100 * first.confidence:g} %"
        )
    columns = ["effect", "shape", "fault_model"]
    kinds = [r.points.loc[_with_rate(r.points), columns].iloc[0].tolist() for r in (result, first)]
    if kinds[0] != kinds[1] or (forms and form.rate != forms[0].rate):
        raise ResultError(
            f"{result.path}: its faults are {', '.join(kinds[0])}, and those of {first.path} "
            f"{', '.join(kinds[1])}; their rates are not compared"
        )


def _check_one_network(result: Result, first: Result, forms: list[Form]) -> None:
    own = forms[0].network
    other = next((form for form in forms if form.network != own), None)
    if other is None:
        return
    raise ResultError(
        f"{result.path}: {other.name} is of {_words_of(other.network, own)}, and "
        f"{forms[0].name} of {first.path} is of {_words_of(own, other.network)}; a frontier is of "
        "one network (--several-networks compares them)"
    )


def _words_of(network: Network, other: Network) -> str:
    """Which network it is, so that it differs from another."""
    if network.architecture and network.architecture != other.architecture:
        return network.architecture
    name = network.architecture or "a network"
    own = sorted(network.layers - other.layers)
    return f"{name} with layer {own[0]}" if own else f"{name} with {len(network.layers)} layers"


def _by_network(forms: list[Form]) -> list[Form]:
    """Forms of several networks are called by their network too."""
    networks = list(dict.fromkeys(form.network for form in forms))
    if len(networks) == 1:
        return forms
    names = [network.architecture or "network" for network in networks]
    names = [
        name if names.count(name) == 1 else f"{name} ({number})"
        for number, name in enumerate(names, 1)
    ]
    return [
        form._replace(name=f"{names[networks.index(form.network)]}: {form.name}") for form in forms
    ]


def _told_apart(forms: list[Form]) -> list[Form]:
    """Names that are there twice get their number."""
    names = [form.name for form in forms]
    return [
        form if names.count(form.name) == 1 else form._replace(name=f"{form.name} ({number})")
        for number, form in enumerate(forms, 1)
    ]


def _reference(forms: list[Form], name: str) -> Form | None:
    wanted = [form for form in forms if (form.name == name if name else form.plain)]
    if name and not wanted:
        known = ", ".join(form.name for form in forms)
        raise ResultError(f"--reference {name}: no form has this name; there are {known}")
    first = [form for form in wanted if form.name.split(": ")[-1] == UNPROTECTED] or wanted
    return first[0] if first else None


def largest_rate(frontier: Frontier, form: Form, column: str) -> Largest:
    """By "lower": where the interval lies above the wanted accuracy; by "estimate": the mean."""
    kept = form.line[column] >= frontier.wanted(form) - ROUNDING
    held = int(kept.cumprod().sum())
    rate = float(form.line["ber"].iloc[held - 1]) if held else NAN
    lost = form.fault_free < frontier.wanted(form) - ROUNDING
    return Largest(rate, held == len(kept), lost)


# ---- table -------------------------------------------------------------------------------------


def rates_of(frontier: Frontier) -> list[float]:
    return sorted({rate for form in frontier.forms for rate in form.line["ber"]})


def frontier_rows(frontier: Frontier) -> list[dict[str, Any]]:
    """One row per form, as text; `cells`: accuracy and its interval by rate."""
    rows = []
    for form in frontier.forms:
        line = form.line.set_index("ber")
        nothing = {"estimate": "", "interval": ""}
        cells = [
            _cell(line.loc[rate]) if rate in line.index else nothing for rate in rates_of(frontier)
        ]
        rows.append(
            {
                "name": form.name,
                "stored": form.stored,
                "memory": _number(frontier.memory(form), "{:.3f}"),
                "bits": _number(form.bits_per_weight, "{:.2f}"),
                "fails": form.fails,
                "fault_free": f"{100 * form.fault_free:.2f}",
                "cells": cells,
                "trials": _trials(form),
                "sure": rate_text(largest_rate(frontier, form, "lower")),
                "mean": rate_text(largest_rate(frontier, form, "estimate")),
            }
        )
    return rows


def _cell(row: pd.Series) -> dict[str, str]:
    known = not pd.isna(row["lower"])
    interval = f"[{100 * row['lower']:.2f},\u00a0{100 * row['upper']:.2f}]" if known else ""
    return {"estimate": f"{100 * row['estimate']:.2f}", "interval": interval}


def _trials(form: Form) -> str:
    least, most = int(form.line["trials"].min()), int(form.line["trials"].max())
    return count(most) if least == most else f"{count(least)}–{count(most)}"


def _number(value: float, text: str) -> str:
    return "–" if pd.isna(value) else text.format(value)


def rate_text(found: Largest) -> str:
    if pd.isna(found.rate):
        return "none, nor without faults" if found.lost else "none"
    return ("≥ " if found.beyond else "") + summaries.number(found.rate)


def points_words(frontier: Frontier) -> str:
    return f"{100 * frontier.points:g} point{'' if frontier.points == 0.01 else 's'}"


def kept_words(frontier: Frontier) -> str:
    """Which accuracy counts as kept."""
    whose = frontier.reference.name if frontier.reference else "the form"
    return f"within {points_words(frontier)} of {whose} without faults"


def markdown(frontier: Frontier) -> str:
    """The table for people and papers."""
    head = ["form", "stored as", "memory / fp32", "bits/weight", "what fails", "fault-free %"]
    head += [f"{summaries.number(rate)}" for rate in rates_of(frontier)]
    head += ["trials", "largest rate, interval", "largest rate, mean"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in frontier_rows(frontier):
        cells = [row[key] for key in ("name", "stored", "memory", "bits", "fails", "fault_free")]
        cells += [f"{cell['estimate']} {cell['interval']}".strip() for cell in row["cells"]]
        cells += [row["trials"], row["sure"], row["mean"]]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
