"""Whether what a result says can be: numbers that name rows of other tables, counts, times, shares.

Tables are checked as they are read. All raise a ResultError that names file, table, row, column,
value and range; the program's own reader (src/store/checks.cpp) asks the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from hdf5 import ResultError
from schema import CLASSES, LISTED, NOT_TOLD, OUTCOMES

YEAR_1900, YEAR_10000 = -2208988800, 253402300800  # seconds since 1970
MOST = 2**63 - 1
ROUNDING, FAR = 1e-9, 10.0
Limit = float | np.ndarray


def within(
    path: Path, table: str, name: str, values: pd.Series | np.ndarray, low: Limit, high: Limit
) -> None:
    """Every value in [low, high], which may differ from row to row; not a number never is."""
    values = np.asarray(values)
    wrong = ~((values >= low) & (values <= high))
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    least, most = (np.broadcast_to(limit, values.shape)[row] for limit in (low, high))
    raise ResultError(
        f"{path}: /{table}, row {row}: {name} is {values[row]}, not from {least} to {most}; the "
        "file is damaged"
    )


def named(path: Path, table: str, rows: pd.DataFrame, column: str, known: Iterable[int]) -> None:
    """Every value is an index of another table."""
    for row in np.flatnonzero(~rows[column].isin(list(known)).to_numpy()):
        unknown = rows[column].iloc[row]
        raise ResultError(f"{path}: /{table}, row {row}: {column} {unknown} is unknown")


def finite(path: Path, table: str, rows: pd.DataFrame, columns: Iterable[str]) -> None:
    largest = np.finfo(float).max
    for column in columns:
        within(path, table, column, rows[column], -largest, largest)


def points(path: Path, rows: pd.DataFrame) -> None:
    within(path, "points", "ber", rows["ber"], 0, 1)
    within(path, "points", "trials", rows["trials"], 0, MOST)


def models(path: Path, rows: pd.DataFrame) -> None:
    for name, row in zip(rows["name"], rows.itertuples()):
        counts = (0 <= row.correct <= row.images) and (0 <= row.top5 <= row.images)
        if not counts or min(row.parameters, row.macs, row.memory_bytes) < 0:
            raise ResultError(
                f"{path}: /models/{name}: of {row.images} images {row.correct} are right and "
                f"{row.top5} among the first five, with {row.parameters} parameters; the file is "
                "damaged"
            )


def sessions(path: Path, rows: pd.DataFrame) -> None:
    for column in ("started", "ended"):
        within(path, "provenance/sessions", column, rows[column], YEAR_1900, YEAR_10000)


def plans(path: Path, rows: pd.DataFrame, trials: pd.Series) -> None:
    named(path, "design/plans", rows, "point", trials.index)
    within(path, "design/plans", "used", rows["used"], 0, MOST)
    within(path, "design/plans", "half_width", rows["half_width"], 0, 1)
    within(path, "design/plans", "first", rows["first"], 0, trials[rows["point"]].to_numpy())


def strata(path: Path, rows: pd.DataFrame, known: Iterable[int]) -> None:
    named(path, "design/strata", rows, "point", known)
    within(path, "design/strata", "weight", rows["weight"], 0, 1 + 1e-6)
    within(path, "design/strata", "cost", rows["cost"], 0, np.finfo(float).max)


def shares(path: Path, rows: pd.DataFrame, points: pd.Index, models: pd.Index) -> None:
    named(path, "design/shares", rows, "point", points)
    named(path, "design/shares", rows, "model", models)
    within(path, "design/shares", "model", rows["model"], 1, len(models) - 1)
    within(path, "design/shares", "weight", rows["weight"], 0, 1 + 1e-6)
    once(path, "design/shares", rows, ["point", "model", "stratum"])


def stratum_names(path: Path, rows: pd.DataFrame) -> None:
    for row in np.flatnonzero(rows["stratum_name"].isna()):
        raise ResultError(
            f"{path}: /estimates names stratum {rows['stratum'][row]} of point "
            f"{rows['point'][row]}: not in /design/strata"
        )


def once(path: Path, table: str, rows: pd.DataFrame, key: list[str]) -> None:
    twice = rows.duplicated(key).to_numpy()
    if twice.any():
        raise ResultError(f"{path}: /{table}, row {int(np.argmax(twice))}: there twice")


def pairing(path: Path, rows: pd.DataFrame, points: pd.Index, models: pd.Index) -> None:
    named(path, "design/pairing", rows, "point", points)
    named(path, "design/pairing", rows, "model", models)
    within(path, "design/pairing", "model", rows["model"], 1, len(models) - 1)
    within(path, "design/pairing", "shared", rows["shared"], 0, 1)
    once(path, "design/pairing", rows, ["point", "model"])


def blocks(path: Path, values: np.ndarray) -> None:
    within(path, "design/blocks", "block", values, 0, len(values) - 1)
    missing = np.setdiff1d(np.arange(values.max(initial=-1) + 1), values)
    if len(missing):
        raise ResultError(f"{path}: /design/blocks: no image is in block {missing[0]}")


def trials(path: Path, rows: pd.DataFrame, models: pd.DataFrame, blocks: np.ndarray) -> None:
    """Points and models are known."""
    within(path, "trials", "probability", rows["probability"], np.nextafter(0, 1), 1 + 1e-12)
    within(path, "trials", "stage", rows["stage"], 0, 1)
    within(path, "trials", "faults_masked", rows["faults_masked"], 0, rows["n_faults"].to_numpy())
    within(path, "trials", "faults_stored", rows["faults_stored"], 0, 1)
    count = blocks.max(initial=-1) + 1
    within(path, "trials", "block", rows["block"], -1 if count == 0 else 0, count - 1)
    images = models["images"].reindex(rows["model"]).to_numpy()
    within(path, "trials", "images", rows["images"], 1, images)
    _counts(path, "trials", rows)
    _no_row_twice(path, "trials", rows)


def audit(path: Path, rows: pd.DataFrame) -> None:
    within(path, "audit", "images", rows["images"], 1, MOST)
    for name in ("mismatches", "near_ties"):
        within(path, "audit", name, rows[name], 0, rows["images"].to_numpy())
    within(path, "audit", "deviation", rows["deviation"], 0, np.inf)
    _counts(path, "audit", rows)
    _no_row_twice(path, "audit", rows)


def _counts(path: Path, table: str, rows: pd.DataFrame) -> None:
    images = rows["images"].to_numpy()
    total = rows[list(OUTCOMES)].astype("int64").sum(axis=1)
    within(path, table, "the sum of " + ", ".join(OUTCOMES), total, images, images)
    within(path, table, "top5", rows["top5"], 0, images)
    within(path, table, "correct", rows["correct"], 0, rows["top5"].to_numpy())
    within(path, table, "correct_argmax", rows["correct_argmax"], 0, images)


def _no_row_twice(path: Path, table: str, rows: pd.DataFrame) -> None:
    twice = rows.duplicated(["point", "id", "model"]).to_numpy()
    if twice.any():
        raise ResultError(f"{path}: /{table}, row {int(np.argmax(twice))}: there twice")


def estimates(path: Path, rows: pd.DataFrame, plans: pd.DataFrame, models: pd.Index) -> None:
    """What plans without weights average lies in [0, 1]; what others weigh may lie beside it, and
    so may the accuracy on blocks of images, but not far."""
    named(path, "estimates", rows, "point", plans.index)
    named(path, "estimates", rows, "model", models)
    named(path, "estimates", rows, "against", [-1, *models])
    accuracy = rows["quantity"].astype(str).str.startswith("accuracy").to_numpy()
    loose = accuracy | (rows["point"].map(plans["sampling"]) != "simple").to_numpy()
    low, high = np.where(loose, -FAR, -ROUNDING), np.where(loose, FAR, 1 + ROUNDING)
    within(path, "estimates", "estimate", rows["estimate"], low, high)
    # Means of a list have no intervals.
    bare = (rows["method"].astype(str) == LISTED) & rows["lower"].isna() & rows["upper"].isna()
    found, low, high = rows[~bare], low[~bare], high[~bare]
    within(path, "estimates", "lower", found["lower"], low, high)
    within(path, "estimates", "upper", found["upper"], low, high)
    within(path, "estimates", "upper", found["upper"], found["lower"].to_numpy() - ROUNDING, high)
    within(path, "estimates", "confidence", rows["confidence"], 0, 1)
    within(path, "estimates", "trials", rows["trials"], 0, MOST)


def centres(path: Path, rows: pd.DataFrame, points: pd.Index, models: pd.Index) -> None:
    named(path, "design/centres", rows, "point", points)
    named(path, "design/centres", rows, "model", models)
    finite(path, "design/centres", rows, OUTCOMES)


def faults(path: Path, model: str, rows: pd.DataFrame, tensors: pd.DataFrame, images: int) -> None:
    """Those of one model on so many images; row numbers are those of its faults."""
    within(path, f"faults/sites of {model}", "tensor", rows["tensor"], 0, len(tensors) - 1)
    own = tensors.iloc[rows["tensor"].to_numpy()]
    elements = own["elements"].to_numpy().astype("uint64")
    within(path, f"faults/sites of {model}", "element", rows["element"], 0, elements - np.uint64(1))
    within(path, f"faults/sites of {model}", "kind", rows["kind"], 0, len(CLASSES) - 1)
    for column in ("kind", "word_bits"):
        stored = own[column].to_numpy()
        within(path, f"faults/sites of {model}", column, rows[column], stored, stored)
    within(path, f"faults/sites of {model}", "bit", rows["bit"], 0, own["word_bits"].to_numpy() - 1)
    above = own["word_bits"].to_numpy().astype(int) - rows["bit"].to_numpy()
    within(path, f"faults/sites of {model}", "length", rows["length"], 1, above)
    within(path, f"faults/sites of {model}", "effect", rows["effect"], 0, 4)
    within(path, f"faults/sites of {model}", "image", rows["image"], -1, images - 1)
    told = rows[rows["outcome"] != NOT_TOLD]
    most = np.where(told["image"] >= 0, len(OUTCOMES) - 1, -1)
    within(path, f"faults/sites of {model}", "outcome", told["outcome"], 0, most)
