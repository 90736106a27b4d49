#!/usr/bin/env python3
"""One self-contained page about a campaign: tables, figures and provenance of a result file.

    report.py result.h5 -o report.html
    report.py result.h5 --rankings l2-norm.h5 vul-gain.h5 channel-FI.h5 -o report.html
    report.py protected.pth.h5 --answer protected.pth.json -o report.html
    report.py factors.h5 --against t1.h5 -o report.html

With ranking files, or trials of channel-FI, the page compares the importance methods. With the
answer of `protect` it begins with the answer and the frontier of the recipes. Of a file of
`vulnerability` the page shows the factors, beside a campaign of single faults (--against). Every number
on it is read or computed from the files. A result of a running campaign works.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agreement
import figures
import jinja2
import pandas as pd
import plot_faults
import plot_frontier
import plot_protection
import rankings
import report_audit
import report_design
import report_factors
import storage
import summaries
from agreement import CHANNEL_FI
from cli import arguments, run
from frontier import frontier_rows, kept_words, rates_of
from hdf5 import ResultError, Store
from matplotlib.figure import Figure
from outputs import check_output, write_output
from plot_protection import Answer, read_answer
from plot_style import COLUMN, save
from rankings import Sources, sources_of
from results import Result
from schema import FACTORS, OUTCOMES, RESULT
from text import (
    bare_share,
    correlation,
    count,
    duration,
    interval,
    listed,
    moment,
    percent,
    plain,
    points,
    printable,
    ratio,
    share,
)

PLACES = ("class", "layout", "layer", "bit")
MAX_NAMED = 5  # models in a sentence; the tables have all

# ---- the parts of the page ---------------------------------------------------------------------


def headlines(result: Result) -> list[str]:
    """One sentence per point: what it estimates of every model, the gain in accuracy."""
    if rankings.holds_channels(result):
        return [report_design.channel_sentence(result)]
    points = dict.fromkeys(point for point, _, _ in summaries.answered(result))
    return [_headline(result, point) for point in points]


def without_intervals(result: Result) -> bool:
    """Whether the faults are those of a list, which is no sample."""
    return bool(len(result.points)) and all(
        summaries.is_listed(result, point) for point in result.points.index
    )


def _bounds(
    result: Result, lower: float, upper: float, as_text: Callable[[float], str] = percent
) -> str:
    """The interval behind a blank; empty where there is none by design."""
    return "" if without_intervals(result) else f" {interval(lower, upper, as_text)}"


def _headline(result: Result, point: int) -> str:
    quantity = summaries.main_quantity(result, point)
    as_text = percent if quantity == "accuracy" else share
    parts = []
    for model in [model for own, model, _ in summaries.answered(result) if own == point]:
        found = summaries.estimate(result, point, model, quantity)
        bounds = _bounds(result, found.lower, found.upper, as_text)
        parts.append(f"{result.models['name'][model]} {as_text(found.estimate)}{bounds}")
    label = summaries.point_labels(result)[point]
    used = f"{count(summaries.trials_used(result, point))} trials"
    if summaries.is_bounded(result, point):
        used = "by a bound, without trials"
    text = f"{label}, {used}: {summaries.QUANTITIES[quantity]} {listed(parts, MAX_NAMED)}"
    gains = summaries.gain_table(result)
    for gain in gains[gains["point"] == point].head(MAX_NAMED - 1).itertuples():
        name = result.models["name"][gain.model]
        same = summaries.no_difference(result, point, gain.model)
        bounds = _bounds(result, gain.lower, gain.upper, points)
        gained = f"gains {points(gain.estimate)} points of accuracy{bounds}"
        text += f"; {name}: {same}" if same else f"; {name} {gained}"
    return text + "."


def fault_free_sentence(result: Result) -> str:
    free = summaries.fault_free(result)
    parts = [
        f"{model.name} {percent(free[index])} "
        f"({count(model.correct)} of {count(model.images)} images)"
        for index, model in zip(result.models.index, result.models.itertuples(index=False))
    ]
    return f"Fault-free accuracy: {listed(parts, MAX_NAMED)}." if parts else ""


def images_sentence(result: Result) -> str:
    """By which constants images are normalised, once or for each model."""
    usual = f"as usual for {result.provenance.get('dataset', 'their data set')}"
    words = {}
    for name in result.models["name"]:
        found = result.normalisation(name)
        parts = [", ".join(f"{x:.8g}" for x in numbers) for numbers in found or ()]
        words[name] = f"by mean {parts[0]}, std {parts[1]}" if parts else usual
    if len(set(words.values())) == 1:
        return f"Images normalised {next(iter(words.values()))}."
    return f"Images normalised: {listed([f'{n} {w}' for n, w in words.items()], MAX_NAMED)}."


def accuracy_rows(result: Result) -> list[dict[str, str]]:
    if rankings.holds_channels(result):
        return []
    labels = summaries.point_labels(result)
    gains = summaries.gain_table(result).set_index(["point", "model"])
    rows = []
    for row in summaries.accuracy_table(result).itertuples():
        known = (row.point, row.model) in gains.index
        gain = _gain_cells(result, row, gains) if known else {"gain": "", "gain_method": ""}
        rows.append(
            {
                "point": labels[row.point],
                "model": row.model_name,
                "trials": count(row.trials),
                "flips": plain(row.flips),
                "accuracy": percent(row.estimate),
                "interval": interval(row.lower, row.upper),
                "method": row.method,
                "drop": points(row.estimate - row.fault_free),
            }
            | gain
        )
    return rows


def _gain_cells(result: Result, row: Any, gains: pd.DataFrame) -> dict[str, str]:
    same = summaries.no_difference(result, row.point, row.model)
    if same:
        return {"gain": same, "gain_method": ""}
    gain = gains.loc[(row.point, row.model)]
    text = f"{points(gain.estimate)}{_bounds(result, gain.lower, gain.upper, points)}"
    return {"gain": text, "gain_method": gain.method}


def outcome_rows(result: Result) -> list[dict[str, str]]:
    if rankings.holds_channels(result):
        return []
    labels = summaries.point_labels(result)
    rows = []
    for row in summaries.outcome_table(result).to_dict("records"):
        cells = {"point": labels[row["point"]], "model": result.models["name"][row["model"]]}
        for name in (*OUTCOMES, "failing"):
            bounds = _bounds(result, row[f"{name}_lower"], row[f"{name}_upper"], bare_share)
            cells |= {name: bare_share(row[name]), f"{name}_interval": bounds}
            cells[f"{name}_method"] = row[f"{name}_method"]
        rows.append(cells | {"trials": count(row["trials"])})
    return rows


def overhead_rows(result: Result) -> list[dict[str, str]]:
    rows = []
    for row in summaries.overhead_table(result).itertuples():
        cells = {"model": row.name, "stored": storage.stored_as(result, row.Index)}
        bits = storage.bits_per_weight(result, row.Index)
        cells["bits"] = "–" if pd.isna(bits) else f"{bits:.2f}"
        for name in ("parameters", "macs", "memory_bytes"):
            cells[name] = count(getattr(row, name))
            cells[f"{name}_ratio"] = ratio(getattr(row, f"{name}_ratio"))
        rows.append(cells)
    return rows


def word_rows(result: Result) -> list[dict[str, str]]:
    """The effect of faults on stored words; empty where the file tells no more than their number."""
    if rankings.holds_channels(result):
        return []
    table = storage.words_table(result)
    told = table["wrong"].notna() | (table["masked"] > 0) | (table["stored"] < 1)
    if not told.any():
        return []
    labels = summaries.point_labels(result)
    return [
        {"point": labels[row.point], "model": result.models["name"][row.model]}
        | {name: plain(getattr(row, name)) for name in ("faults", "masked", "wrong", "flagged")}
        | {"stored": {0.0: "no", 1.0: "yes"}.get(row.stored, f"of {percent(row.stored, 1)}")}
        for row in table.itertuples()
    ]


def place_rows(result: Result, column: str) -> list[dict[str, str]]:
    """The numbers of a figure by place; places that no trial hit are left out."""
    found = plot_faults.places_of(result, column)
    if found is None:
        return []
    as_text = share if found.single else points
    units = "Images" if summaries.has_own_faults(result, found.point) else "Trials"

    def bounds(row: dict[Any, Any]) -> str:
        return "" if pd.isna(row["lower"]) else interval(row["lower"], row["upper"], as_text)

    return [
        {
            "network": panel.title,
            "place": str(row[column]),
            "units": units,  # that the place was hit in
            "with": count(row["with_it"]),
            "without": count(row["without"]),
            "failing": as_text(row["estimate"]),
            "interval": bounds(row),
            "method": "" if pd.isna(row["estimate"]) else row["method"],
        }
        for panel in found.panels
        for row in panel.table.to_dict("records")
        if row["with_it"]
    ]


def pairing_sentences(result: Result) -> list[str]:
    """How many faults a model has in common with the first, where that is not all of them."""
    partly = result.pairing[result.pairing["shared"] < 1].drop_duplicates("model")
    first = result.models["name"].iloc[0] if len(result.models) else ""
    sentences = []
    for row in partly.itertuples():
        name = result.models["name"][row.model]
        if summaries.is_listed(result, row.point):
            rest = "of the list's faults; the others hit words that it does not have."
            sentences.append(f"{name} has {share(row.shared)} {rest}")
        else:
            rest = "at all other sites of its own its faults are independent."
            found = f"{name} shares the faults of {share(row.shared)} of the sites of {first}"
            sentences.append(f"{found}; {rest}")
    return sentences


def session_rows(result: Result) -> list[dict[str, str]]:
    return [
        {
            "number": str(row.number),
            "started": moment(row.started),
            "duration": duration(max(0.0, row.ended - row.started)),
            "ranks": str(row.ranks),
            "host": row.host,
            "trials": count(row.new_trials),
            "info": ", ".join(f"{key}: {value}" for key, value in row.info.items()),
        }
        for row in result.sessions.itertuples()
    ]


def provenance_rows(result: Result) -> list[tuple[str, str]]:
    shown = ("creator", "creator_version", "schema_version", "created", "published")
    shown += ("fingerprint", "seed", "rng")
    attributes = result.attributes
    rows = [(name, str(attributes[name])) for name in shown if name in attributes]
    rows += [(name, str(value)) for name, value in sorted(result.provenance.items())]
    hashes = result.models[["name", "checkpoint_sha256"]].itertuples(index=False)
    return rows + [(f"checkpoint of {name}", sha) for name, sha in hashes if sha]


def correlation_sentence(sources: Sources) -> str:
    """How far the methods agree with the yardstick, mean over layers."""
    table = rankings.agreement_of(sources)
    if table is None:
        return ""
    reference = agreement.reference_of(sources.importance["method"].unique())
    means = table[table["layer"] == agreement.MEAN]
    parts = ", ".join(
        f"{row.method} {correlation(row.estimate, row.lower, row.upper)}"
        + (" (grey)" if row.noise else "")
        for row in means.itertuples()
    )
    return f"Rank correlation with {reference}, mean over layers: {parts}."


def frontier_table(sources: Sources) -> dict[str, Any]:
    """The stored forms beside their figure; no rows where there is none."""
    frontier = plot_frontier.of_sources(sources)
    if frontier is None:
        return {"forms": [], "rates": [], "kept": ""}
    rates = [summaries.number(rate) for rate in rates_of(frontier)]
    return {"forms": frontier_rows(frontier), "rates": rates, "kept": kept_words(frontier)}


def channel_rows(sources: Sources) -> list[dict[str, str]]:
    return report_design.channel_rows(sources.importance, CHANNEL_FI)


def load_sentence(result: Result) -> str:
    load = summaries.load_table(result)
    if load.empty:
        return ""
    busy = load.groupby("rank")["busy"].sum()
    return (
        f"{count(load['trials'].sum())} rows, {duration(busy.sum())} in trials over "
        f"{count(len(busy))} rank(s); the busiest rank has {busy.max() / busy.mean():.3f} times "
        "the mean."
    )


def time_rows(result: Result) -> list[dict[str, str]]:
    rows = []
    for row in summaries.time_table(result).itertuples():
        cells = {name: f"{getattr(row, name):.4g}" for name in ("median", "mean", "low", "high")}
        rows.append(
            {"model": result.models["name"][row.model], "trials": count(row.trials)} | cells
        )
    return rows


def figure_cards(sources: Sources) -> dict[str, dict[str, Any]]:
    """Every figure as an inline SVG image, by name."""
    cards = {}
    for name, kind in figures.FIGURES.items():
        figure = figures.draw(name, sources)
        if figure is not None:
            cards[name] = _card(figure, kind.title, kind.caption(sources))
    return cards


def _card(figure: Figure, heading: str, caption: str) -> dict[str, Any]:
    stream = io.BytesIO()
    save(figure, stream, "svg")
    data = base64.b64encode(stream.getvalue()).decode()
    return {
        "title": heading,
        "caption": caption,
        "source": f"data:image/svg+xml;base64,{data}",
        "wide": figure.get_figwidth() > COLUMN,
    }


def protection(answer: Answer | None) -> dict[str, Any]:
    """The answer of `protect` and its figure, nothing without one."""
    if answer is None:
        return {"answer": "", "recipes": [], "protection": None}
    figure = plot_protection.draw(answer)
    card = None if figure is None else _card(figure, "Recipes", plot_protection.caption(answer))
    recipes = plot_protection.rows(answer)
    return {"answer": answer.sentence, "recipes": recipes, "protection": card}


def require_own_answer(result: Result, answer: Answer, path: Path) -> None:
    """ResultError unless the answer's figures are those of the result."""
    advice = "give --answer the OUTPUT.json beside the OUTPUT.h5 of one call of protect"
    if not answer.chosen:
        raise ResultError(f"{path}: no network was chosen, so no result belongs to it")
    if answer.fingerprint != result.attributes.get("fingerprint"):
        raise ResultError(f"{path}: is the answer of another result than {result.path}; {advice}")
    trials = int(result.points["trials"].sum())
    if answer.trials != trials:
        raise ResultError(
            f"{path}: is of {answer.trials} trials, and {result.path} has {trials}; {advice}"
        )


def title(result: Result) -> str:
    """Model and data set where the job names them, else the file's name."""
    tables = [table for table in result.job.values() if isinstance(table, dict)] or [result.job]
    names = [str(tables[0][key]) for key in ("model", "dataset") if tables[0].get(key)]
    return " on ".join(names) if names else result.path.name


def _template(name: str) -> jinja2.Template:
    folder = Path(__file__).resolve().parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def render(sources: Sources, answer: Answer | None = None) -> str:
    """The page."""
    result = sources.result
    return _template("report.html.j2").render(
        title=title(result),
        faults=summaries.fault_words(result),
        counted=summaries.count_words(result),
        file=result.path.name,
        notes=report_design.notes(result) + report_design.ranking_notes(sources),
        confidence=f"{100 * result.confidence:g}",
        command=str(result.attributes.get("command", "")),
        job=str(result.attributes.get("job", "")),
        **_numbers(result),
        channels=channel_rows(sources),
        channel_methods=report_design.channel_methods(result),
        correlation=correlation_sentence(sources),
        frontier=frontier_table(sources),
        figures=figure_cards(sources),
        **protection(answer),
    )


def _numbers(result: Result) -> dict[str, Any]:
    """What the page takes from the result alone."""
    channels = rankings.holds_channels(result)
    return {
        "fault_free": fault_free_sentence(result),
        "images": images_sentence(result) if len(result.models) else "",
        "headlines": headlines(result) if summaries.answered(result) else [],
        "first_model": result.models["name"].iloc[0] if len(result.models) else "",
        "plans": [] if channels else report_design.plan_rows(result),
        "strata": report_design.strata_rows(result),
        "unit": report_design.unit_words(result),
        "blocks": report_design.block_words(result),
        "accuracy": accuracy_rows(result),
        "gains": len(result.models) > 1,
        "with_intervals": not without_intervals(result),
        "overhead": overhead_rows(result),
        "outcomes": outcome_rows(result),
        "words": word_rows(result),
        "places": {column: place_rows(result, column) for column in PLACES},
        "pairing": pairing_sentences(result),
        "times": time_rows(result),
        "load": load_sentence(result),
        "audit": report_audit.audit_sentence(result),
        "mismatches": report_audit.audit_rows(result),
        "sessions": session_rows(result),
        "provenance": provenance_rows(result),
    }


def _page(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    with Store(options.result, RESULT, FACTORS) as store:
        of_factors = store.schema == FACTORS
    if of_factors and (options.rankings or options.answer):
        parser.error("--rankings and --answer go with the result of a campaign")
    if of_factors:
        content = report_factors.content(options.result, options.against, _card)
        return _template("factors.html.j2").render(**content)
    if options.against:
        parser.error(f"--against goes with a file of vulnerability, which {options.result} is not")
    with Result(options.result) as result:
        answer = read_answer(options.answer) if options.answer else None
        if answer:
            require_own_answer(result, answer, options.answer)
        return render(sources_of(result, options.rankings), answer)


def main(argv: list[str]) -> int:
    parser = arguments(__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"))
    parser.add_argument(
        "--answer", type=Path, help="of protect (OUTPUT.json): the page begins with it"
    )
    parser.add_argument(
        "--against", type=Path, help="single faults in the network of a file of vulnerability"
    )
    options = parser.parse_args(argv)
    check_output(options.output, "html")
    page = _page(parser, options)
    write_output(options.output, "html", page.encode("utf-8", "replace"))
    print(printable(str(options.output)))
    return 0


if __name__ == "__main__":
    sys.exit(run(main, sys.argv))
