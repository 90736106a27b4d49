"""Duplication by a budget of the whole network, through the whole program."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import h5py
import pytest
from drill import Result

BUDGET = ["--overhead", "0.05:parameters"]


# Neither looks at images.
QUICK = ["--clipping", "none", "--correction", "min"]


def words(campaign, *how: str | Path) -> list[str | Path]:
    return [
        *("harden", "--checkpoint", campaign.checkpoint, "--data", campaign.data),
        *("--calibration-images", "16", *how, "--output", "h.pth"),
    ]


@pytest.fixture(scope="module")
def hardened(sentinelnn, campaign, scratch) -> Path:
    folder = scratch / "overhead"
    folder.mkdir()
    outcome = sentinelnn.run(words(campaign, *BUDGET), cwd=folder)
    assert outcome.code == 0, outcome.err
    assert "scores of l2-norm compare the channels of one layer" in outcome.err
    return folder / "h.pth"


@pytest.mark.parametrize(("of", "row"), [("parameters", "parameters"), ("macs", "MACs per image")])
def test_the_budget_is_kept_and_nearly_used(sentinelnn, campaign, tmp_path, of, row):
    how = ["--overhead", f"0.05:{of}", "--importance", "salience"]
    outcome = sentinelnn.run(words(campaign, *how, *QUICK), cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    reached = float(re.search(rf"{row} .* (\d\.\d+)\n", outcome.out)[1])
    assert 1.045 <= reached <= 1.05
    assert f"{reached:.4f} of those before, at most 1.05 were allowed" in outcome.err
    listed = re.findall(r"\n\S+=\S+ +(\d+) +\d+", outcome.out)
    numbers = re.search(r"(\d+) of (\d+) channels, in (\d+) of (\d+) conv", outcome.err)
    copies, channels, layers, convolutions = map(int, numbers.groups())
    assert (copies, layers) == (sum(map(int, listed)), len(listed))
    assert (channels, convolutions) == (784, 21)
    assert "compare the channels of one layer" not in outcome.err


def test_any_ranks_and_spellings_give_the_same_network(sentinelnn, campaign, hardened, tmp_path):
    digest = hashlib.sha256(hardened.read_bytes()).digest()
    for ranks in (2, 3):
        outcome = sentinelnn.run(words(campaign, *BUDGET), ranks, cwd=tmp_path)
        assert outcome.code == 0, outcome.err
        assert hashlib.sha256((tmp_path / "h.pth").read_bytes()).digest() == digest
    job = tmp_path / "job.toml"
    made = set()
    for value in ('"0.05:parameters"', '[0.05, "parameters"]', '["0.05", "parameters"]'):
        job.write_text(f"[harden]\noverhead = {value}\n")
        outcome = sentinelnn.run(words(campaign, "--job", job, *QUICK), cwd=tmp_path)
        assert outcome.code == 0, outcome.err
        made.add((tmp_path / "h.pth").read_bytes())
    assert len(made) == 1


def test_one_budget_or_one_ratio(sentinelnn, campaign, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text("[harden]\nhardening-ratio = 0.1\noverhead = '0.05:parameters'\n")
    outcome = sentinelnn.run(words(campaign, "--job", job), cwd=tmp_path)
    assert outcome.code == 64 and len(outcome.messages) == 1
    assert "'overhead' and 'hardening-ratio' exclude each other; give one" in outcome.messages[0]
    job.write_text("[harden]\nhardening-ratio = 0.1\n")
    outcome = sentinelnn.run(words(campaign, "--job", job, *BUDGET, *QUICK), cwd=tmp_path)
    assert outcome.code == 0 and "at most 1.05 were allowed" in outcome.err


def test_the_engine_is_exact(sentinelnn, campaign, hardened, tmp_path):
    """Some convolutions have no copies."""
    path = tmp_path / "r.h5"
    inject = ["inject", "--checkpoint", hardened, "--data", campaign.data, "--images", "20"]
    for target in ("parameters", "activation"):
        faults = ["--fault-target", target, "--ber", "1e-5", "--repeat", "8", "--audit", "1"]
        outcome = sentinelnn.run([*inject, *faults, "--fresh", "--output", path])
        assert outcome.code == 0, outcome.err
        result = Result.read(path)
        assert len(result.audit) == 8 and not result.audit["mismatches"].any()
    outcome = sentinelnn.run(["export", "--checkpoint", hardened, "--output", tmp_path / "h.ts"])
    assert outcome.code == 0, outcome.err


def test_a_campaign_goes_on_and_knows_its_budget(sentinelnn, campaign, tmp_path):
    path = tmp_path / "r.h5"
    outcome = sentinelnn.run(campaign.args(path, *BUDGET, trials=2))
    assert outcome.code == 0, outcome.err
    made = Path(f"{path}.hardened.pth").read_bytes()
    outcome = sentinelnn.run(campaign.args(path, *BUDGET, trials=4), 2)
    assert outcome.code == 0 and outcome.stored_already > 0, outcome.err
    assert Path(f"{path}.hardened.pth").read_bytes() == made
    with h5py.File(path) as file:
        recipe = file["provenance/fingerprint"].attrs["recipe of hardened"]
    assert "overhead 0.050000000000000003 of the parameters, own selection" in recipe
    for other in (["--overhead", "0.06:parameters"], ["--overhead", "0.05:macs"], []):
        refused = sentinelnn.run(campaign.args(path, *other, trials=4))
        assert refused.code == 64 and "belongs to another job" in refused.messages[0]
    outcome = sentinelnn.run(["replay", path, "--trials", "0-3"])
    assert outcome.code == 0 and "identical" in outcome.out, outcome.err
