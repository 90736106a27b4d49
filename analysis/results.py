"""Result files of SentinelNN (HDF5, schema version 1) as pandas tables.

The schema is documented in include/sentinel/store/schema.hpp; this module knows nothing else of
the program. A result is published as a whole file, so one of a running campaign reads as well: it
has fewer rows.

    from results import Result

    with Result("result.h5") as result:
        print(result.trials.groupby(["ber", "model_name"]).accuracy.agg(["mean", "sem", "count"]))
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

# A published file never changes, and locks fail on read-only and on some parallel file systems.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

SCHEMA = "sentinelnn-result"
SCHEMA_VERSION = 1

# Members a reader may rely on; for strings the length is the writer's choice.
TRIAL = np.dtype(
    [
        ("point", "u4"),
        ("id", "u8"),
        ("model", "u4"),
        ("stage", "u1"),
        ("stratum", "i4"),
        ("probability", "f8"),
        ("block", "i4"),
        ("n_faults", "u4"),
        ("first_node", "i4"),
        ("images", "u4"),
        ("correct", "u4"),
        ("top5", "u4"),
        ("masked", "u4"),
        ("sdc_noncritical", "u4"),
        ("sdc_critical", "u4"),
        ("due", "u4"),
        ("correct_argmax", "u4"),
        ("session", "u4"),
        ("audited", "u1"),
        ("path", "u1"),
        ("wall_us", "u4"),
        ("rank", "u4"),
    ]
)
FAULT = np.dtype(
    [
        ("kind", "u1"),
        ("tensor", "u4"),
        ("element", "u8"),
        ("word_bits", "u1"),
        ("bit", "u1"),
        ("before", "u8"),
        ("after", "u8"),
    ]
)
ESTIMATE = np.dtype(
    [
        ("point", "u4"),
        ("model", "i4"),
        ("against", "i4"),
        ("quantity", "S32"),
        ("estimate", "f8"),
        ("lower", "f8"),
        ("upper", "f8"),
        ("confidence", "f8"),
        ("method", "S32"),
        ("trials", "u8"),
    ]
)
AUDIT = np.dtype(
    [
        ("point", "u4"),
        ("id", "u8"),
        ("model", "u4"),
        ("images", "u4"),
        ("mismatches", "u4"),
        ("near_ties", "u4"),
    ]
)
SESSION = np.dtype(
    [
        ("number", "u4"),
        ("started", "f8"),
        ("ended", "f8"),
        ("ranks", "u4"),
        ("host", "S64"),
        ("new_trials", "u8"),
        ("info", "S1024"),
    ]
)
POINT = np.dtype(
    [
        ("id", "u4"),
        ("estimand", "S32"),
        ("fault_model", "S32"),
        ("ber", "f8"),
        ("trials", "u8"),
        ("models", "S256"),
    ]
)
TENSOR = np.dtype(
    [
        ("name", "S128"),
        ("kind", "u1"),
        ("elements", "u8"),
        ("originals", "u8"),
        ("word_bits", "u1"),
    ]
)
NODE = np.dtype([("name", "S128"), ("op", "S32"), ("macs", "i8"), ("parameters", "i8")])

# Kinds of NumPy types that may stand for the one expected.
KINDS = {"S": "SO", "u": "u", "i": "ui", "f": "f"}

MODEL_NUMBERS = ("parameters", "macs", "memory_bytes", "images", "correct", "top5")
OUTCOMES = ("masked", "sdc_noncritical", "sdc_critical", "due")


class ResultError(Exception):
    """A file that is missing, no result of ours, or broken; one line that says which and why."""


class Result:
    """One result file, held open; tables are read when first asked for."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = _open(self.path)

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    # ---- what was run ----------------------------------------------------------------------

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the file: creator, created, command, job, seed, complete and so on."""
        return _attributes(self._file)

    @property
    def complete(self) -> bool:
        """Whether every planned trial is stored."""
        return _integer(self.path, self.attributes, "complete", "/") != 0

    @property
    def confidence(self) -> float:
        """Confidence level of the campaign's intervals."""
        design = _attributes(self._file["design"]) if "design" in self._file else {}
        try:
            confidence = float(design.get("confidence", 0.95))
        except (TypeError, ValueError):
            confidence = float("nan")
        if not 0 < confidence < 1:
            raise ResultError(f"{self.path}: /design: confidence is no number between 0 and 1")
        return confidence

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Hashes of model, data and ranking, library versions, arithmetic."""
        return _attributes(self._file["provenance"]) if "provenance" in self._file else {}

    @cached_property
    def job(self) -> dict[str, Any]:
        """The resolved job (TOML) as a dictionary; empty where this Python has no tomllib."""
        try:
            import tomllib
        except ImportError:  # Python before 3.11
            return {}
        try:
            return tomllib.loads(str(self.attributes.get("job", "")))
        except tomllib.TOMLDecodeError:
            return {}

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """One row per incarnation of the campaign; `info` is a dictionary."""
        sessions = self._table("provenance/sessions", SESSION)
        sessions["info"] = [_json(text) for text in sessions["info"]]
        return sessions

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row per (fault model, BER); indexed by the id used in /trials."""
        points = self._table("points", POINT).set_index("id", drop=False).sort_index()
        if points.index.has_duplicates:
            raise ResultError(f"{self.path}: /points holds an id twice")
        return points

    @cached_property
    def models(self) -> pd.DataFrame:
        """One row per model, indexed by the number used in /trials."""
        rows = [self._model(name) for name in self._members("models")]
        columns = ["index", "name", *MODEL_NUMBERS, "checkpoint_sha256", "structure"]
        frame = pd.DataFrame(rows, columns=columns)
        frame = frame.set_index("index").sort_index()
        if frame.index.has_duplicates:
            raise ResultError(f"{self.path}: /models holds an index twice")
        return frame

    def tensors(self, model: str) -> pd.DataFrame:
        """Tensors that may be hit; the row number is the `tensor` of a fault."""
        return self._table(f"models/{model}/tensors", TENSOR)

    def nodes(self, model: str) -> pd.DataFrame:
        """Nodes of the network in execution order; the row number is `first_node` of a trial."""
        return self._table(f"models/{model}/nodes", NODE)

    def golden(self, model: str) -> pd.DataFrame:
        """Label and fault-free prediction of every image."""
        labels = self._array("golden/labels")
        return pd.DataFrame(
            {"label": labels, "prediction": self._array(f"golden/{model}/predictions")}
        )

    # ---- what came out ---------------------------------------------------------------------

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial and model, with the point's description and the model's name joined.

        Rows beyond the point's planned trials (of a campaign that was shortened) are in no estimate
        and left out. `accuracy` is correct/images, `failure` the share with SDC-critical or DUE.
        """
        trials = self._stored_trials[self._planned].reset_index(drop=True)
        points = self.points.reindex(trials["point"])
        for column in ("estimand", "fault_model", "ber"):
            trials[column] = points[column].to_numpy()
        trials["model_name"] = self.models["name"].reindex(trials["model"]).to_numpy()
        images = trials["images"].where(trials["images"] > 0).astype(float)
        trials["accuracy"] = trials["correct"] / images
        trials["failure"] = (trials["sdc_critical"] + trials["due"]) / images
        return trials

    @cached_property
    def faults(self) -> pd.DataFrame:
        """One row per flipped bit: the row of its trial in `trials`, tensor and layer by name.

        `copy` tells a duplicated channel's copy; values are those of 32-bit words as floats.
        """
        faults = self._table("faults/sites", FAULT)
        rows = self._fault_rows(len(faults))
        kept = self._planned[rows]
        faults = faults[kept].reset_index(drop=True)
        rows = (np.cumsum(self._planned) - 1)[rows[kept]]
        faults.insert(0, "row", rows)
        for column in ("point", "id", "model"):
            faults[column] = self.trials[column].to_numpy()[rows]
        self._name_faults(faults)
        for column in ("before", "after"):
            faults[f"{column}_value"] = _as_float(faults[column], faults["word_bits"])
        return faults

    @cached_property
    def estimates(self) -> pd.DataFrame:
        """Estimates with intervals as the program computed them (its last look)."""
        estimates = self._table("estimates", ESTIMATE)
        names = self.models["name"]
        estimates["model_name"] = names.reindex(estimates["model"]).to_numpy()
        estimates["against_name"] = names.reindex(estimates["against"]).to_numpy()
        key = ["point", "model", "against", "quantity"]
        latest = estimates.sort_values("trials", kind="stable").drop_duplicates(key, keep="last")
        return latest.sort_index().reset_index(drop=True)

    @cached_property
    def audit(self) -> pd.DataFrame:
        """Trials that were run again through the reference path."""
        return self._table("audit", AUDIT)

    @cached_property
    def importance(self) -> pd.DataFrame:
        """One row per method, layer (in the model's order) and channel; rank 0 is the best."""
        frames = [
            self._scores(method, layer)
            for method in self._members("importance")
            for layer in self._in_order(f"importance/{method}")
        ]
        columns = ["method", "layer", "channel", "score", "rank"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    # ---- reading ---------------------------------------------------------------------------

    @cached_property
    def _stored_trials(self) -> pd.DataFrame:
        """Every row of /trials; all of them name a point and a model of the file."""
        trials = self._table("trials", TRIAL)
        for column, known in (("point", self.points.index), ("model", self.models.index)):
            for unknown in trials.loc[~trials[column].isin(known), column]:
                raise ResultError(f"{self.path}: /trials names {column} {unknown}: unknown")
        return trials

    @cached_property
    def _planned(self) -> np.ndarray:
        """Which rows of /trials belong to the planned trials of their point."""
        trials = self._stored_trials
        planned = self.points["trials"].reindex(trials["point"]).to_numpy()
        return trials["id"].to_numpy() < planned

    @property
    def rows_beyond_plan(self) -> int:
        """Stored rows that are left out of `trials`."""
        return int((~self._planned).sum())

    def _table(self, path: str, dtype: np.dtype) -> pd.DataFrame:
        if path not in self._file:
            return _frame(np.zeros(0, dtype))
        data = self._array(path)
        for name in dtype.names or ():
            if name not in (data.dtype.names or ()):
                raise ResultError(f"{self.path}: /{path} has no column {name}: not schema 1")
            if data.dtype[name].kind not in KINDS[dtype[name].kind]:
                raise ResultError(f"{self.path}: /{path}: column {name} has a type of another kind")
        return _frame(data)

    def _array(self, path: str) -> np.ndarray:
        """A dataset of one dimension."""
        try:
            data = self._file[path]
            array = data[()] if isinstance(data, h5py.Dataset) else None
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ResultError(f"{self.path}: /{path} cannot be read: {_line(error)}") from error
        if not isinstance(array, np.ndarray) or array.ndim != 1:
            raise ResultError(f"{self.path}: /{path} is no dataset of one dimension")
        return array

    def _members(self, path: str) -> list[str]:
        """Names in a group; none where the file has no such group."""
        if path not in self._file:
            return []
        group = self._file[path]
        if not isinstance(group, h5py.Group):
            raise ResultError(f"{self.path}: /{path} is no group")
        return list(group)

    def _model(self, name: str) -> dict[str, Any]:
        where = f"models/{name}"
        attributes = _attributes(self._file[where])
        row: dict[str, Any] = {"name": name}
        for key in ("index", *MODEL_NUMBERS):
            row[key] = _integer(self.path, attributes, key, where)
        row |= {key: str(attributes.get(key, "")) for key in ("checkpoint_sha256", "structure")}
        return row

    def _fault_rows(self, count: int) -> np.ndarray:
        """The row of /trials of every fault."""
        trials = len(self._stored_trials)
        if "faults/offsets" not in self._file and count == 0:
            return np.zeros(0, np.int64)
        offsets = self._array("faults/offsets")
        fits = offsets.dtype.kind in "ui" and len(offsets) == trials + 1
        # As signed numbers: the steps of unsigned ones would wrap.
        offsets = offsets.astype(np.int64) if fits else np.zeros(1, np.int64)
        steps = np.diff(offsets)
        if not fits or offsets[0] != 0 or offsets[-1] != count or (steps < 0).any():
            raise ResultError(
                f"{self.path}: /faults/offsets does not fit /trials and /faults/sites"
            )
        return np.repeat(np.arange(trials), steps)

    def _name_faults(self, faults: pd.DataFrame) -> None:
        names = np.empty(len(faults), dtype=object)
        copies = np.zeros(len(faults), dtype=bool)
        for index, model in self.models["name"].items():
            tensors = self.tensors(model)
            mine = (faults["model"] == index).to_numpy()
            hit = faults["tensor"].to_numpy()[mine]
            if len(hit) and hit.max() >= len(tensors):
                raise ResultError(f"{self.path}: a fault names tensor {hit.max()} of {model}")
            names[mine] = tensors["name"].to_numpy()[hit]
            copies[mine] = (
                faults["element"].to_numpy()[mine] >= tensors["originals"].to_numpy()[hit]
            )
        faults["tensor_name"] = pd.Categorical(names)
        faults["layer"] = layer_of(faults["tensor_name"].astype(str)).astype("category")
        faults["copy"] = copies

    def _scores(self, method: str, layer: str) -> pd.DataFrame:
        scores = self._array(f"importance/{method}/{layer}/scores")
        order = self._array(f"importance/{method}/{layer}/order")
        if not np.array_equal(np.sort(order), np.arange(len(scores))):
            where = f"/importance/{method}/{layer}"
            raise ResultError(f"{self.path}: {where}: order is no order of its scores")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        channel = np.arange(len(scores))
        return pd.DataFrame(
            {"method": method, "layer": layer, "channel": channel, "score": scores, "rank": rank}
        )

    def _in_order(self, method: str) -> list[str]:
        """HDF5 lists names alphabetically; the attribute index is the order of execution."""

        def index(layer: str) -> int:
            where = f"{method}/{layer}"
            return _integer(self.path, _attributes(self._file[where]), "index", where)

        return sorted(self._members(method), key=index)


def layer_of(tensor_names: pd.Series) -> pd.Series:
    """The layer of a tensor: layer1.0.conv1.weight -> layer1.0.conv1."""
    return tensor_names.str.replace(r"\.[^.]*$", "", regex=True)


def read_trials(paths: Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """Trials of several result files, with a column `file`."""
    frames = []
    for path in paths:
        with Result(path) as result:
            frames.append(result.trials.assign(file=str(path)))
    return pd.concat(frames, ignore_index=True)


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise ResultError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ResultError(f"{path}: not a readable HDF5 file: {_line(error)}") from error
    try:
        _check_schema(path, _attributes(file))
    except ResultError:
        file.close()
        raise
    return file


def _check_schema(path: Path, attributes: dict[str, Any]) -> None:
    if attributes.get("schema") != SCHEMA:
        raise ResultError(f"{path}: not a SentinelNN result (no attribute schema = {SCHEMA})")
    version = _integer(path, attributes, "schema_version", "/")
    if version != SCHEMA_VERSION:
        raise ResultError(f"{path}: schema version {version}, this reader knows {SCHEMA_VERSION}")


def _integer(path: Path, attributes: dict[str, Any], name: str, where: str) -> int:
    """An attribute that is an integer; 0 where it is absent."""
    value = attributes.get(name, 0)
    if not isinstance(value, (int, np.integer)):
        raise ResultError(f"{path}: {where}: attribute {name} is no integer")
    return int(value)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _attributes(where: h5py.Group) -> dict[str, Any]:
    return {name: _plain(value) for name, value in where.attrs.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.item() if isinstance(value, np.generic) else value


def _frame(data: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({name: _column(data[name]) for name in data.dtype.names or ()})


def _column(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "SO":
        return np.array([_plain(value) for value in values.tolist()], dtype=object)
    return values


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {"info": text} if text else {}
    return value if isinstance(value, dict) else {"info": value}


def _as_float(words: pd.Series, bits: pd.Series) -> np.ndarray:
    values = words.to_numpy().astype(np.uint32).view(np.float32)
    return np.where(bits.to_numpy() == 32, values, np.float32("nan"))
