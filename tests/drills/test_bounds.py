"""Restricted activations, through the whole program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drill import Result

BOUNDS = {"layer": 19, "channel": 688, "neuron": 188416}  # of ResNet-20


def hardened(sentinelnn, campaign, path: Path, clipping: str, bounds: str) -> Path:
    words = ["harden", "--checkpoint", campaign.checkpoint, "--data", campaign.data]
    words += ["--hardening-ratio", "0", "--clipping", clipping, "--bounds", bounds]
    outcome = sentinelnn.run([*words, "--calibration-images", "32", "--output", path])
    assert outcome.code == 0, outcome.err
    return path


def evaluated(sentinelnn, campaign, network: Path) -> dict:
    words = ["evaluate", "--checkpoint", network, "--data", campaign.data, "--json"]
    outcome = sentinelnn.run(words)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("clipping", ["ranger", "ranger-clamp", "smooth"])
def test_every_stored_bound_counts_and_may_be_faulty(
    sentinelnn, campaign, tmp_path, clipping, bounds
):
    network = hardened(sentinelnn, campaign, tmp_path / "net.pth", clipping, bounds)
    before = evaluated(sentinelnn, campaign, campaign.checkpoint)
    after = evaluated(sentinelnn, campaign, network)
    assert after["memory_bytes"] - before["memory_bytes"] == 4 * BOUNDS[bounds]
    assert after["parameters"] == before["parameters"]
    path = tmp_path / "r.h5"
    outcome = sentinelnn.run(
        ["inject", "--checkpoint", network, "--data", campaign.data, "--output", path]
        + ["--fault-target", "bound", "--ber", "1e-2", "--repeat", "5", "--audit", "1"]
        + ["--images", "20", "--seed", "3"]
    )
    assert outcome.code == 0, outcome.err
    result = Result.read(path)
    assert len(result.audit) == 5 and not result.audit["mismatches"].any()
    outcome = sentinelnn.run(["replay", path, "--trials", "0-4"])
    assert outcome.code == 0 and "identical" in outcome.out, outcome.err


def test_a_job_file_names_them(sentinelnn, campaign, tmp_path):
    job, path = tmp_path / "job.toml", tmp_path / "r.h5"
    job.write_text('[campaign]\nclipping = "smooth"\nbounds = "neuron"\nhardening-ratio = 0\n')
    words = campaign.args(path, "--job", str(job), trials=3)
    outcome = sentinelnn.run(words, ranks=2)
    assert outcome.code == 0, outcome.err
    described = sentinelnn.run(["inspect", f"{path}.hardened.pth"])
    assert "relu.bound" in described.out and "[16, 32, 32]" in described.out
    exported = tmp_path / "net.ts"
    words = ["export", "--checkpoint", f"{path}.hardened.pth", "--output", exported]
    outcome = sentinelnn.run(words)
    assert outcome.code == 0, outcome.err
    # Its protection is no layer: it is not taken for something else.
    words = ["evaluate", "--model", exported, "--dataset", "synthetic", "--data", campaign.data]
    outcome = sentinelnn.run(words)
    assert outcome.code == 65, outcome.out


def test_smooth_is_for_relus_alone(sentinelnn, campaign, tmp_path):
    network = tmp_path / "net.pth"
    words = ["train", "--model", "mobilenetv2_x0_5", "--dataset", "synthetic", "--epochs", "1"]
    words += ["--data", campaign.data, "--output", network]
    outcome = sentinelnn.run(words)
    assert outcome.code == 0, outcome.err
    words = ["harden", "--checkpoint", network, "--data", campaign.data, "--hardening-ratio", "0"]
    words += ["--calibration-images", "16", "--output", tmp_path / "h.pth"]
    outcome = sentinelnn.run([*words, "--clipping", "smooth"])
    assert outcome.code == 64
    assert "smooth is for ReLUs alone" in outcome.err and "relu6" in outcome.err
    outcome = sentinelnn.run([*words, "--clipping", "ranger-clamp", "--bounds", "neuron"])
    assert outcome.code == 0, outcome.err
    described = sentinelnn.run(["inspect", tmp_path / "h.pth"])
    assert "features.0.2.bound_low" in described.out
