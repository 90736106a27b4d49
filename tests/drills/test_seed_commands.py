"""The command lines of the original SentinelNN, as its README has them, run for real."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from drill import LOG_LINE, ROOT, Launcher, Outcome, Result

FOLDER = "resnet20-synthetic"
DATA = Path(os.environ.get("SENTINELNN_TEST_DATA", ROOT.parent / "shared/data"))


@dataclass
class Place:
    """A working directory in which the old command lines are typed."""

    launcher: Launcher
    path: Path
    images: Path
    checkpoint: Path

    def run(self, line: str, ranks: int = 0, trained: bool = True, batch: int = 50) -> Outcome:
        words = ["--model=resnet20", "--dataset=synthetic", f"--batch-size={batch}"]
        words += [f"--data={self.images}"]
        words += [f"--checkpoint={self.checkpoint}"] if trained else []
        return self.launcher.run([*words, *line.split()], ranks, cwd=self.path)

    def ran(self, line: str, ranks: int = 0, trained: bool = True, batch: int = 50) -> str:
        outcome = self.run(line, ranks, trained, batch)
        assert outcome.code == 0, outcome.err + outcome.out
        return outcome.out

    def made(self, name: str) -> Path:
        path = self.path / FOLDER / name
        assert path.is_file(), sorted(p.name for p in (self.path / FOLDER).iterdir())
        return path

    def log(self, mode: str) -> str:
        return self.made(f"log-{mode}-{FOLDER}.txt").read_text()


@pytest.fixture(scope="module")
def place(sentinelnn, campaign, tmp_path_factory) -> Place:
    return Place(
        sentinelnn, tmp_path_factory.mktemp("seed"), campaign.data, campaign.checkpoint
    )


@pytest.fixture
def empty_place(place, tmp_path) -> Place:
    return Place(place.launcher, tmp_path, place.images, place.checkpoint)


@pytest.fixture(scope="module")
def hardened(place) -> tuple[str, Path]:
    """What hardening printed, and the file it made."""
    out = place.ran("--is-hardening --hardening-ratio=0.1 --importance=l1-norm --clipping=ranger")
    return out, place.made("hardened_l2-norm_0.1.pth")


@pytest.fixture(scope="module")
def pruned(place) -> tuple[str, Path]:
    out = place.ran("--is-pruning --pruning-ratio=0.2 --importance=l1-norm")
    return out, place.made("pruned_l2-norm_0.2.pth")


def right(out: str) -> str:
    """How many images the last evaluation got right."""
    return re.findall(r"(\d+) of 100 test images right", out)[-1]


def test_test(place):
    out = place.ran("")
    typed = place.launcher.run(
        ["evaluate", "--data", place.images, "--checkpoint", place.checkpoint]
    )
    assert right(out) == right(typed.out)
    assert out.startswith("+ sentinelnn evaluate --model resnet20 --dataset synthetic --data ")
    first, *printed = place.log("test").splitlines()
    assert first.endswith(f"--checkpoint={place.checkpoint}") and "--model=resnet20" in first
    said = [line for line in printed if not LOG_LINE.match(line)]  # a warning, say, on stderr
    assert said == out.splitlines(), "the log holds what is printed"
    before = place.log("test")
    place.ran("")
    assert place.log("test").startswith(before) and len(place.log("test")) > len(before)


def test_ranking(place):
    out = place.ran("--is-ranking --importance=l1-norm")
    assert out.startswith("note: the original's l1-norm is the L2 norm")
    assert "l2-norm of resnet20" in out
    assert "l2-norm" in place.launcher.run(["inspect", place.made("ranking_l2-norm.h5")]).out


def test_hardening(place, hardened):
    out, file = hardened
    assert "297 365  1.0914" in re.search(r"parameters .*", out).group(), "as the original says"
    listed = place.launcher.run(["inspect", file]).out
    assert "conv1.duplicated" in listed and '"min"' in listed
    assert right(out)


def test_hardened(place, hardened):
    out = place.ran(f"--is-hardened --hardened-checkpoint={hardened[1]}", trained=False)
    assert right(out) == right(hardened[0])


def test_hardened_with_its_ratio(place, hardened):
    line = f"--is-hardened --clipping=ranger --hardened-checkpoint={hardened[1]} "
    out = place.ran(line + "--hardening-ratio=0.1", trained=False)
    assert right(out) == right(hardened[0])
    wrong = place.run(line + "--hardening-ratio=0.3", trained=False)
    assert wrong.code == 64 and len(wrong.messages) == 1


def test_fault_injection(place):
    out = place.ran("--is-FI --BER=0.00002 --repeat=4")
    assert "--fault-count per-layer-floor" in out
    result = Result.read(place.made("FI_net_BER2e-05_repeat4.h5"))
    result.check_whole()
    assert len(result.trials) == 4 and result.complete
    assert set(result.trials["images"]) == {100}, "all images, not the first batch"
    assert len(set(result.trials["n_faults"])) == 1
    assert "per-layer-floor" in place.log("test_FI")


def test_fault_injection_is_the_same_under_mpirun(place, empty_place):
    line = "--is-FI --BER=0.00002 --repeat=4"
    place.ran(line)
    out = empty_place.ran(line, ranks=2)
    assert out.count("+ sentinelnn inject") == 1, "only one rank prints"
    one, two = (Result.read(p.made("FI_net_BER2e-05_repeat4.h5")) for p in (place, empty_place))
    one.check_same(two)


def test_fault_injection_into_a_hardened_network(place, hardened):
    line = f"--is-hardened --hardened-checkpoint={hardened[1]} --is-FI --BER=2e-5 --repeat=2"
    place.ran(line, trained=False)
    result = Result.read(place.made("FI_hardened_l2-norm_0.1_BER2e-05_repeat2.h5"))
    assert "models/hardened/tensors" in result.fixed


def test_performance(place, hardened):
    line = f"--is-hardened --hardened-checkpoint={hardened[1]} --is-performance"
    out = place.ran(line, trained=False, batch=4)
    assert re.search(r"latency: median .* runs of 4 images", out)


def test_hardening_measured_at_once(empty_place):
    out = empty_place.ran(
        "--is-hardening --hardening-ratio=0.1 --importance=l1-norm --clipping=ranger "
        "--is-FI --BER=2e-5 --repeat=2",
        ranks=2,
    )
    commands = [line.split()[2] for line in out.splitlines() if line.startswith("+ ")]
    assert commands == ["harden", "evaluate", "inject"]
    empty_place.made("FI_hardened_l2-norm_0.1_BER2e-05_repeat2.h5")


def test_pruning(place, pruned):
    out, file = pruned
    assert "--select test" in out and right(out)
    shape = re.search(r"^conv1\.weight .*\[(\d+),", place.launcher.run(["inspect", file]).out, re.M)
    assert shape.group(1) == "13", "16 channels less a fifth"


def test_pruned(place, pruned):
    line = f"--is-pruned --pruning-ratio=0.2 --pruned-checkpoint={pruned[1]}"
    assert right(place.ran(line, trained=False)) == right(pruned[0])
    place.ran(line + " --is-performance", trained=False, batch=4)


def test_pruned_and_hardened(place, pruned):
    of_pruned = f"--is-pruned --pruning-ratio=0.2 --pruned-checkpoint={pruned[1]} "
    out = place.ran(
        of_pruned
        + "--is-hardening --hardening-ratio=0.1 --importance=l1-norm --clipping=ranger",
        trained=False,
    )
    file = place.made("hardened_l2-norm_0.1_of_pruned_l2-norm_0.2.pth")
    of_both = of_pruned + f"--is-hardened --hardened-checkpoint={file} "
    assert right(place.ran(of_both, trained=False)) == right(out)
    place.ran(of_both + "--is-FI --BER=5e-5 --repeat=2", trained=False)
    place.made("FI_hardened_l2-norm_0.1_of_pruned_l2-norm_0.2_BER5e-05_repeat2.h5")


OWN = [
    (
        "--is-hardened --hardening-ratio=0.1 --clipping=ranger --hardened-checkpoint=",
        "hardened",
        916,
    ),
    ("--is-pruned --pruning-ratio=0.1 --pruned-checkpoint=", "pruned", 900),
]


@pytest.mark.parametrize(("line", "kind", "correct"), OWN)
def test_its_own_networks(empty_place, line, kind, correct):
    """Written by the original tool; its bounds are derived again from the training images."""
    file = DATA / f"models/seed_resnet20_{kind}_0.1.pth"
    if not file.exists():
        pytest.skip(f"{file} is absent")
    outcome = empty_place.launcher.run(
        ["--model=resnet20", "--dataset=cifar10", "--batch-size=128", f"--data={DATA}/cifar10"]
        + f"{line}{file}".split(),
        cwd=empty_place.path,
    )
    assert outcome.code == 0, outcome.err
    assert f"{correct} of 1017 test images right" in outcome.out


REFUSED = [
    ("--is-pruned --pruning-ratio=0.1", "--pruned-checkpoint"),
    ("--is-FI --repeat=5", "--BER"),
    ("--is-pruning --pruning-ratio=0.1 --importance=l1-norm --is-hardened", "contradict"),
    ("--hardening-ratio=0.1", "--is-hardening or --is-hardened"),
    ("--banana", "--banana"),
    ("evaluate", "evaluate"),
]


@pytest.mark.parametrize(
    ("line", "named", "ranks"), [(*case, 0) for case in REFUSED] + [(*REFUSED[0], 2)]
)
def test_refused(empty_place, line, named, ranks):
    outcome = empty_place.run(line, ranks)
    assert outcome.code == 64
    assert len(outcome.messages) == 1 and named in outcome.messages[0]
    assert outcome.out == "" and list(empty_place.path.iterdir()) == []


def test_a_step_that_fails_is_the_last(empty_place):
    outcome = empty_place.run(
        "--is-hardening --hardening-ratio=0.1 --importance=luck --clipping=ranger "
        "--is-FI --BER=1e-6 --repeat=1"
    )
    assert outcome.code == 64 and len(outcome.messages) == 1
    assert "luck" in outcome.messages[0]
    assert outcome.out.count("+ sentinelnn") == 1
    assert empty_place.log("test_hardening_FI").splitlines()[-1] == outcome.messages[0]


def test_help_mentions_the_old_form(place):
    assert "--model=M --dataset=D" in place.launcher.run(["--help"]).out
