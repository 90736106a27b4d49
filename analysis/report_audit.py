"""What the report says of trials that were run again by the reference path."""

from __future__ import annotations

import summaries
from results import Result
from text import count, share

NOT_AUDITED = "No trial was audited: none was run again by the reference path."
MOST = 20  # trials with mismatches in the table


def audit_sentence(result: Result) -> str:
    """How many trials were audited, and how the two paths agree; empty without trials."""
    audit = result.audit
    if audit.empty:
        return NOT_AUDITED if result.stored_trials else ""
    audited = len(audit[["point", "id"]].drop_duplicates())
    stored = result.stored_trials
    ties, mismatches = audit["near_ties"].sum(), audit["mismatches"].sum()
    return (
        f"{count(audited)} of {count(stored)} trials ({share(audited / stored)}) were run again by "
        f"the reference path, the whole network for every trial: {count(audit['images'].sum())} "
        f"images compared, {count(mismatches)} {_plural(mismatches, 'mismatch', 'mismatches')}, "
        f"{count(ties)} near {_plural(ties, 'tie', 'ties')}. Logits deviate by "
        f"{audit['deviation'].max():.1e} of the image's largest at most."
    )


def _plural(number: int, one: str, many: str) -> str:
    return one if number == 1 else many


def audit_rows(result: Result) -> list[dict[str, str]]:
    """Trials with mismatches, both outcomes: right/SDC-critical/DUE images."""
    labels = summaries.point_labels(result)
    found = result.audit[result.audit["mismatches"] > 0].head(MOST)
    return [
        {
            "point": labels.get(row.point, str(row.point)),
            "trial": str(row.id),
            "model": str(row.model_name),
            "mismatches": f"{count(row.mismatches)} of {count(row.images)}",
            "deviation": f"{row.deviation:.1e}",
            "fast": _outcome(row, "fast"),
            "reference": _outcome(row, "reference"),
        }
        for row in found.itertuples()
    ]


def _outcome(row: object, path: str) -> str:
    kinds = ("correct", "sdc_critical", "due")
    return " / ".join(count(getattr(row, f"{path}_{kind}")) for kind in kinds)
