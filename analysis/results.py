"""Result files of SentinelNN (HDF5, schema versions 1 and 2) as pandas tables.

A result is published as a whole file, so one of a running campaign reads as well: it has fewer
rows.

    from results import Result

    with Result("result.h5") as result:
        print(result.estimates)                                  # with their intervals
        print(result.mean("failing", point=0, model="unprotected"))  # the same, from the rows
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import checkpoints
import checks
import estimation
import numpy as np
import pandas as pd
import weights
from hdf5 import ResultError, Store, json_object
from schema import (
    AUDIT,
    CENTRE,
    CLASSES,
    ESTIMATE,
    FAULT,
    FOUND,
    MEMORY,
    MODEL_NUMBERS,
    NODE,
    OUTPUTS,
    PAIRING,
    PLAN,
    POINT,
    RESULT,
    ROUND,
    SESSION,
    SHARE,
    STRATUM,
    TENSOR,
    TRIAL,
)
from scores import scores_of


class Result:
    """One result file, held open; tables are read when first asked for."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._store = Store(path, RESULT)

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._store.close()

    # ---- what was run ----------------------------------------------------------------------

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the file: creator, created, command, job, seed, complete and so on."""
        return self._store.attributes()

    @property
    def complete(self) -> bool:
        """Whether every planned trial is stored."""
        return self._store.integer(self.attributes, "complete", "/") != 0

    @property
    def confidence(self) -> float:
        """Confidence level of the campaign's intervals."""
        try:
            confidence = float(self._design.get("confidence", 0.95))
        except (TypeError, ValueError):
            confidence = float("nan")
        if not 0 < confidence < 1:
            raise ResultError(f"{self.path}: /design: confidence is no number between 0 and 1")
        return confidence

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Hashes of model, data and ranking, library versions, arithmetic."""
        return self._store.attributes("provenance")

    @cached_property
    def fingerprint_parts(self) -> dict[str, Any]:
        """What the rows depend on, by name; none in files of earlier versions."""
        return self._store.attributes("provenance/fingerprint")

    @cached_property
    def job(self) -> dict[str, Any]:
        """The resolved job (TOML) as a dictionary; empty where this Python has no tomllib."""
        try:
            import tomllib
        except ImportError:  # Python before 3.11
            return {}
        try:
            return tomllib.loads(str(self.attributes.get("job", "")))
        except (tomllib.TOMLDecodeError, RecursionError):
            return {}

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """One row per incarnation of the campaign; `info` is a dictionary."""
        sessions = self._store.table("provenance/sessions", SESSION)
        checks.sessions(self.path, sessions)
        sessions["info"] = [json_object(text) for text in sessions["info"]]
        return sessions

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row per (fault model, BER); indexed by the id used in /trials."""
        points = self._store.table("points", POINT).set_index("id", drop=False).sort_index()
        if points.index.has_duplicates:
            raise ResultError(f"{self.path}: /points holds an id twice")
        checks.points(self.path, points)
        return points

    @cached_property
    def models(self) -> pd.DataFrame:
        """One row per model, indexed by the number used in /trials."""
        rows = [self._model(name) for name in self._store.members("models")]
        columns = ["index", "name", *MODEL_NUMBERS, *MEMORY, "checkpoint_sha256", "structure"]
        frame = pd.DataFrame(rows, columns=columns)
        frame = frame.set_index("index").sort_index()
        if frame.index.has_duplicates:
            raise ResultError(f"{self.path}: /models holds an index twice")
        checks.models(self.path, frame)
        return frame

    def normalisation(self, model: str) -> tuple[list[float], list[float]] | None:
        """Mean and std of the model's images (pixel / 255); None: as usual for the data set."""
        if "mean" not in self._store.members(f"models/{model}"):
            return None
        mean, std = (self._store.array(f"models/{model}/{name}") for name in ("mean", "std"))
        return mean.tolist(), std.tolist()

    def tensors(self, model: str) -> pd.DataFrame:
        """Tensors that may be hit; the row number is the `tensor` of a fault."""
        table = self._store.table(f"models/{model}/tensors", TENSOR)
        last = len(CLASSES) - 1
        checks.within(self.path, f"models/{model}/tensors", "kind", table["kind"], 0, last)
        return table

    def layouts(self, model: str) -> dict[str, str]:
        """Layouts of the stored tensors that are not plain fp32, by entry of the state_dict."""
        structure = self.models["structure"][self._model_number(model)]
        storage = json_object(structure).get("storage")
        if not isinstance(storage, dict):
            return {}
        return {str(entry): str(layout) for entry, layout in storage.items()}

    def nodes(self, model: str) -> pd.DataFrame:
        """Nodes of the network in execution order; the row number is `first_node` of a trial."""
        return self._store.table(f"models/{model}/nodes", NODE)

    def golden(self, model: str) -> pd.DataFrame:
        """Label and fault-free prediction of every image."""
        labels = self._store.numbers("golden/labels", "ui")
        predictions = self._store.numbers(f"golden/{model}/predictions", "ui")
        if len(labels) != len(predictions):
            raise ResultError(
                f"{self.path}: /golden: {len(labels)} labels and {len(predictions)} predictions of "
                f"{model}"
            )
        return pd.DataFrame({"label": labels, "prediction": predictions})

    # ---- how trials were chosen ------------------------------------------------------------

    @cached_property
    def plans(self) -> pd.DataFrame:
        """How each point is sampled, indexed by point: `sampling` is simple, stratified,
        sequential or allocated, or divided (weights.DIVIDED: per-layer …); `used` trials are in the
        estimates; `reached`: the stopping rule was met."""
        plans = self._store.table("design/plans", PLAN)
        checks.plans(self.path, plans, self.points["trials"])
        plans = plans.set_index("point")
        if plans.index.has_duplicates:
            raise ResultError(f"{self.path}: /design/plans holds a point twice")
        plans = plans.reindex(self.points.index)
        rule = str(self._design.get("stop_rule", "fixed number of trials"))
        defaults = {"sampling": weights.SIMPLE, "stop_rule": rule, "half_width": 0.0}
        plans = plans.fillna(defaults | {"guaranteed": 0, "first": 0, "used": 0, "reached": 0})
        for unknown in set(plans["sampling"]) - set(weights.SAMPLINGS):
            raise ResultError(f"{self.path}: /design/plans: sampling {unknown} is unknown")
        types = {"guaranteed": bool, "first": "int64", "used": "int64", "reached": bool}
        return plans.astype(types)

    @cached_property
    def strata(self) -> pd.DataFrame:
        """Strata of the points: name, `weight` (exact share of the population), relative cost."""
        strata = self._store.table("design/strata", STRATUM)
        if strata.duplicated(["point", "stratum"]).any():
            raise ResultError(f"{self.path}: /design/strata holds a stratum twice")
        checks.strata(self.path, strata, self.points.index)
        return strata

    @cached_property
    def shares(self) -> pd.DataFrame:
        """`weight` of the strata of divided points in networks after the first; empty else."""
        shares = self._store.table("design/shares", SHARE)
        checks.shares(self.path, shares, self.points.index, self.models.index)
        return shares

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row per round and stratum: its trials and how they were allocated or drawn."""
        rounds = self._store.table("design/rounds", ROUND)
        checks.named(self.path, "design/rounds", rounds, "point", self.points.index)
        return rounds

    @cached_property
    def centres(self) -> pd.DataFrame:
        """Shares of the outcomes that each round of a sequential plan was centred at, by model;
        empty where there are none (other plans, and sequential ones of earlier versions)."""
        centres = self._store.table("design/centres", CENTRE)
        checks.centres(self.path, centres, self.points.index, self.models.index)
        return centres

    @cached_property
    def pairing(self) -> pd.DataFrame:
        """Per point and model but the first: share of the first one's sites whose faults the model
        has too (of a list: share of its faults); empty where the file does not tell."""
        pairing = self._store.table("design/pairing", PAIRING)
        checks.pairing(self.path, pairing, self.points.index, self.models.index)
        return pairing

    @cached_property
    def blocks(self) -> np.ndarray:
        """Block of every image; empty where every trial uses all images."""
        if "design/blocks" not in self._store:
            return np.zeros(0, np.int32)
        blocks = self._store.numbers("design/blocks", "ui").astype(np.int64)
        checks.blocks(self.path, blocks)
        return blocks

    @property
    def _design(self) -> dict[str, Any]:
        return self._store.attributes("design")

    # ---- what came out ---------------------------------------------------------------------

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial and model, with the point's description and the model's name joined.

        Rows beyond the point's planned trials (of a campaign that was shortened) are in no estimate
        and left out. `accuracy` is correct/images, `failure` the share with SDC-critical or DUE.
        A plain mean of stratified or sequential rows is biased: `mean` gives what the program
        estimates. `weight` and `group_weight` are for means of other columns (see weights.py).
        """
        trials = self._stored_trials[self._planned].reset_index(drop=True)
        points = self.points.reindex(trials["point"])
        for column in ("estimand", "fault_model", "ber"):
            trials[column] = points[column].to_numpy()
        trials["model_name"] = self.models["name"].reindex(trials["model"]).to_numpy()
        images = trials["images"].where(trials["images"] > 0).astype(float)
        trials["accuracy"] = trials["correct"] / images
        trials["failure"] = (trials["sdc_critical"] + trials["due"]) / images
        counted = weights.weights_of(self.path, trials, self.plans, self.strata, self.shares)
        return trials.join(counted)

    def mean(
        self,
        quantity: str,
        point: int,
        model: int | str,
        against: int | str | None = None,
        where: pd.Series | None = None,
    ) -> float:
        """What the program estimates (`estimates`), from the rows of `trials`.

        `quantity`: accuracy, failing, an outcome (masked, sdc_noncritical, sdc_critical, due), or
        accuracy_argmax; `model` and `against`, for the difference to another one, by number or
        name. `where`: a column of truths, one per row of `trials`, for the mean over those rows
        alone. Not a number where there are no such rows, or a stratum is without any.
        """
        model, against = self._model_number(model), self._model_number(against)
        if where is None:
            return estimation.estimate(self, point, model, quantity, against)
        found = estimation.observations(self, point, model, quantity, against)
        chosen = where.reindex(found.rows.index, fill_value=False).to_numpy(bool)
        return estimation.group_mean(found.only(chosen))

    @cached_property
    def faults(self) -> pd.DataFrame:
        """One row per stored fault: the row of its trial in `trials`; tensor, layer, class and
        layout of its word by name.

        Trials with `faults_stored` 0 have none here. `copy` tells a duplicated channel's copy;
        values are those of fp32 words (`layout` of the tensor) as floats, of others not numbers;
        `checkpoint_element` is the place in the flattened tensor of that name in the model's .pth
        (see checkpoints.py).
        """
        faults = self._store.table("faults/sites", FAULT)
        rows = self._fault_rows(len(faults))
        kept = self._planned[rows]
        faults = faults[kept].reset_index(drop=True)
        rows = (np.cumsum(self._planned) - 1)[rows[kept]]
        faults.insert(0, "row", rows)
        for column in ("point", "id", "model"):
            faults[column] = self.trials[column].to_numpy()[rows]
        self._name_faults(faults)
        for column in ("before", "after"):
            faults[f"{column}_value"] = _as_float(faults[column], faults["layout"] == "fp32")
        return faults

    @cached_property
    def looks(self) -> pd.DataFrame:
        """Estimates with intervals as the program computed them, at every look (`trials` long)."""
        return self._estimates[self._estimates["stratum"] < 0].reset_index(drop=True)

    @cached_property
    def stratum_estimates(self) -> pd.DataFrame:
        """The same of the faults of one stratum alone (`stratum`, `stratum_name`, `share` of it in
        the network's population), of divided points (--sampling per-layer and the like)."""
        table = self._estimates[self._estimates["stratum"] >= 0].reset_index(drop=True)
        strata = self.strata.set_index(["point", "stratum"])
        place = pd.MultiIndex.from_frame(table[["point", "stratum"]])
        table["stratum_name"] = strata["name"].reindex(place).to_numpy()
        checks.stratum_names(self.path, table)
        table["share"] = weights.shares_of(self.path, table, self.strata, self.shares)
        return table

    @cached_property
    def _estimates(self) -> pd.DataFrame:
        table = self._store.table("estimates", ESTIMATE)
        checks.estimates(self.path, table, self.plans, self.models.index)
        names = self.models["name"]
        table["model_name"] = names.reindex(table["model"]).to_numpy()
        table["against_name"] = names.reindex(table["against"]).to_numpy()
        return table

    @cached_property
    def estimates(self) -> pd.DataFrame:
        """The last look at every quantity."""
        key = ["point", "model", "against", "quantity"]
        ordered = self.looks.sort_values("trials", kind="stable")
        return ordered.drop_duplicates(key, keep="last").sort_index().reset_index(drop=True)

    @cached_property
    def audit(self) -> pd.DataFrame:
        """Trials that were run again by the reference path, one row per trial and model: what it
        found (`reference_correct` …), what is stored in /trials (`fast_correct` …), images of
        another outcome (`mismatches`; `near_ties`, which rounding decides, are none), `deviation`
        of the logits relative to the image's largest."""
        key = ["point", "id", "model"]
        audit = self._store.table("audit", AUDIT)
        checks.audit(self.path, audit)
        audit = audit.rename(columns={name: f"reference_{name}" for name in FOUND})
        fast = self._stored_trials[[*key, *FOUND]]
        fast = fast.rename(columns={name: f"fast_{name}" for name in FOUND})
        joined = audit.merge(fast, on=key, how="left", validate="one_to_one")
        if len(joined) and joined["fast_correct"].isna().any():
            raise ResultError(f"{self.path}: /audit names a trial that is not in /trials")
        joined["model_name"] = self.models["name"].reindex(joined["model"]).to_numpy()
        return joined

    @cached_property
    def importance(self) -> pd.DataFrame:
        """One row per method, layer (in the model's order) and channel; rank 0 is the best."""
        return scores_of(self._store)

    # ---- reading ---------------------------------------------------------------------------

    @cached_property
    def _stored_trials(self) -> pd.DataFrame:
        """Every row of /trials; all of them name a point and a model of the file."""
        trials = self._store.table("trials", TRIAL)
        for column, known in (("point", self.points.index), ("model", self.models.index)):
            for unknown in trials.loc[~trials[column].isin(known), column]:
                raise ResultError(f"{self.path}: /trials names {column} {unknown}: unknown")
        checks.trials(self.path, trials, self.models, self.blocks)
        return trials

    @cached_property
    def _planned(self) -> np.ndarray:
        """Which rows of /trials belong to the planned trials of their point."""
        trials = self._stored_trials
        planned = self.points["trials"].reindex(trials["point"]).to_numpy()
        first = self.plans["first"].reindex(trials["point"]).to_numpy()
        return (trials["id"].to_numpy() >= first) & (trials["id"].to_numpy() < planned)

    @property
    def stored_trials(self) -> int:
        """Trials of which rows are stored, whether in `trials` or left out."""
        return len(self._stored_trials[["point", "id"]].drop_duplicates())

    @property
    def rows_beyond_plan(self) -> int:
        """Stored rows that are left out of `trials`."""
        return int((~self._planned).sum())

    def _model_number(self, model: int | str | None) -> int | None:
        if not isinstance(model, str):
            return model
        for number, name in self.models["name"].items():
            if name == model:
                return int(number)
        raise ResultError(
            f"{self.path}: no model '{model}': there are {', '.join(self.models.name)}"
        )

    def _model(self, name: str) -> dict[str, Any]:
        where = f"models/{name}"
        attributes = self._store.attributes(where)
        row: dict[str, Any] = {"name": name}
        for key in ("index", *MODEL_NUMBERS):
            row[key] = self._store.integer(attributes, key, where)
        row["stored_bits"] = self._store.integer(attributes, "stored_bits", where)
        row["bits_per_weight"] = self._store.number(attributes, "bits_per_weight", where)
        row |= {key: str(attributes.get(key, "")) for key in ("checkpoint_sha256", "structure")}
        return row

    def _fault_rows(self, count: int) -> np.ndarray:
        """The row of /trials of every fault."""
        trials = len(self._stored_trials)
        if "faults/offsets" not in self._store and count == 0:
            return np.zeros(0, np.int64)
        offsets = self._store.array("faults/offsets")
        fits = offsets.dtype.kind in "ui" and len(offsets) == trials + 1
        # As signed numbers: the steps of unsigned ones would wrap.
        offsets = offsets.astype(np.int64) if fits else np.zeros(1, np.int64)
        steps = np.diff(offsets)
        if not fits or offsets[0] != 0 or offsets[-1] != count or (steps < 0).any():
            raise ResultError(
                f"{self.path}: /faults/offsets does not fit /trials and /faults/sites"
            )
        self._check_fault_counts(steps)
        return np.repeat(np.arange(trials), steps)

    def _check_fault_counts(self, stored: np.ndarray) -> None:
        trials = self._stored_trials
        wrong = stored != (trials["n_faults"] * (trials["faults_stored"] != 0)).to_numpy()
        for row in np.flatnonzero(wrong):
            trial = trials.iloc[row]
            raise ResultError(
                f"{self.path}: /trials, row {row}: n_faults is {trial['n_faults']:.0f}, "
                f"faults_stored is {trial['faults_stored']:.0f}, and {stored[row]} faults are "
                "stored; the file is damaged"
            )

    def _name_faults(self, faults: pd.DataFrame) -> None:
        names = np.empty(len(faults), dtype=object)
        layouts = np.empty(len(faults), dtype=object)
        copies = np.zeros(len(faults), dtype=bool)
        places = faults["element"].to_numpy().astype(np.int64)
        for index, model in self.models["name"].items():
            tensors = self.tensors(model)
            model_structure = json_object(self.models["structure"][index])
            mine = (faults["model"] == index).to_numpy()
            images = int(self.models["images"][index])
            checks.faults(self.path, model, faults[mine], tensors, images)
            hit = faults["tensor"].to_numpy()[mine]
            names[mine] = tensors["name"].to_numpy()[hit]
            layouts[mine] = tensors["layout"].to_numpy()[hit]
            places[mine] = checkpoints.elements_in_file(model_structure, tensors, hit, places[mine])
            copies[mine] = (
                faults["element"].to_numpy()[mine] >= tensors["originals"].to_numpy()[hit]
            )
        faults["tensor_name"] = pd.Categorical(names)
        faults["layer"] = layer_of(
            faults["tensor_name"].astype(str), faults["kind"]
        ).astype("category")
        faults["class"] = pd.Categorical.from_codes(faults["kind"], categories=list(CLASSES))
        faults["layout"] = pd.Categorical(layouts)
        faults["copy"] = copies
        faults["checkpoint_element"] = places


def layer_of(tensor_names: pd.Series, kinds: pd.Series) -> pd.Series:
    """layer1.0.conv1.weight, layer1.0.conv1.weight.check -> layer1.0.conv1; outputs are called by
    their node as it is. `kinds`: numbers of the tensors' classes."""
    of_nodes = kinds.isin([CLASSES.index(name) for name in OUTPUTS])
    stored = tensor_names.str.replace(r"\.[^.]*(\.check)?$", "", regex=True)
    return tensor_names.where(of_nodes, stored)


def read_trials(paths: Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """Trials of several result files, with a column `file`."""
    frames = []
    for path in paths:
        with Result(path) as result:
            frames.append(result.trials.assign(file=str(path)))
    return pd.concat(frames, ignore_index=True)


def _as_float(words: pd.Series, are_floats: pd.Series) -> np.ndarray:
    values = words.to_numpy().astype(np.uint32).view(np.float32)
    return np.where(are_floats.to_numpy(), values, np.float32("nan"))
