"""Plans by parts of the memory: shares of each network, estimates of strata beside the whole."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import schema
import summaries
from conftest import Sample, outcome, plan, strata_of
from hdf5 import ResultError
from numpy.lib import recfunctions
from results import Result

FAILING = ((60, 10, 0), (40, 0, 20))  # images of 100, by network and stratum
SHARES = ((0.03125, 0.09375, 0.875), (0.25, 0.75, 0.0))  # the second network lacks the third


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    trials = []
    for trial in range(6):
        h = trial % 3
        for model in (0, 1):
            row = outcome(0, trial, model, 50, FAILING[model][h])
            trials.append(row | {"stratum": h, "probability": 1 / 3})
    estimates = [
        {"model": m, "against": -1, "quantity": "failing", "estimate": 0.2, "upper": 0.5}
        | {"confidence": 0.95, "method": "x", "trials": 6}
        for m in (0, 1)
    ]
    sample = Sample(
        points=(("exact:1", 0.0, 6),), trials=trials, estimands=("T1",), estimates=estimates * 2,
        strata=strata_of(0), plans=[plan(0, "per-layer")],
    )  # fmt: skip
    path = sample.write(tmp_path / "divided.h5")
    with h5py.File(path, "a") as file:
        rows = [(0, 1, h, weight) for h, weight in enumerate(SHARES[1])]
        file["design/shares"] = np.array(rows, schema.SHARE)
        table = file["estimates"][()]
        stratum = np.array([-1, -1, 0, 1], np.int32)
        del file["estimates"]
        file["estimates"] = recfunctions.append_fields(table, "stratum", stratum, usemask=False)
    return path


def test_each_network_counts_its_strata_by_its_own_shares(divided):
    with Result(divided) as result:
        for model in (0, 1):
            wanted = np.dot(SHARES[model], FAILING[model]) / 100
            assert result.mean("failing", 0, model) == pytest.approx(wanted)
        means = [np.dot(shares, failing) / 100 for shares, failing in zip(SHARES, FAILING)]
        assert result.mean("failing", 0, 1, against=0) == pytest.approx(means[1] - means[0])
        counted = summaries.trials_of(result, 0, 1)
    assert set(counted["stratum"]) == {0, 1}, "trials of what the network lacks count nothing"


def test_estimates_of_strata_stand_apart(divided):
    with Result(divided) as result:
        assert len(result.estimates) == 2 and (result.estimates["stratum"] == -1).all()
        strata = result.stratum_estimates
    assert list(strata["stratum_name"]) == ["bit 30", "bits 29-27"]
    assert list(strata["share"]) == [SHARES[0][0], SHARES[1][1]]


def test_without_the_column_all_is_of_the_whole(paired):
    with Result(paired) as result:
        assert (result.estimates["stratum"] == -1).all()
        assert result.stratum_estimates.empty and result.shares.empty


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("estimates", "stratum", 7, "names stratum 7 of point 0"),
        ("design/shares", "weight", 2, "weight is 2.0"),
        ("design/shares", "model", 9, "model 9 is unknown"),
        ("design/shares", "stratum", 1, "there twice"),
    ],
)
def test_what_cannot_be_is_refused(divided, table, column, value, message):
    with h5py.File(divided, "a") as file:
        rows = file[table][()]
        rows[column][-1] = value
        file[table][...] = rows
    with Result(divided) as result, pytest.raises(ResultError, match=message):
        result.stratum_estimates  # noqa: B018
