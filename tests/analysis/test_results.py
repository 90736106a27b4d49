"""results.py: tables hold what the file holds, joined by name; broken files are named."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from results import Result, ResultError, read_trials


def test_trials_carry_point_and_model_names(paired):
    with Result(paired) as result:
        trials = result.trials
        assert len(trials) == 8
        assert list(trials["model_name"].unique()) == ["unprotected", "hardened"]
        assert set(trials["ber"]) == {1e-5} and set(trials["fault_model"]) == {"binomial"}
        assert list(trials["accuracy"][:2]) == [0.5, 0.8]
        assert list(trials["failure"][:2]) == [0.45, 0.10]


def test_every_fault_finds_its_trial_layer_and_value(paired):
    with Result(paired) as result:
        faults = result.faults
        assert list(faults["row"][:4]) == [0, 0, 1, 2]
        assert list(faults["layer"][:3]) == ["stem", "layer1.0.conv1", "stem"]
        assert list(faults["copy"][:2]) == [False, True]  # elements 10 and 11 of 12 are copies
        assert set(faults["before_value"]) == {0.5}
        assert faults["after_value"][0] == np.float32(
            2.0**127
        )  # 0.5 with bit 30 flipped: 2^(-1+128)
        counts = faults.groupby("row").size().reindex(result.trials.index, fill_value=0)
        assert (counts == result.trials["n_faults"]).all()


def test_models_points_sessions_and_provenance(paired):
    with Result(paired) as result:
        assert list(result.models["name"]) == ["unprotected", "hardened"]
        assert result.models["parameters"][1] == 1100
        assert result.points["trials"][0] == 4
        assert result.sessions["info"][0] == {"threads": 1}
        assert result.provenance["libtorch"] == "1.13.1"
        assert result.job["campaign"]["model"] == "resnet20"
        assert result.complete and result.confidence == 0.95
        assert len(result.golden("hardened")) == 100


def test_importance_ranks_the_best_channel_first(paired):
    with Result(paired) as result:
        table = result.importance
        assert list(table["layer"].unique()) == ["stem", "layer1.0.conv1"]
        assert list(table["rank"][:3]) == [2, 0, 1]


def test_a_campaign_that_has_just_begun_reads_as_empty_tables(empty):
    with Result(empty) as result:
        assert result.trials.empty and result.faults.empty and result.estimates.empty
        assert "accuracy" in result.trials and "layer" in result.faults
        assert not result.complete


def test_several_files_join(paired, single):
    trials = read_trials([paired, single])
    assert len(trials) == 13 and trials["file"].nunique() == 2


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(ResultError, match="absent.h5: no such file"):
        Result(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(ResultError, match="text.h5: not a readable HDF5 file"):
        Result(tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ResultError, match="foreign.h5: not a SentinelNN result"):
        Result(tmp_path / "foreign.h5")


def test_a_newer_schema_is_refused(paired):
    with h5py.File(paired, "a") as file:
        file.attrs["schema_version"] = 2
    with pytest.raises(ResultError, match="schema version 2"):
        Result(paired)


def test_faults_that_do_not_fit_the_trials_are_refused(paired):
    with h5py.File(paired, "a") as file:
        del file["faults/offsets"]
        file["faults/offsets"] = np.zeros(3, "u8")
    with Result(paired) as result, pytest.raises(ResultError, match="does not fit"):
        result.faults  # noqa: B018


def test_a_missing_column_is_named(paired):
    with h5py.File(paired, "a") as file:
        rows = file["trials"][()]
        del file["trials"]
        file["trials"] = rows[[name for name in rows.dtype.names if name != "due"]]
    with Result(paired) as result, pytest.raises(ResultError, match="/trials has no column due"):
        result.trials  # noqa: B018
