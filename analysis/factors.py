"""Vulnerability factors, and how far injected faults confirm them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import summaries
from agreement import agreement
from failures import chosen_point, failures_by, has_one_fault
from hdf5 import ResultError, Store
from rankings import networks_of
from results import Result
from schema import FACTORS
from scipy.stats import t as student

CONFIDENCE = 0.95
TARGETS = {"weights": "weight", "outputs": "activation"}  # what is injected of each kind
INJECTED, FACTOR = "injected", "LVF"
_NUMBERS = ("lvf_lo", "lvf_hi", "lvf_error", "sites", "rows", "positions")


class Factors(NamedTuple):
    """One file. `layers`: a row for each; `units`: layer, row, position, vf_lo, vf_hi."""

    path: Path
    attributes: dict[str, Any]
    layers: pd.DataFrame
    units: pd.DataFrame

    @property
    def kind(self) -> str:
        return str(self.attributes.get("factors"))


class Check(NamedTuple):
    """Factors beside injected shares; `table`: layer, estimate, lower, upper, lvf_lo, lower_lvf,
    upper_lvf, meets (1, 0, or not a number where there is no interval)."""

    table: pd.DataFrame
    error: float  # mean of |LVF - injected|
    correlation: tuple[float, float, float]  # with its interval, layers drawn again
    whole: tuple[float, float, float]  # injected share of the network


def read_factors(path: Path) -> Factors:
    with Store(path, FACTORS) as store:
        layers, units = [], []
        for name in store.in_order("layers"):
            where = f"layers/{name}"
            attributes = store.attributes(where)
            missing = [key for key in _NUMBERS if not isinstance(attributes.get(key), (int, float))]
            if missing:
                raise ResultError(f"{path}: /{where}: attribute {missing[0]} is no number")
            columns = {key: store.numbers(f"{where}/{key}", "i") for key in ("row", "position")}
            columns |= {key: store.numbers(f"{where}/{key}", "f") for key in ("vf_lo", "vf_hi")}
            if len({len(column) for column in columns.values()}) != 1:
                raise ResultError(f"{path}: /{where}: columns of different lengths")
            units.append(pd.DataFrame({"layer": name} | columns))
            own = {key: attributes[key] for key in _NUMBERS}
            measured = {"units": len(units[-1]), "channels": len(np.unique(columns["row"]))}
            layers.append({"layer": name} | measured | own)
        attributes = store.attributes()
    if not layers:
        raise ResultError(f"{path}: holds no layers")
    return Factors(path, attributes, _with_intervals(pd.DataFrame(layers)), pd.concat(units))


def _with_intervals(layers: pd.DataFrame) -> pd.DataFrame:
    """Bracket widened by the sampling of units, by Student's t for so many channels; unknown where
    one channel stands for others."""
    freedom = (layers["channels"] - 1).clip(lower=1)
    half = student.ppf((1 + CONFIDENCE) / 2, freedom) * layers["lvf_error"]
    return layers.assign(
        lower=(layers["lvf_lo"] - half).clip(lower=0), upper=(layers["lvf_hi"] + half).clip(upper=1)
    )


def check_against(factors: Factors, result: Result) -> Check:
    """ResultError where the result is of another network, or of other faults."""
    model = _model_of(factors, result)
    point = _point_of(factors, result, model)
    found = failures_by(result, "layer", point, model).dropna(subset=["estimate"])
    mine = factors.layers.rename(columns={"lower": "lower_lvf", "upper": "upper_lvf"})
    table = mine.merge(found[["layer", "estimate", "lower", "upper"]], on="layer")
    if table.empty:
        raise ResultError(f"{result.path}: no fault hit a layer that has factors")
    apart = (table["lower_lvf"] > table["upper"]) | (table["upper_lvf"] < table["lower"])
    meets = (~apart).astype(float).where(table["lower_lvf"].notna())
    whole = summaries.estimate(result, point, model, "failing")
    return Check(
        table.assign(meets=meets),
        float((table["lvf_lo"] - table["estimate"]).abs().mean()),
        _correlation(table),
        (whole.estimate, whole.lower, whole.upper),
    )


def _model_of(factors: Factors, result: Result) -> int:
    sha, networks = str(factors.attributes.get("model_sha256", "")), networks_of(result)
    for index, name in result.models["name"].items():
        if networks.get(str(name)) == sha:
            return int(index)
    raise ResultError(f"{result.path}: has no trials of the network of {factors.path.name}")


def _point_of(factors: Factors, result: Result, model: int) -> int:
    """Of single faults in what the factors are of."""
    point = chosen_point(result)
    wanted = TARGETS.get(factors.kind)
    if wanted is None:
        raise ResultError(f"{factors.path}: {factors.kind} cannot be injected: nothing checks them")
    if point is None or not has_one_fault(result, point, model):
        raise ResultError(f"{result.path}: has no trials of single faults (--single-bit)")
    target = str(result.points["target"][point]) or "weight"
    if target != wanted:
        raise ResultError(
            f"{result.path}: its faults are in {target}, the factors are of {factors.kind}: "
            f"give a result of --fault-target {wanted}"
        )
    return point


def _correlation(table: pd.DataFrame) -> tuple[float, float, float]:
    columns = {INJECTED: "estimate", FACTOR: "lvf_lo"}
    scores = [
        pd.DataFrame(
            {"method": method, "layer": "all", "channel": range(len(table)), "score": table[column],
             "lower": np.nan, "upper": np.nan}
        )
        for method, column in columns.items()
    ]  # fmt: skip
    found = agreement(pd.concat(scores, ignore_index=True), INJECTED, {}, CONFIDENCE).iloc[0]
    return float(found["estimate"]), float(found["lower"]), float(found["upper"])
