"""How networks are stored: layouts by class, memory, what was read of the words that faults hit."""

from __future__ import annotations

import pandas as pd
from results import Result
from schema import CLASSES, NOT_KNOWN
from weights import known_share

NAN = float("nan")
PLAIN = "fp32"
WEIGHTED = ("conv", "duplicated_conv", "linear")


# ---- layouts -----------------------------------------------------------------------------------


def layouts_by_class(result: Result, model: int) -> dict[str, list[str]]:
    """Layouts of the classes of which some tensor is not plain fp32; empty: all is."""
    name = str(result.models["name"][model])
    nodes = result.nodes(name)
    ops = dict(zip(nodes["name"], nodes["op"]))
    stored = result.layouts(name)
    found: dict[str, list[str]] = {}
    for entry, layout in stored.items():
        layouts = found.setdefault(_class_of(entry, ops), [])
        if layout not in layouts:
            layouts.append(layout)
    all_of = {
        "weight": {f"{node}.weight" for node, op in ops.items() if op in WEIGHTED},
        "bn": {f"{node}.running_mean" for node, op in ops.items() if op == "batch_norm"},
    }
    for kind, entries in all_of.items():
        if kind in found and not entries <= set(stored):
            found[kind].append(PLAIN)
    return {name: found[name] for name in CLASSES if name in found}


def _class_of(entry: str, ops: dict[str, str]) -> str:
    node, _, suffix = entry.rpartition(".")
    if suffix.endswith("_scale"):
        return "scale"
    if "bound" in suffix or "range" in suffix or suffix in ("weight_low", "weight_high"):
        return "bound"
    if ops.get(node) == "batch_norm":
        return "bn"
    return "bias" if suffix == "bias" else "weight"


def is_plain(result: Result, model: int) -> bool:
    """Whether every tensor is stored as fp32 without a code."""
    return not result.layouts(str(result.models["name"][model]))


def stored_as(result: Result, model: int) -> str:
    """As in "weight int4:channel+bch:8,4; bias, scale fp16+repeat:7; else fp32"."""
    by_layout: dict[str, list[str]] = {}
    for name, layouts in layouts_by_class(result, model).items():
        by_layout.setdefault(" or ".join(layouts), []).append(name)
    parts = [f"{', '.join(names)} {layout}" for layout, names in by_layout.items()]
    return "; ".join([*parts, "all else fp32"]) if parts else "all fp32"


# ---- memory ------------------------------------------------------------------------------------


def stored_bits(result: Result, model: int) -> float:
    """Bits of all stored tensors; where the file does not tell, of everything that is kept."""
    row = result.models.loc[model]
    return float(row["stored_bits"] or 8 * row["memory_bytes"])


def bits_per_weight(result: Result, model: int) -> float:
    """Check bits included; not a number where the file does not tell."""
    told = float(result.models["bits_per_weight"][model])
    return told if told > 0 else (32.0 if is_plain(result, model) else NAN)


# ---- what was read -----------------------------------------------------------------------------


def words_table(result: Result) -> pd.DataFrame:
    """Per point and model, means over the population of trials: `faults`, `masked` (that left their
    bit or word as it was), words read `wrong` and `flagged`; not a number where it is not known.
    `stored`: share of the trials whose faults the file holds."""
    trials = result.trials[result.trials["weight"] > 0]
    rows = [
        {"point": point, "model": model} | _words_read(result, int(str(point)), mine)
        for (point, model), mine in trials.groupby(["point", "model"])
    ]
    columns = ["point", "model", "faults", "masked", "wrong", "flagged", "stored"]
    return pd.DataFrame(rows, columns=columns)


def _words_read(result: Result, point: int, trials: pd.DataFrame) -> dict[str, float]:
    known = known_share(result.strata, point)
    weights = trials["weight"] / trials["weight"].sum()

    def mean(column: str) -> float:
        values = trials[column].where(trials[column] != NOT_KNOWN).astype(float)
        return float((values * weights).sum(skipna=False))

    found = {"faults": mean("n_faults"), "masked": mean("faults_masked")}
    if known > 0:  # trials that need no run have faults too, nobody knows how many
        found = dict.fromkeys(found, NAN)
    found |= {name: (1 - known) * mean(f"words_{name}") for name in ("wrong", "flagged")}
    return found | {"stored": float((trials["faults_stored"] != 0).mean())}
