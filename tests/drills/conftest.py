"""A small campaign on built-in images, made once per session."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from crash import Crash
from drill import JOURNAL, PUBLICATION, Launcher, Result, Shim, journals, stored_rows
from hostile_files import write_without_record


@dataclass
class Campaign:
    """One campaign that every drill repeats in its own way: two BERs, paired, hardened."""

    data: Path
    checkpoint: Path
    trials: int = 30

    def args(self, output: Path, *more: str, trials: int = 0) -> list[str | Path]:
        return [
            "campaign",
            *("--data", self.data, "--checkpoint", self.checkpoint, "--output", output),
            *("--ber", "2e-6", "2e-5", "--repeat", str(trials or self.trials)),
            *("--images", "10", "--calibration-images", "32", "--publish", "0", "--seed", "7"),
            *more,
        ]

    def rank_args(self, folder: Path, flips: int = 12) -> list[str | Path]:
        """channel-FI on two layers; its trials are kept in ranking.h5.trials.h5."""
        return [
            *("rank", "--data", self.data, "--checkpoint", self.checkpoint),
            *("--importance", "channel-FI", "--channel-layers", "conv1", "layer3.2.conv1"),
            *("--ranking-images", "10", "--channel-cap", str(flips), "--ranking-seed", "5"),
            # As campaigns have by default; several threads wait for each other on a busy machine.
            *("--threads", "1", "--output", folder / "ranking.h5"),
        ]


    def half_width_args(self, folder: Path) -> list[str | Path]:
        """The same on one layer of few channels, until every score is known to +- 0.04."""
        return [
            *("rank", "--data", self.data, "--checkpoint", self.checkpoint),
            *("--importance", "channel-FI", "--channel-layers", "conv1", "--ranking-images", "10"),
            *("--channel-half-width", "0.04", "--channel-images-per-trial", "4"),
            *("--ranking-seed", "5", "--threads", "1", "--output", folder / "ranking.h5"),
        ]


@dataclass
class Undisturbed:
    result: Result
    seconds: float


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drill")


@pytest.fixture(scope="session")
def sentinelnn(scratch: Path) -> Launcher:
    return Launcher(scratch / "mpi")


@pytest.fixture(scope="session")
def campaign(sentinelnn: Launcher, scratch: Path) -> Campaign:
    data, checkpoint = scratch / "data", scratch / "net.pth"
    synth = sentinelnn.run(["synth", "--output", data, "--train", "200", "--test", "100"])
    assert synth.code == 0, synth.err
    train = sentinelnn.run(
        ["train", "--model", "resnet20", "--dataset", "synthetic", "--data", data]
        + ["--epochs", "1", "--seed", "3", "--output", checkpoint]
    )
    assert train.code == 0, train.err
    return Campaign(data, checkpoint)


@pytest.fixture(scope="session")
def plain(campaign: Campaign, scratch: Path) -> Path:
    """The campaign's network as plain PyTorch would have saved it."""
    path = scratch / "plain.pth"
    write_without_record(campaign.checkpoint, path)
    return path


@pytest.fixture
def state(plain: Path) -> dict[str, Any]:
    """Its tensors by name."""
    return pytest.importorskip("torch").load(plain)


@pytest.fixture(scope="session")
def undisturbed(sentinelnn: Launcher, campaign: Campaign, scratch: Path) -> Undisturbed:
    """The campaign in one process without mpirun, from start to end."""
    path = scratch / "undisturbed.h5"
    begin = time.monotonic()
    outcome = sentinelnn.run(campaign.args(path))
    assert outcome.code == 0, outcome.err
    result = Result.read(path)
    result.check_whole()
    assert result.complete
    assert len(result.trials) == 2 * 2 * campaign.trials
    # A drill on rows that are all alike would prove little.
    assert len(set(result.trials["correct"])) > 2
    assert result.trials["due"].any() and result.trials["sdc_critical"].any()
    return Undisturbed(result, time.monotonic() - begin)


@dataclass
class Tiny:
    """A campaign that takes half a second and writes its journal often: a chunk never reaches over
    the end of a point."""

    data: Path
    checkpoint: Path
    whole: Result | None = None
    points: int = 20
    trials: int = 2

    def args(self, output: Path, *more: str, trials: int = 0) -> list[str | Path]:
        rates = [f"{1e-7 * 1.2**point:.2e}" for point in range(self.points)]
        return [
            *("inject", "--data", self.data, "--checkpoint", self.checkpoint, "--output", output),
            *("--ber", *rates, "--repeat", str(trials or self.trials), "--images", "2"),
            # Published at the start and the end only: the calls are the same every time.
            *("--publish", "3600", "--seed", "11", *more),
        ]


@pytest.fixture(scope="session")
def tiny(sentinelnn: Launcher, campaign: Campaign, scratch: Path) -> Tiny:
    tiny = Tiny(campaign.data, campaign.checkpoint)
    path = scratch / "tiny.h5"
    outcome = sentinelnn.run(tiny.args(path))
    assert outcome.code == 0, outcome.err
    tiny.whole = Result.read(path)
    tiny.whole.check_whole()
    assert tiny.whole.complete and len(tiny.whole.trials) == tiny.points * tiny.trials
    assert len(tiny.whole.sites) > 100
    return tiny


@pytest.fixture(scope="session")
def shim(sentinelnn: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim(sentinelnn, tmp_path_factory.mktemp("shim"))


@pytest.fixture
def crash(sentinelnn: Launcher, shim: Shim, tiny: Tiny, tmp_path: Path) -> Crash:
    return Crash(sentinelnn, shim, tiny, tmp_path)


@pytest.fixture
def stored(crash: Crash, tiny: Tiny) -> Path:
    """A result whose rows are all stored, in four journals, and not yet published."""
    path = crash.new_result("stored")
    for frame in (3, 6, 9):
        assert crash.end(path, JOURNAL, 2 + frame, "torn")
    assert crash.end(path, PUBLICATION, 1, "before")
    assert len(journals(path)) == 4
    assert len(Result.read(path).trials) == 0
    assert stored_rows(path) == len(tiny.whole.trials)
    return path
