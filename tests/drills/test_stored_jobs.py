"""The job that a result keeps can be run again, whatever its names and numbers are like."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import pytest
from drill import Launcher, Outcome, Result

NAMES = ["1e5", "0x10", "010", "true", "inf", "2026-11-29", "a#b", "a\\b", "both\"and'", "a\nb",
         "  spaces ", "[x]", "{hex}", "-1", "tab\t", "ü", "a\x1b[31m",
         os.fsdecode(b"no\xffutf8"), "=", "a,b"]  # fmt: skip
LARGEST = 2**64 - 1


def run(sentinelnn: Launcher, folder: Path, *args: str | Path) -> Outcome:
    outcome = sentinelnn.run(args, cwd=folder)
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.fixture
def args(campaign) -> list[str | Path]:
    return ["--data", campaign.data, "--images", "4", "--ber", "1e-6"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(sentinelnn, campaign, args, tmp_path, name):
    shutil.copy(campaign.checkpoint, tmp_path / name)
    for trials in ("2", "3"):  # begun, and gone on with
        run(sentinelnn, tmp_path, "inject", f"--checkpoint={name}", *args, "--repeat", trials,
            "--output", "r.h5")  # fmt: skip
    assert "3 of 3 trials identical" in run(sentinelnn, tmp_path, "replay", "r.h5", "--trials",
                                            "0-2").out  # fmt: skip
    with h5py.File(tmp_path / "r.h5") as file:
        (tmp_path / "job.toml").write_text(file.attrs["job"])
    run(sentinelnn, tmp_path, "inject", "--job", "job.toml", "--output", "again.h5")
    Result.read(tmp_path / "again.h5").check_same(Result.read(tmp_path / "r.h5"))


def test_odd_names_everywhere(sentinelnn, campaign, tmp_path):
    """Other files than the checkpoint."""
    name = "1e5 \"'\\\n#"
    for file in ("also", "net"):
        shutil.copy(campaign.checkpoint, tmp_path / (file + name))
    (tmp_path / f"data{name}").symlink_to(campaign.data)
    run(sentinelnn, tmp_path, "campaign", "--data", f"data{name}", "--checkpoint", f"net{name}",
        "--images", "4", "--ber", "1e-6", "--repeat", "2", "--hardening-ratio", "0", "--clipping",
        "none", "--weight-bounds", "layer", "--also", f"m={'also' + name}",
        "--hardened-output", f"h{name}", "--output", f"r{name}")  # fmt: skip
    out = run(sentinelnn, tmp_path, "replay", f"r{name}", "--trials", "0-1").out
    assert "2 of 2 trials identical" in out


@pytest.mark.parametrize("seed", [2**63 - 1, 2**63, LARGEST])
def test_large_seeds(sentinelnn, campaign, args, tmp_path, seed):
    inject = ["inject", "--checkpoint", campaign.checkpoint, *args, "--seed", str(seed)]
    for part in ("0:2", "2:4"):
        run(sentinelnn, tmp_path, *inject, "--trial-range", part, "--output", f"{part[0]}.h5")
    run(sentinelnn, tmp_path, "merge", "0.h5", "2.h5", "--output", "all.h5")
    out = run(sentinelnn, tmp_path, "replay", "all.h5", "--trials", "0-3").out
    assert "4 of 4 trials identical" in out
    job = f'[inject]\nseed = "{seed}"\nrepeat = 4\n'
    (tmp_path / "job.toml").write_text(job)
    run(sentinelnn, tmp_path, "inject", "--checkpoint", campaign.checkpoint, *args, "--job",
        "job.toml", "--output", "job.h5")  # fmt: skip
    Result.read(tmp_path / "job.h5").check_same(Result.read(tmp_path / "all.h5"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('checkpoint = "a\\u0000b"', "NUL"),
        ("checkpoint = {hex='6'}", "two digits each"),
        ("checkpoint = {hex='00'}", "NUL"),
        ("checkpoint = {file='net.pth'}", "two digits each"),
        ("seed = 18446744073709551615", "not valid TOML"),
    ],
)
def test_bad_values(sentinelnn, tmp_path, line, reason):
    path = tmp_path / "job.toml"
    path.write_text(f"[inject]\nber = 1e-6\n{line}\n")
    outcome = sentinelnn.run(["inject", "--job", path])
    assert outcome.code == 64, outcome.err
    assert len(outcome.messages) == 1 and f"{path}:3: " in outcome.messages[0]
    assert reason in outcome.messages[0]
