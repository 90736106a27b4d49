"""results.py: tables hold what the file holds, joined by name; broken files are named."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hdf5 import ResultError
from results import Result, read_trials


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


def test_the_audit_has_both_outcomes(audited):
    with Result(audited) as result:
        audit = result.audit.set_index("id")
        assert list(audit.index) == [2, 4, 7] and result.stored_trials == 10
        assert list(audit["fast_correct"]) == [52, 54, 57]
        assert list(audit["reference_correct"]) == [52, 53, 54]
        assert audit["reference_due"][7] == 3 and audit["fast_due"][7] == 0
        assert audit["mismatches"].sum() == 3 and set(audit["model_name"]) == {"unprotected"}


def test_an_empty_audit_of_an_earlier_version_is_read(paired):
    with h5py.File(paired, "r+") as file:
        del file["audit"]
        file["audit"] = np.zeros(0, [("point", "u4"), ("id", "u8"), ("model", "u4")])
    with Result(paired) as result:
        assert result.audit.empty and "reference_correct" in result.audit


def test_an_audit_of_a_trial_that_is_not_there_is_an_error(audited):
    with h5py.File(audited, "r+") as file:
        rows = file["audit"][:]
        rows["id"][0] = 77
        file["audit"][:] = rows
    with Result(audited) as result, pytest.raises(ResultError, match="not in /trials"):
        _ = result.audit


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
        file.attrs["schema_version"] = 3
    with pytest.raises(ResultError, match="schema version 3, this reader knows 1 to 2"):
        Result(paired)


def test_faults_that_do_not_fit_the_trials_are_refused(paired):
    with h5py.File(paired, "a") as file:
        del file["faults/offsets"]
        file["faults/offsets"] = np.zeros(3, "u8")
    with Result(paired) as result, pytest.raises(ResultError, match="does not fit"):
        result.faults  # noqa: B018


def test_offsets_that_go_back_are_refused(paired):
    with h5py.File(paired, "a") as file:
        file["faults/offsets"][2] = 0
    with Result(paired) as result, pytest.raises(ResultError, match="does not fit"):
        result.faults  # noqa: B018


def _group_for_trials(file):
    del file["trials"]
    file.create_group("trials")


def _column(name, value):
    def breaks(file):
        rows = file["trials"][()]
        rows[name][0] = value
        file["trials"][...] = rows

    return breaks


def _models_for_a_dataset(file):
    del file["models"]
    file["models"] = np.zeros(3)


def _order(file):
    file["importance/l2-norm/stem/order"][0] = 7


def _no_offsets(file):
    del file["faults/offsets"]


@pytest.mark.parametrize(
    ("breaks", "table", "message"),
    [
        (_group_for_trials, "trials", "/trials is no dataset"),
        (_column("point", 7), "trials", "/trials names point 7"),
        (_column("model", 7), "trials", "/trials names model 7"),
        (_models_for_a_dataset, "models", "/models is no group"),
        (_order, "importance", "/importance/l2-norm/stem: order is no order of its scores"),
        (_no_offsets, "faults", "/faults/offsets cannot be read"),
        (lambda file: file["design"].attrs.update(confidence="x"), "confidence", "confidence"),
        (lambda file: file["models/hardened"].attrs.update(index="x"), "models", "index is no int"),
    ],
)
def test_broken_files_are_named(paired, breaks, table, message):
    with h5py.File(paired, "a") as file:
        breaks(file)
    with Result(paired) as result, pytest.raises(ResultError, match=message):
        getattr(result, table)


def test_a_schema_version_that_is_no_number_is_refused(paired):
    with h5py.File(paired, "a") as file:
        file.attrs["schema_version"] = "one"
    with pytest.raises(ResultError, match="schema_version is no integer"):
        Result(paired)


def test_rows_beyond_the_planned_trials_are_left_out_with_their_faults(paired):
    # Rows 0 and 1 are trial 0; shortened to one trial after trials 1, 0, 2 and 3 were stored.
    with h5py.File(paired, "a") as file:
        rows = file["trials"][()]
        rows["id"] = [1, 1, 0, 0, 2, 2, 3, 3]
        file["trials"][...] = rows
        points = file["points"][()]
        points["trials"] = 1
        file["points"][...] = points
    with Result(paired) as result:
        assert list(result.trials["id"]) == [0, 0] and list(result.trials.index) == [0, 1]
        assert list(result.trials["accuracy"]) == [0.7, 0.9]
        assert list(result.faults["row"]) == [0, 0, 1]
        assert list(result.faults["model"]) == [0, 0, 1]
        assert result.rows_beyond_plan == 6


def test_a_missing_column_is_named(paired):
    with h5py.File(paired, "a") as file:
        rows = file["trials"][()]
        del file["trials"]
        file["trials"] = rows[[name for name in rows.dtype.names if name != "due"]]
    with Result(paired) as result, pytest.raises(ResultError, match="/trials has no column due"):
        result.trials  # noqa: B018
