"""The audit: trials run again by the reference path, whatever ranks, kills and rates."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pytest
from drill import PLACE_AND_TIME, Result, acknowledged, ended, kill_job, wait_until

# The split of these two belongs to the path that ran.
FOUND = ("correct", "top5", "sdc_critical", "due")


@pytest.fixture(scope="module")
def audited(sentinelnn, campaign, scratch):
    """Every trial audited, on one rank."""
    path = scratch / "audited.h5"
    outcome = sentinelnn.run(campaign.args(path, "--audit", "1"))
    assert outcome.code == 0, outcome.err
    trials = 2 * campaign.trials
    assert f"audit: {trials} of {trials} trials, 1 200 images, 0 mismatches, " in outcome.out
    return Result.read(path)


def test_every_trial_has_its_audit_and_the_paths_agree(audited, undisturbed, campaign):
    audited.check_whole()
    assert len(audited.audit) == len(audited.trials) == 4 * campaign.trials
    assert not audited.audit["mismatches"].any()
    assert (audited.audit["deviation"] < 1e-3).all() and audited.audit["deviation"].any()
    assert np.array_equal(audited.audit["images"], audited.trials["images"])
    ties = audited.audit["near_ties"].astype("i8")
    for name in FOUND:
        difference = audited.audit[name].astype("i8") - audited.trials[name].astype("i8")
        # Of the five largest logits others may be close to each other.
        assert (abs(difference) <= ties + (name == "top5")).all(), name
    # Nothing else of a row depends on the audit.
    for name in audited.trials.dtype.names:
        if name not in (*PLACE_AND_TIME, "audited"):
            assert np.array_equal(audited.trials[name], undisturbed.result.trials[name]), name


def test_what_the_audit_found_is_what_the_reference_engine_finds(
    audited, sentinelnn, campaign, tmp_path
):
    path = tmp_path / "reference.h5"
    assert sentinelnn.run(campaign.args(path, "--engine", "reference"), 2).code == 0
    reference = Result.read(path)
    assert not len(reference.audit)
    for name in (*FOUND, "masked", "sdc_noncritical", "correct_argmax"):
        assert np.array_equal(audited.audit[name], reference.trials[name]), name


def test_the_audit_does_not_depend_on_ranks_and_kills(audited, sentinelnn, campaign, tmp_path):
    path = tmp_path / "killed.h5"
    args = campaign.args(path, "--audit", "1")
    for rows in (1, 40):
        process = sentinelnn.start(args, 3)
        assert wait_until(
            lambda rows=rows: process.poll() is not None or acknowledged(path) >= rows
        )
        kill_job(process)
        ended(process)
        Result.read(path).check_part_of(audited)
    outcome = sentinelnn.run(args, 3)
    assert outcome.code == 0, outcome.err
    assert outcome.stored_already >= 20
    Result.read(path).check_same(audited)


def test_a_rate_draws_the_same_trials_on_any_ranks(audited, sentinelnn, campaign, tmp_path):
    results = []
    for ranks in (0, 3):
        path = tmp_path / f"{ranks}.h5"
        assert sentinelnn.run(campaign.args(path, "--audit", "0.2"), ranks).code == 0
        results.append(Result.read(path))
    results[1].check_same(results[0])
    some = results[0].audits()
    assert 0 < len(some) < len(audited.audit) / 2 and len(some) % 2 == 0
    assert some.items() <= audited.audits().items()


def test_the_rate_is_known_before_and_stored(sentinelnn, campaign, tmp_path):
    base = ["--data", campaign.data, "--checkpoint", campaign.checkpoint, "--images", "4"]
    base += ["--ber", "1e-5", "--repeat", "3"]
    for more, least, most in (((), 1e-6, 0.02), (("--audit", "0.5"), 0.5, 0.5)):
        planned = json.loads(sentinelnn.run(["plan", "--json", *base, *more]).out)["points"][0]
        assert least <= planned["audit_rate"] <= most
        path = tmp_path / f"{len(more)}.h5"
        assert sentinelnn.run(["inject", *base, *more, "--output", path]).code == 0
        with h5py.File(path) as file:
            assert file["design/audit_rates"][()].tolist() == [planned["audit_rate"]]
    reference = sentinelnn.run(["plan", "--json", *base, "--engine", "reference"])
    assert json.loads(reference.out)["points"][0]["audit_rate"] == 0


def test_trials_of_channel_fi_are_audited_too(sentinelnn, campaign, tmp_path):
    args = [*campaign.rank_args(tmp_path), "--channel-audit", "0.05"]
    assert sentinelnn.run(args, 2).code == 0
    path = tmp_path / "ranking.h5.trials.h5"
    result = Result.read(path)
    result.check_whole()
    assert 0 < len(result.audit) < 0.1 * len(result.trials)
    assert not result.audit["mismatches"].any()
    summary = sentinelnn.run(["summarize", path])
    assert re.search(rf"audit: {len(result.audit)} of {len(result.trials)} trials", summary.out)


@pytest.mark.parametrize(
    "more", [("--audit", "-0.1"), ("--audit", "1.5"), ("--audit", "0.1", "--engine", "reference")]
)
def test_a_rate_that_makes_no_sense_is_refused(sentinelnn, campaign, tmp_path, more):
    outcome = sentinelnn.run(campaign.args(tmp_path / "r.h5", *more))
    assert outcome.code == 64
    assert len(outcome.messages) == 1 and "--audit" in outcome.messages[0]


def test_a_stored_mismatch_ends_every_later_run_with_1(audited, sentinelnn, campaign, tmp_path):
    """The two paths agree, so the disagreement is written into a result by hand."""
    path = tmp_path / "r.h5"
    assert sentinelnn.run(campaign.args(path, "--audit", "1")).code == 0
    with h5py.File(path, "r+") as file:
        rows = file["audit"][()]
        rows["mismatches"][5] = 3
        file["audit"][...] = rows
    row = rows[5]
    for ranks in (0, 3):
        outcome = sentinelnn.run(campaign.args(path, "--audit", "1"), ranks)
        assert outcome.code == 1, outcome.err
        assert Result.read(path).complete
        (warning,) = [line for line in outcome.err.splitlines() if "disagree" in line]
        assert f"3 of 10 images in trial {row['id']} of point {row['point']}" in warning
        command = re.search(r"sentinelnn (replay .*)", warning).group(1).split()
        assert command[-6:-2] == ["--point", str(row["point"]), "--trials", str(row["id"])]
        assert " 3 mismatches" in outcome.out
    replayed = sentinelnn.run(command)
    assert replayed.code == 0, replayed.err  # what was written by hand is no disagreement
