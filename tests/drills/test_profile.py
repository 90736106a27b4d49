"""What `profile` and `rank` say of networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drill import sanitized

SHORT = ["--batch-size", "2", "--warmup", "1", "--runs", "3", "--images", "20", "--threads", "1"]


@pytest.fixture(scope="module")
def hardened(sentinelnn, campaign, scratch) -> Path:
    path = scratch / "hardened.pth"
    made = sentinelnn.run(
        ["harden", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
        + ["--hardening-ratio", "0.1", "--output", path]
    )
    assert made.code == 0, made.err
    return path


@pytest.fixture(scope="module")
def profile(sentinelnn, campaign):
    def run(*more: str | Path, ranks: int = 0):
        net = ["--data", campaign.data, "--checkpoint", campaign.checkpoint]
        return sentinelnn.run(["profile", *net, *SHORT, *more], ranks)

    return run


def test_before_and_after(profile, campaign, hardened):
    lines = profile("--against", hardened, hardened).out.splitlines()
    assert sum(" normalised by mean " in line for line in lines) == 3
    table = lines[lines.index("") + 1 :]
    assert table[0].split() == [campaign.checkpoint.name, *[hardened.name, "ratio"] * 2]
    rows = {line[:24].strip(): line[24:].split("  ") for line in table[1:-1]}
    assert [word.strip() for word in rows["parameters"] if word] == [
        *("272 474", "297 365", "1.0914", "297 365", "1.0914")
    ]
    assert "latency [ms per image]" in rows and "quartiles" in rows


def test_json_has_every_network(profile, campaign, hardened):
    alone = json.loads(profile("--json").out)
    both = json.loads(profile("--json", "--against", hardened, ranks=2).out)
    assert alone.keys() == both.keys() and len(alone["models"]) == 1
    first, second = both["models"]
    for key in ("parameters", "macs", "memory_bytes", "images", "correct", "top1", "top5"):
        assert both[key] == first[key] == alone[key], key
    assert (first["checkpoint"], second["checkpoint"]) == (str(campaign.checkpoint), str(hardened))
    assert second["parameters"] > first["parameters"]
    assert first["latency_ratio"]["median"] == 1
    ratio = second["latency_ratio"]
    assert 0 < ratio["quartile1"] <= ratio["median"] <= ratio["quartile3"]
    assert "layers" in first and "layers" not in second


def test_all_layers(profile, hardened):
    both = json.loads(profile("--json", "--all-layers", "--against", hardened).out)
    names = [[layer["name"] for layer in model["layers"]] for model in both["models"]]
    assert names[0] == names[1] and "layer1.0.conv1" in names[0]


def test_networks_for_other_images_are_refused(sentinelnn, campaign, profile, tmp_path):
    other = tmp_path / "other.pth"
    trained = sentinelnn.run(
        ["train", "--model", "resnet20", "--dataset", "cifar10", "--data", campaign.data]
        + ["--epochs", "1", "--output", other]
    )
    assert trained.code == 0, trained.err
    outcome = profile("--against", other)
    assert outcome.code == 64 and len(outcome.messages) == 1
    assert str(other) in outcome.messages[0] and "cifar10" in outcome.messages[0]


def test_channel_groups(sentinelnn, campaign):
    rank = ["rank", "--checkpoint", campaign.checkpoint]
    out = sentinelnn.run(rank).out
    assert "12 channel groups" in out
    assert "conv1 layer1.0.conv2 layer1.1.conv2 and 1 more" in out
    whole = sentinelnn.run([*rank, "--groups", "--group-score", "first"]).out
    assert "--group-score first" in whole
    assert "conv1 layer1.0.conv2 layer1.1.conv2 layer1.2.conv2  " in whole
    assert sentinelnn.run([*rank, "--group-score", "last"]).code == 64


def test_the_allocator_has_its_options(sentinelnn):
    """What they bring: tests/bench/README.md, "Pages"."""
    if sanitized():
        pytest.skip("AddressSanitizer brings its own allocator")
    said = sentinelnn.within(MALLOC_CONF="stats_print:true").run(["--version"]).err
    assert "opt.dirty_decay_ms: -1" in said and "opt.oversize_threshold: 0" in said
    if Path("/sys/kernel/mm/transparent_hugepage/enabled").exists():
        assert 'opt.thp: "always"' in said
