"""Small result files, written by h5py after the schema page (include/sentinel/store/schema.hpp)."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))

import schema  # noqa: E402

LAYERS = ("stem", "layer1.0.conv1", "linear")  # not in the order of the alphabet
# name: (parameters, macs, memory_bytes, images, correct)
MODELS = {
    "unprotected": (1000, 50000, 4000, 100, 90),
    "hardened": (1100, 56000, 4440, 100, 89),
}
JOB = '[campaign]\nmodel = "resnet20"\ndataset = "synthetic"\n'


@dataclass
class Sample:
    """What goes into a file; tests fill the rows by hand."""

    models: tuple[str, ...] = ("unprotected", "hardened")
    points: tuple[tuple[str, float, int], ...] = (("binomial", 1e-5, 4),)  # model, BER, trials
    trials: list[dict] = field(default_factory=list)  # columns of TRIAL that are not 0
    faults: list[list[tuple[int, int, int]]] = field(default_factory=list)  # tensor, element, bit
    estimates: list[dict] = field(default_factory=list)
    complete: bool = True
    importance: bool = False
    plans: list[dict] = field(default_factory=list)  # rows of /design, as the other tables'
    strata: list[dict] = field(default_factory=list)
    rounds: list[dict] = field(default_factory=list)
    blocks: tuple[int, ...] = ()  # of the images
    estimands: tuple[str, ...] = ()  # of the points, where not T2
    audit: list[dict] = field(default_factory=list)
    networks: tuple[str, ...] = ()  # hashes of the models, in the fingerprint's parts
    centres: list[dict] = field(default_factory=list)
    version: int = 2  # of the schema
    kind_of_fault: dict = field(default_factory=dict)  # columns effect, shape, target of the points
    tensors: list[dict] = field(default_factory=list)  # of every model, where not fp32 weights
    storage: dict = field(default_factory=dict)  # layouts by entry, in the last model
    pairing: list[dict] = field(default_factory=list)
    sites: dict = field(default_factory=dict)  # further columns of all faults

    def write(self, path: Path) -> Path:
        with h5py.File(path, "w") as file:
            self._head(file)
            self._models(file)
            lifetime = [("lifetime", "S16")] if "lifetime" in self.kind_of_fault else []
            file["points"] = self._rows(
                "points",
                np.dtype([*schema.POINT.descr, *lifetime]),
                [
                    {"id": i, "fault_model": m, "ber": b, "trials": n}
                    | {"estimand": self.estimands[i] if self.estimands else "T2"}
                    | {"models": ",".join(self.models)}
                    | {"effect": "flip", "shape": "bit", "target": "weight"}
                    | self.kind_of_fault
                    for i, (m, b, n) in enumerate(self.points)
                ],
            )
            self._trials(file)
            file["estimates"] = _rows(schema.ESTIMATE, self.estimates)
            file["audit"] = _rows(schema.AUDIT, self.audit)
        return path

    def _rows(self, table: str, dtype: np.dtype, rows: list[dict]) -> np.ndarray:
        """With the columns that the schema version has."""
        since2 = schema.SINCE_2[table] if self.version < 2 else {}
        kept = np.dtype([(name, dtype[name]) for name in dtype.names or () if name not in since2])
        return _rows(
            kept, [{name: row[name] for name in row if name in (kept.names or ())} for row in rows]
        )

    def _head(self, file: h5py.File) -> None:
        file.attrs.update(
            schema="sentinelnn-result",
            schema_version=self.version,
            creator="sentinelnn",
            creator_version="0.1.0+test",
            created="2026-01-02T03:04:05Z",
            command="sentinelnn campaign --job x.toml",
            job=JOB,
            fingerprint="f00d",
            seed=np.uint64(1),
            rng="philox4x32-10",
            complete=np.uint8(self.complete),
        )
        file.create_group("provenance").attrs["libtorch"] = "1.13.1"
        parts = file.create_group("provenance/fingerprint").attrs
        for index, sha in enumerate(self.networks):
            parts[f"model {index} {self.models[index]}"] = sha
        session = {
            "number": 0,
            "started": 1.7e9,
            "ended": 1.7e9 + 12.5,
            "ranks": 2,
            "host": "node1",
        }
        session |= {"new_trials": len(self.trials), "info": json.dumps({"threads": 1})}
        file["provenance/sessions"] = _rows(schema.SESSION, [session])
        self._design(file.create_group("design"))

    def _design(self, group: h5py.Group) -> None:
        group.attrs["confidence"] = 0.95
        group.attrs["stop_rule"] = "fixed number of trials"
        group.attrs["images_per_trial"] = 50 if self.blocks else -1
        group["plans"] = _rows(schema.PLAN, self.plans)
        group["strata"] = _rows(schema.STRATUM, self.strata)
        group["rounds"] = _rows(schema.ROUND, self.rounds)
        if self.centres:
            group["centres"] = _rows(schema.CENTRE, self.centres)
        if self.pairing:
            group["pairing"] = _rows(schema.PAIRING, self.pairing)
        if self.blocks:
            group["blocks"] = np.array(self.blocks, np.int32)

    def _models(self, file: h5py.File) -> None:
        for index, name in enumerate(self.models):
            group = file.create_group(f"models/{name}")
            parameters, macs, memory, images, correct = MODELS[name]
            last = name == self.models[-1]
            structure = json.dumps({"storage": self.storage} if last and self.storage else {})
            if last and self.storage:
                group.attrs.update(stored_bits=np.int64(2000), bits_per_weight=8.0)
            group.attrs.update(
                index=np.uint32(index), structure=structure, parameters=parameters, macs=macs,
                memory_bytes=memory, images=images, correct=correct, top5=images,
                checkpoint_sha256="ab" * 32,
            )  # fmt: skip
            group["tensors"] = self._rows(
                "tensors",
                schema.TENSOR,
                self.tensors
                or [
                    {"name": f"{layer}.weight", "elements": 12, "originals": 10, "word_bits": 32}
                    | {"layout": "fp32"}
                    for layer in LAYERS
                ],
            )
            nodes = [{"name": "input", "op": "input"}]
            nodes += [{"name": layer, "op": "conv"} for layer in LAYERS]
            nodes += [{"name": "bn1", "op": "batch_norm"}]
            group["nodes"] = _rows(schema.NODE, nodes)
            file[f"golden/{name}/predictions"] = np.zeros(images, np.int32)
        file["golden/labels"] = np.zeros(100, np.int32)
        for layer in LAYERS[:2] if self.importance else ():
            scores = np.array([1.0, 3.0, 2.0])
            file[f"importance/l2-norm/{layer}/scores"] = scores
            file[f"importance/l2-norm/{layer}/order"] = np.argsort(-scores)
            file[f"importance/l2-norm/{layer}"].attrs["index"] = LAYERS.index(layer)

    def _trials(self, file: h5py.File) -> None:
        faults = self.faults or [[] for _ in self.trials]
        trials = [
            {"stratum": -1, "probability": 1, "block": -1, "images": 100, "wall_us": 1000 + i}
            | {"n_faults": len(faults[i]), "faults_stored": 1}
            | row
            for i, row in enumerate(self.trials)
        ]
        file["trials"] = self._rows("trials", schema.TRIAL, trials)
        file["faults/offsets"] = np.cumsum([0] + [len(f) for f in faults]).astype("u8")
        sites = [site for trial in faults for site in trial]
        rows = [self._fault(*site) for site in sites]
        told = any(row["outcome"] != schema.NOT_TOLD for row in rows)
        outcome = [("outcome", "u1")] if told else []
        dtype = np.dtype([*schema.FAULT.descr, *outcome])
        file["faults/sites"] = self._rows("sites", dtype, rows)

    def _fault(
        self, tensor: int, element: int, bit: int, image: int = -1, outcome: int = schema.NOT_TOLD
    ) -> dict:
        own = self.tensors[tensor] if self.tensors else {}
        same = {name: own[name] for name in ("kind", "word_bits") if name in own}
        seen = {"image": image, "outcome": outcome}
        return _fault(tensor, element, bit) | seen | same | self.sites


def _fault(tensor: int, element: int, bit: int) -> dict:
    before = int(np.float32(0.5).view(np.uint32))
    after = before ^ (1 << bit)
    site = {"tensor": tensor, "element": element, "word_bits": 32, "bit": bit}
    site |= {"image": -1, "length": 1}
    return site | {"before": before, "after": after}


def _rows(dtype: np.dtype, rows: list[dict]) -> np.ndarray:
    table = np.zeros(len(rows), dtype)
    for number, row in enumerate(rows):
        for name, value in row.items():
            table[number][name] = value.encode() if isinstance(value, str) else value
    return table


def outcome(point: int, trial: int, model: int, correct: int, critical: int, due: int = 0) -> dict:
    """A row of /trials over 100 images; what is not failing is half masked."""
    rest = 100 - critical - due
    row = {"point": point, "id": trial, "model": model, "correct": correct, "top5": 100 - due}
    row |= {"sdc_critical": critical, "due": due, "masked": rest // 2}
    return row | {"sdc_noncritical": rest - rest // 2, "rank": trial % 2}


def write_ranking(
    path: Path, method: str, layers: dict[str, list[float]], network: str = "", **sample: float
) -> Path:
    """A ranking file; `sample` are the further columns of channel-FI, alike in all channels."""
    with h5py.File(path, "w") as file:
        file.attrs.update(schema="sentinelnn-ranking", schema_version=1, method=method)
        file.attrs["model_sha256"] = network
        for index, (layer, scores) in enumerate(layers.items()):
            group = file.create_group(f"importance/{method}/{layer}")
            group.attrs["index"] = np.uint32(index)
            group["scores"] = np.array(scores)
            group["order"] = np.argsort(-np.array(scores), kind="stable")
            for name, value in sample.items():
                group[name] = np.full(len(scores), value)
    return path


@pytest.fixture
def paired(tmp_path: Path) -> Path:
    """Two models, one BER, four trials; accuracies 0.5 0.7 0.9 0.7 and 0.8 0.9 0.9 0.8."""
    trials, faults = [], []
    for trial, (before, after) in enumerate([(50, 80), (70, 90), (90, 90), (70, 80)]):
        trials.append(outcome(0, trial, 0, before, 90 - before, 5))
        trials.append(outcome(0, trial, 1, after, 90 - after))
        faults += [[(0, 1, 30), (1, 11, 2)], [(0, 1, 30)]]
    return Sample(trials=trials, faults=faults, importance=True).write(tmp_path / "paired.h5")


def audit_of(row: dict, **differences: int) -> dict:
    """The audit of a row of /trials, found by the reference path to be the same but for some."""
    found = {name: row[name] for name in schema.FOUND if name in row}
    key = {name: row[name] for name in ("point", "id", "model")}
    return key | {"images": 100, "deviation": 2e-6} | found | differences


@pytest.fixture
def audited(tmp_path: Path) -> Path:
    """One model, ten trials, three audited: a near tie in trial 4, three mismatches in trial 7."""
    trials = [outcome(0, i, 0, 50 + i, 40 - i) for i in range(10)]
    for i in (2, 4, 7):
        trials[i]["audited"] = 1
    audit = [
        audit_of(trials[2]),
        audit_of(trials[4], near_ties=1, correct=53),
        audit_of(trials[7], mismatches=3, correct=54, due=3, masked=trials[7]["masked"] - 3),
    ]
    sample = Sample(
        models=("unprotected",), points=(("binomial", 1e-5, 10),), trials=trials, audit=audit
    )
    return sample.write(tmp_path / "audited.h5")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A campaign that has just begun."""
    return Sample(complete=False).write(tmp_path / "empty.h5")


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """One model, single flips: bit 30 fails 40 and 60 of 100 images, bit 0 none, thrice."""
    hits = [(30, 40), (0, 0), (30, 60), (0, 0), (0, 0)]
    trials = [outcome(0, i, 0, 90 - fail, fail) for i, (_, fail) in enumerate(hits)]
    faults = [[(i % 3, 0, bit)] for i, (bit, _) in enumerate(hits)]
    sample = Sample(
        models=("unprotected",), points=(("exact:1", 0.0, 5),), trials=trials, faults=faults
    )
    return sample.write(tmp_path / "single.h5")


STRATA = (("bit 30", 0.03125), ("bits 29-27", 0.09375), ("other bits", 0.875))


def strata_of(point: int) -> list[dict]:
    return [
        {"point": point, "stratum": h, "name": name, "weight": weight, "cost": 1.0}
        for h, (name, weight) in enumerate(STRATA)
    ]


def plan(point: int, sampling: str, **more: object) -> dict:
    rule = "fixed number of trials" if sampling == "stratified" else "half-width of 'either'"
    return {"point": point, "sampling": sampling, "stop_rule": rule} | more


@pytest.fixture
def stratified(tmp_path: Path) -> Path:
    """T1, one model: a pilot of one trial per stratum, then 4, 2 and 2 trials. Failing images of
    100: 60 in stratum 0, 10 in 1, none in 2; the pilot fails all."""
    drawn = [(h, 1) for h in range(3)] + [(h, 0) for h in (0, 0, 0, 0, 1, 1, 2, 2)]
    bits = (30, 28, 5)
    trials = []
    for i, (h, stage) in enumerate(drawn):
        fail = 90 if stage else (60, 10, 0)[h]
        trials.append(outcome(0, i, 0, 90 - fail, fail) | {"stratum": h, "stage": stage})
    sample = Sample(
        models=("unprotected",), points=(("exact:1", 0.0, 11),), estimands=("T1",), trials=trials,
        faults=[[(0, 0, bits[h])] for h, _ in drawn], strata=strata_of(0),
        plans=[plan(0, "stratified", used=8)],
    )  # fmt: skip
    return sample.write(tmp_path / "stratified.h5")


@pytest.fixture
def sequential(tmp_path: Path) -> Path:
    """T1, one model, 12 trials of which 8 were used when the rule was met; three looks."""
    probability = (0.5, 0.25, 0.25)
    trials = [
        outcome(0, i, 0, 90 - (i % 3 == 0) * 50, (i % 3 == 0) * 50)
        | {"stratum": i % 3, "probability": probability[i % 3], "block": i % 2, "images": 100}
        for i in range(12)
    ]
    looks = [
        {"point": 0, "model": 0, "against": -1, "quantity": "failing", "estimate": estimate}
        | {"lower": estimate - half, "upper": estimate + half, "confidence": 0.95, "trials": n}
        | {"method": "asymptotic confidence sequence"}
        for n, estimate, half in ((4, 0.04, 0.03), (6, 0.02, 0.02), (8, 0.01, 0.01))
    ]
    design = plan(0, "sequential", half_width=0.01, used=8, reached=1)
    rounds = [{"point": 0, "round": r, "stratum": h} for r in range(3) for h in range(3)]
    sample = Sample(
        models=("unprotected",), points=(("exact:1", 0.0, 8),), estimands=("T1",), trials=trials,
        faults=[[(0, 0, 30)]] * 12, strata=strata_of(0), plans=[design], rounds=rounds,
        estimates=looks, blocks=tuple(i % 2 for i in range(100)),
    )  # fmt: skip
    return sample.write(tmp_path / "sequential.h5")
