"""Files of schema 1 are read as before, with defaults for what they do not tell."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import failures
import h5py
import numpy as np
import pytest
import report
from conftest import LAYERS, Sample, outcome
from hdf5 import ResultError
from results import Result
from schema import NOT_KNOWN

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))

import schema1  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return schema1.unpack(tmp_path_factory.mktemp("schema1"))


def test_what_it_does_not_tell_has_defaults(made):
    with Result(made / "schema1.h5") as result:
        trials, faults = result.trials, result.faults
        assert set(trials["words_wrong"]) == set(trials["words_flagged"]) == {NOT_KNOWN}
        assert set(trials["faults_masked"]) == {0} and set(trials["faults_stored"]) == {1}
        assert set(faults["image"]) == {-1} and set(faults["length"]) == {1}
        assert set(faults["effect"]) == {0} and set(faults["layout"]) == {"fp32"}
        point = result.points.iloc[0]
        told = [point[name] for name in ("effect", "shape", "target", "selection")]
        assert told == ["flip", "bit", "weight", ""]
        assert len(faults) == trials["n_faults"].sum()
        assert np.isfinite(faults["before_value"]).all()


def test_means_are_those_that_the_program_stored(made):
    summary = json.loads((made / "schema1.json").read_text())
    known = {row["quantity"]: row for row in summary["estimates"]}
    with Result(made / "schema1.h5") as result:
        for quantity in ("accuracy", "failing", "due"):
            mean = result.mean(quantity, 0, "schema1")
            assert mean == pytest.approx(known[quantity]["estimate"], abs=1e-12)


def test_the_report_is_made(made, tmp_path):
    page = tmp_path / "report.html"
    assert report.main([str(made / "schema1.h5"), "-o", str(page)]) == 0
    assert "25" in page.read_text()


def two_trials(version: int) -> Sample:
    trials = [outcome(0, i, 0, 60, 30) for i in range(2)]
    faults = [[(0, 1, 30), (1, 11, 2)], [(2, 3, 4)]]
    return Sample(
        models=("unprotected",), points=(("binomial", 1e-5, 2),), trials=trials, faults=faults,
        version=version,
    )  # fmt: skip


def test_both_schemas_give_the_same_tables(tmp_path):
    paths = [two_trials(version).write(tmp_path / f"{version}.h5") for version in (1, 2)]
    with Result(paths[0]) as before, Result(paths[1]) as now:
        same = now.trials.assign(words_wrong=NOT_KNOWN, words_flagged=NOT_KNOWN)
        assert before.trials.columns.tolist() == same.columns.tolist()
        assert before.trials.astype(object).equals(same.astype(object))
        for name in ("faults", "points"):
            assert getattr(before, name).equals(getattr(now, name)), name
        assert before.tensors("unprotected").equals(now.tensors("unprotected"))


def test_columns_of_schema2_are_not_looked_for_in_schema1_alone(tmp_path):
    path = two_trials(1).write(tmp_path / "r.h5")
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = 2
    with Result(path) as result, pytest.raises(ResultError, match="no column .*: not schema 2"):
        _ = result.points


def without_faults(path: Path) -> Path:
    """The faults of trial 1 are left out."""
    sample = two_trials(2)
    sample.faults[1] = []
    sample.trials[1] |= {"n_faults": 20000, "faults_stored": 0}
    return sample.write(path)


def test_faults_that_are_left_out_are_no_missing_faults(tmp_path):
    path = without_faults(tmp_path / "r.h5")
    with Result(path) as result:
        assert list(result.faults["row"]) == [0, 0]
        assert list(result.faults["layer"]) == list(LAYERS[:2])
        assert list(result.trials["n_faults"]) == [2, 20000]
        assert failures.chosen_point(result) is None
        with pytest.raises(ResultError, match="faults of point 0 are not stored"):
            failures.failures_by(result, "bit", 0, 0)
    with h5py.File(path, "a") as file:
        rows = file["trials"][()]
        rows["faults_stored"] = 1
        file["trials"][...] = rows
    expected = "row 1: n_faults is 20000, faults_stored is 1, and 0 faults are stored"
    with Result(path) as result, pytest.raises(ResultError, match=expected):
        _ = result.faults


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("trials", "faults_masked", 3), ("trials", "faults_stored", 2)]
    + [("faults/sites", "image", 100), ("faults/sites", "image", -2)]
    + [("faults/sites", "effect", 5), ("faults/sites", "length", 0)]
    + [("faults/sites", "length", 3)],
)
def test_values_that_cannot_be_are_refused(tmp_path, table, column, value):
    path = two_trials(2).write(tmp_path / "r.h5")
    with h5py.File(path, "a") as file:
        rows = file[table][()]
        rows[column][0] = value
        file[table][...] = rows
    with Result(path) as result, pytest.raises(ResultError, match=f"{column} is {value}"):
        _ = result.faults
