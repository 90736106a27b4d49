"""A network whose batch norm is folded, through the whole program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drill import Result

IMAGES = 40
STORE = ["--store", "weight=int8:channel+secded:64", "--store", "bias,scale,bound=fp16+repeat:3"]


@pytest.fixture(scope="module")
def harden(sentinelnn, campaign, scratch):
    def run(name: str, *how: str) -> Path:
        path = scratch / f"{name}.pth"
        words = ["harden", "--checkpoint", campaign.checkpoint, "--data", campaign.data]
        words += ["--calibration-images", "16", *STORE, *how, "--output", path]
        outcome = sentinelnn.run(words)
        assert outcome.code == 0, outcome.err
        assert ("21 batch norms folded" in outcome.err) == ("--fold-batch-norm" in how)
        return path

    return run


@pytest.fixture(scope="module")
def folded(harden) -> Path:
    return harden("folded", "--fold-batch-norm", "--hardening-ratio", "0", "--clipping", "none")


def evaluated(sentinelnn, campaign, *network: str | Path) -> dict:
    words = ["evaluate", *network, "--data", campaign.data, "--images", str(IMAGES), "--json"]
    outcome = sentinelnn.run(words)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_files_need_no_options(sentinelnn, campaign, harden, folded, tmp_path):
    report = evaluated(sentinelnn, campaign, "--checkpoint", folded)
    exported = tmp_path / "folded.ts"
    outcome = sentinelnn.run(["export", "--checkpoint", folded, "--output", exported])
    assert outcome.code == 0, outcome.err
    again = evaluated(sentinelnn, campaign, "--model", exported, "--dataset", "synthetic")
    assert again["correct"] == report["correct"]
    profile = ["profile", "--checkpoint", folded, "--data", campaign.data, "--json"]
    outcome = sentinelnn.run(profile)
    assert outcome.code == 0 and "bn1" not in outcome.out, outcome.err
    whole = harden("whole", "--fold-batch-norm", "--weight-bounds", "channel")
    evaluated(sentinelnn, campaign, "--checkpoint", whole)


def test_the_engine_is_exact(sentinelnn, campaign, folded, tmp_path):
    for target, ber in (("parameters", "1e-4"), ("bias,scale", "1e-2")):
        path = tmp_path / f"{target}.h5"
        outcome = sentinelnn.run(
            ["inject", "--checkpoint", folded, "--data", campaign.data, "--output", path]
            + ["--fault-target", target, "--ber", ber, "--repeat", "6", "--audit", "1"]
            + ["--images", str(IMAGES), "--seed", "3"]
        )
        assert outcome.code == 0, outcome.err
        result = Result.read(path)
        assert len(result.audit) == 6 and not result.audit["mismatches"].any()
        assert result.trials["n_faults"].all()


def test_a_campaign_makes_one_and_takes_another(sentinelnn, campaign, folded, tmp_path):
    path = tmp_path / "campaign.h5"
    words = campaign.args(path, *STORE, "--fold-batch-norm", "--also", f"mine={folded}", trials=4)
    outcome = sentinelnn.run(words)
    assert outcome.code == 0, outcome.err
    outcome = sentinelnn.run(["replay", path, "--trials", "0-3"])
    assert outcome.code == 0 and "identical" in outcome.out, outcome.err
    evaluated(sentinelnn, campaign, "--checkpoint", f"{path}.hardened+stored.pth")
