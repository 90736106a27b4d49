#!/usr/bin/env python3
"""One self-contained page about a campaign: tables, figures and provenance of a result file.

    report.py result.h5 -o report.html

Every number on the page is read or computed from the file. A result of a running campaign works.
"""

from __future__ import annotations

import base64
import io
import math
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import figures
import jinja2
import pandas as pd
import summaries
from cli import arguments, run
from results import OUTCOMES, Result

WIDE = {"outcomes", "failures_by_bit", "failures_by_layer", "importance", "convergence", "timing"}


# ---- numbers as text ---------------------------------------------------------------------------


def percent(value: float, digits: int = 2) -> str:
    return "–" if pd.isna(value) else f"{100 * value:.{digits}f}\u00a0%"


def points(value: float) -> str:
    """A difference of shares in percentage points, signed."""
    return "–" if pd.isna(value) else f"{100 * value:+.2f}".replace("-", "−")


def count(value: float) -> str:
    return "–" if pd.isna(value) else f"{int(value):,}".replace(",", "\u202f")


def ratio(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.4f}×"


def moment(seconds: float) -> str:
    """Unix time as ISO 8601, UTC."""
    if not math.isfinite(seconds) or seconds <= 0:
        return "–"
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 120 else f"{minutes} min {rest} s"
    )


def interval(row: summaries.Interval, text: Callable[[float], str] = percent) -> str:
    """[lower, upper], units only once."""
    if pd.isna(row.lower):
        return "no interval"
    lower = text(row.lower).removesuffix("\u00a0%")
    return f"[{lower}, {text(row.upper)}]"


# ---- the parts of the page ---------------------------------------------------------------------


def headlines(result: Result) -> list[str]:
    """One sentence per point: accuracy of every model, the gain, its cost."""
    table = summaries.accuracy_table(result)
    labels = summaries.point_labels(result)
    gains = summaries.gain_table(result)
    sentences = []
    for point, rows in table.groupby("point"):
        parts = [
            f"{row.model_name} {percent(row.estimate)} {interval(row)}" for row in rows.itertuples()
        ]
        flips = f"{rows['model_name'].iloc[0]}: {rows['flips'].iloc[0]:.3g}"
        text = f"{labels[point]} (mean flips per trial, {flips}): accuracy {', '.join(parts)}"
        for gain in gains[gains["point"] == point].itertuples():
            name = result.models["name"][gain.model]
            text += f"; {name} gains {points(gain.estimate)} points {interval(gain, points)}"
        sentences.append(text + ".")
    return sentences


def fault_free_sentence(result: Result) -> str:
    free = summaries.fault_free(result)
    parts = [
        f"{model.name} {percent(free[index])} "
        f"({count(model.correct)} of {count(model.images)} images)"
        for index, model in zip(result.models.index, result.models.itertuples(index=False))
    ]
    return "Fault-free accuracy: " + ", ".join(parts) + "." if parts else ""


def accuracy_rows(result: Result) -> list[dict[str, str]]:
    labels = summaries.point_labels(result)
    gains = summaries.gain_table(result).set_index(["point", "model"])
    rows = []
    for row in summaries.accuracy_table(result).itertuples():
        gain = gains.loc[(row.point, row.model)] if (row.point, row.model) in gains.index else None
        rows.append(
            {
                "point": labels[row.point],
                "model": row.model_name,
                "trials": count(row.trials),
                "planned": count(row.planned),
                "flips": f"{row.flips:.4g}",
                "accuracy": percent(row.estimate),
                "interval": interval(row),
                "drop": points(row.estimate - row.fault_free),
                "gain": "" if gain is None else f"{points(gain.estimate)} {interval(gain, points)}",
            }
        )
    return rows


def gain_methods(result: Result) -> str:
    methods = summaries.gain_table(result)["method"].unique()
    return f"Intervals of the gain: {', '.join(methods)}." if len(methods) else ""


def outcome_rows(result: Result) -> list[dict[str, str]]:
    labels = summaries.point_labels(result)
    rows = []
    for row in summaries.outcome_table(result).itertuples():
        shares = {name: percent(getattr(row, name), 3) for name in OUTCOMES}
        where = {"point": labels[row.point], "model": result.models["name"][row.model]}
        shares["failing"] = f"{percent(row.failing, 3)} {interval(row)}"
        rows.append(where | shares | {"trials": count(row.trials), "images": count(row.images)})
    return rows


def overhead_rows(result: Result) -> list[dict[str, str]]:
    rows = []
    for row in summaries.overhead_table(result).itertuples():
        cells = {"model": row.name}
        for name in ("parameters", "macs", "memory_bytes"):
            cells[name] = count(getattr(row, name))
            cells[f"{name}_ratio"] = ratio(getattr(row, f"{name}_ratio"))
        rows.append(cells)
    return rows


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


def method_correlation(result: Result) -> list[tuple[str, str, str]]:
    """Spearman's rank correlation of the importance methods, mean over layers."""
    table = result.importance
    methods = list(table["method"].unique())
    rows = []
    for place, first in enumerate(methods):
        for second in methods[place + 1 :]:
            wide = table.pivot_table(index=["layer", "channel"], columns="method", values="score")
            by_layer = wide[[first, second]].groupby("layer")
            values = [part[first].corr(part[second], method="spearman") for _, part in by_layer]
            rows.append((first, second, f"{pd.Series(values).mean():.3f}"))
    return rows


def notes(result: Result) -> list[str]:
    """What a reader must know before using the numbers."""
    found = []
    trials = summaries.main_trials(result)
    planned = int((result.points["trials"] * max(1, len(result.models))).sum())
    if not result.complete:
        found.append(
            f"The campaign is not complete: {count(len(trials))} of {count(planned)} rows (trials "
            "of a model) are stored, and every number below is of those."
        )
    groups = trials.groupby(["point", "model"]).size()
    if len(groups) and groups.min() < summaries.ENOUGH_TRIALS:
        found.append(
            f"Some estimates rest on fewer than {summaries.ENOUGH_TRIALS} trials; a t interval "
            "over so few skewed outcomes may cover less than its nominal level."
        )
    if result.rows_beyond_plan:
        found.append(
            f"{count(result.rows_beyond_plan)} stored rows lie beyond the planned trials (the "
            "campaign was shortened) and are in no number below."
        )
    mismatches = int(result.audit["mismatches"].sum())
    if mismatches:
        found.append(
            f"The audit found {count(mismatches)} images that differ from the reference path."
        )
    return found


def audit_sentence(result: Result) -> str:
    audit = result.audit
    if audit.empty:
        return ""
    return (
        f"{count(len(audit))} trials were run again through the reference path: "
        f"{count(audit['mismatches'].sum())} of {count(audit['images'].sum())} images differ "
        f"({count(audit['near_ties'].sum())} near ties)."
    )


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


def figure_cards(result: Result) -> dict[str, dict[str, Any]]:
    """Every figure as an inline SVG image, by name."""
    cards = {}
    for kind in figures.FIGURES:
        figure = figures.draw(kind, result)
        if figure is not None:
            stream = io.BytesIO()
            figures.save(figure, stream, "svg")
            data = base64.b64encode(stream.getvalue()).decode()
            cards[kind.name] = {
                "title": kind.title,
                "caption": kind.caption(result),
                "source": f"data:image/svg+xml;base64,{data}",
                "wide": kind.name in WIDE,
            }
    return cards


def title(result: Result) -> str:
    """Model and data set where the job names them, else the file's name."""
    tables = [table for table in result.job.values() if isinstance(table, dict)] or [result.job]
    names = [str(tables[0][key]) for key in ("model", "dataset") if tables[0].get(key)]
    return " on ".join(names) if names else result.path.name


def render(result: Result) -> str:
    """The page."""
    folder = Path(__file__).resolve().parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(
        title=title(result),
        file=result.path.name,
        notes=notes(result),
        fault_free=fault_free_sentence(result),
        headlines=headlines(result),
        first_model=result.models["name"].iloc[0] if len(result.models) else "",
        accuracy=accuracy_rows(result),
        gain_methods=gain_methods(result),
        overhead=overhead_rows(result),
        outcomes=outcome_rows(result),
        sessions=session_rows(result),
        provenance=provenance_rows(result),
        correlation=method_correlation(result),
        audit=audit_sentence(result),
        load=load_sentence(result),
        figures=figure_cards(result),
        confidence=f"{100 * result.confidence:g}",
        command=str(result.attributes.get("command", "")),
        job=str(result.attributes.get("job", "")),
    )


def main(argv: list[str]) -> int:
    parser = arguments(__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"))
    options = parser.parse_args(argv)
    with Result(options.result) as result:
        page = render(result)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(run(main, sys.argv))
