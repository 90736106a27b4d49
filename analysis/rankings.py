"""Importance of channels: scores of results and ranking files, all of one network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from agreement import CHANNEL_FI, Flips, agreement, flips_by_channel, reference_of
from hdf5 import ResultError, Store
from results import Result
from schema import RANKING, RESULT
from scores import COLUMNS, scores_of
from summaries import estimate, main_trials
from text import listed

CHANNEL_POINT = "channel:"


def holds_channels(result: Result) -> bool:
    """Whether the points of a result are channels: the trials of channel-FI."""
    models = result.points["fault_model"]
    return len(models) > 0 and bool(models.str.startswith(CHANNEL_POINT).all())


def importance_of(result: Result) -> pd.DataFrame:
    """Scores of every method in the file, those that trials of channel-FI give included."""
    table = result.importance
    if not holds_channels(result) or CHANNEL_FI in set(table["method"]):
        return table
    return pd.concat([table, _channel_scores(result)], ignore_index=True)


def _channel_scores(result: Result) -> pd.DataFrame:
    """Share of failing images under single flips in the channel, estimated from its trials so far;
    not a number for planned channels without trials."""
    started = set(result.trials["point"])
    rows = []
    for point in result.points[result.points["trials"] > 0].itertuples():
        layer, channel = _place(point.fault_model)
        row = {"method": CHANNEL_FI, "layer": layer, "channel": channel}
        score = _channel_score(result, point.id) if point.id in started else {"trials": 0}
        rows.append(row | score)
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"score": float})
    best_first = table.groupby("layer", sort=False)["score"]
    return table.assign(rank=best_first.rank(method="first", ascending=False) - 1)


def _channel_score(result: Result, point: int) -> dict[str, float]:
    failing = estimate(result, point, 0, "failing")
    accuracy = estimate(result, point, 0, "accuracy")
    score = {"score": failing.estimate, "lower": failing.lower, "upper": failing.upper}
    return score | {"accuracy": accuracy.estimate, "trials": failing.trials}


def flips_of(result: Result) -> dict[tuple[str, int], Flips]:
    """The trials of channel-FI by (layer, channel)."""
    places = {
        int(point.id): _place(point.fault_model) for point in result.points.itertuples(index=False)
    }
    return flips_by_channel(main_trials(result), places)


def _place(fault_model: str) -> tuple[str, int]:
    layer, channel = fault_model.removeprefix(CHANNEL_POINT).rsplit(":", 1)
    return layer, int(channel)


def add_rankings(
    known: pd.DataFrame, paths: Iterable[Path], networks: dict[str, str] | None = None
) -> pd.DataFrame:
    """The scores known and those of further files: rankings, or trials of channel-FI; of one of
    `networks` (name: hash) where given and the file names its own.

    A method that is known with the same scores is not listed again; one with others gets the name
    of its file.
    """
    for path in paths:
        _check_network(path, networks or {})
        for method, table in read_ranking(path).groupby("method", sort=False):
            mine = known[known["method"] == method]
            if _same(mine, table):
                continue
            name = method if mine.empty else f"{method} ({path.stem})"
            known = pd.concat([known, table.assign(method=name)], ignore_index=True)
    return known


def read_ranking(path: Path) -> pd.DataFrame:
    """Scores in a ranking file, or those that a result, such as trials of channel-FI, holds."""
    with Store(path, RANKING, RESULT) as store:
        table = scores_of(store)
        schema = store.schema
    if schema == RESULT:
        with Result(path) as result:
            table = importance_of(result)
    if table.empty:
        raise ResultError(f"{path}: holds no scores of channels")
    return table


def networks_of(result: Result) -> dict[str, str]:
    """Hash of the weights of every model by name; none in files of earlier versions."""
    parts = result.fingerprint_parts
    found = {}
    for index, name in result.models["name"].items():
        if f"model {index} {name}" in parts:
            found[str(name)] = str(parts[f"model {index} {name}"])
    return found


def _check_network(path: Path, networks: dict[str, str]) -> None:
    """Refuses channels of another network; a file that does not say whose they are is taken."""
    own = _networks_ranked(path)
    if not own or not networks or own & set(networks.values()):
        return
    known = ", ".join(f"{name} ({sha[:12]})" for name, sha in networks.items())
    raise ResultError(
        f"{path}: ranks the network {listed(sorted(sha[:12] for sha in own), 1)}, but the result "
        f"holds {known}: give a ranking of one of these"
    )


def _networks_ranked(path: Path) -> set[str]:
    with Store(path, RANKING, RESULT) as store:
        schema, sha = store.schema, str(store.attributes().get("model_sha256", ""))
    if schema == RANKING:
        return {sha} - {""}
    with Result(path) as result:
        return set(networks_of(result).values())


def unnamed(paths: Iterable[Path]) -> list[str]:
    """Names of the files that do not say which network they rank."""
    return [path.name for path in paths if not _networks_ranked(path)]


def _same(known: pd.DataFrame, table: pd.DataFrame) -> bool:
    """Equal but for the rounding of means."""
    places = [part[["layer", "channel"]].to_numpy() for part in (known, table)]
    if len(known) != len(table) or not np.array_equal(*places):
        return False
    scores = [part["score"].to_numpy(float) for part in (known, table)]
    return np.allclose(*scores, rtol=1e-12, atol=0, equal_nan=True)


# ---- what reports and figures are made of ------------------------------------------------------


class Sources(NamedTuple):
    """A result, and the importance of channels of it and of the ranking files given with it.

    `flips`: the trials of channel-FI by (layer, channel), where one of the files holds them.
    `unnamed`: ranking files that do not say which network they rank."""

    result: Result
    importance: pd.DataFrame
    flips: dict[tuple[str, int], Flips] = {}
    unnamed: list[str] = []


def sources_of(result: Result, rankings: Iterable[Path] = ()) -> Sources:
    rankings = list(rankings)
    table = add_rankings(importance_of(result), rankings, networks_of(result))
    return Sources(result, table, _flips_of(result, rankings), unnamed(rankings))


def agreement_of(sources: Sources) -> pd.DataFrame | None:
    """How far the methods agree with the reference; None where there is one method alone."""
    methods = list(sources.importance["method"].unique())
    if len(methods) < 2:
        return None
    reference = reference_of(methods)
    flips = sources.flips if reference == CHANNEL_FI else {}
    return agreement(sources.importance, reference, flips, sources.result.confidence)


def _flips_of(result: Result, paths: Iterable[Path]) -> dict[tuple[str, int], Flips]:
    """Those of the scores that are called channel-FI: of the result, else of the first file."""
    if holds_channels(result):
        return flips_of(result)
    for path in paths:
        with Store(path, RANKING, RESULT) as store:
            schema, names = store.schema, store.members("importance")
        if schema == RANKING and CHANNEL_FI in names:
            return {}
        if schema == RESULT:
            with Result(path) as other:
                if holds_channels(other):
                    return flips_of(other)
    return {}
