"""Bounds of activations: quantiles as NumPy has them; searches that are killed, resumed and run on
any number of ranks give the same network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import Outcome, Result, children, ended, is_running, kill_job, text, wait_until

torch = pytest.importorskip("torch", reason="python3-torch makes the network")
nn = torch.nn

CALIBRATED = 100
FLOAT = 1e-5  # of values that two kernels compute in fp32


class Net(nn.Module):
    """Two ReLUs are searched in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2)
        self.fc = nn.Linear(8, 10)

    def relu1(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv1(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.conv2(self.relu1(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(4)
    return Net().eval()


@pytest.fixture(scope="module")
def selection(net, campaign, scratch) -> list[str | Path]:
    path = scratch / "bounds.ts"
    torch.jit.trace(net, torch.randn(1, 3, 32, 32)).save(str(path))
    return ["--model", path, "--dataset", "synthetic", "--data", campaign.data, "--mean", "none"]


class Hardening:
    """`harden` in a folder of its own: all calls are spelled alike."""

    def __init__(self, sentinelnn, selection, folder: Path, *search: str) -> None:
        folder.mkdir()
        self.sentinelnn, self.folder = sentinelnn, folder
        self.args = [
            *("harden", *selection, "--hardening-ratio", "0", "--bound-search", *search),
            *("--calibration-images", str(CALIBRATED), "--output", "net.pth", "--threads", "1"),
        ]

    def run(self, *more: str, ranks: int = 0) -> Outcome:
        return self.sentinelnn.run([*self.args, *more], ranks, cwd=self.folder)

    def killed_after(self, results: int, ranks: int) -> None:
        process = self.sentinelnn.start(self.args, ranks, cwd=self.folder)
        trials = self.folder / "net.pth.bounds"
        assert wait_until(lambda: len(list(trials.glob("*.h5"))) >= results)
        started = children(process.pid)
        kill_job(process)
        ended(process, 30)
        assert wait_until(lambda: not any(is_running(pid) for pid in started), 30)
        assert not (self.folder / "net.pth").exists()

    def network(self) -> dict[str, bytes]:
        state = torch.load(self.folder / "net.pth")
        return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


@pytest.fixture
def hardening(sentinelnn, selection, tmp_path):
    def make(name: str, *search: str) -> Hardening:
        return Hardening(sentinelnn, selection, tmp_path / name, *search)

    return make


def images(data: Path) -> torch.Tensor:
    records = np.concatenate(
        [np.fromfile(file, np.uint8).reshape(-1, 3073) for file in sorted(data.glob("data_*.bin"))]
    )
    pixels = records[:CALIBRATED, 1:].reshape(-1, 3, 32, 32)
    return torch.from_numpy(pixels.astype(np.float32) / 255)


@pytest.mark.parametrize(
    "percentile, options",
    [
        (60, ["--bounds", "channel"]),
        (99.9, ["--bounds", "channel"]),
        (60, ["--bounds", "neuron", "--clipping", "smooth"]),
    ],
)
def test_percentiles_are_those_of_numpy(hardening, net, campaign, percentile, options):
    run = hardening("q", f"percentile:{percentile}", *options)
    outcome = run.run()
    assert outcome.code == 0, outcome.err
    state = torch.load(run.folder / "net.pth")
    found = next(t for name, t in state.items() if "bound" in name and t.shape[0] == 6)
    with torch.no_grad():
        activations = net.relu1(images(campaign.data)).transpose(0, 1)  # [channel, image, y, x]
    values = activations.numpy() if found.dim() == 3 else activations.flatten(1).numpy()
    expected = np.percentile(values, percentile, axis=1, method="inverted_cdf")
    np.testing.assert_allclose(found.numpy() / (1 + 2**-10), expected, rtol=FLOAT, atol=FLOAT)
    assert found.max() > 0


@pytest.mark.parametrize(
    "options, told",
    [(["max"], False), (["max", "--clipping", "smooth"], True), (["percentile:60"], True)],
)
def test_the_cost_of_bounds_is_told(hardening, options, told):
    outcome = hardening("cost", *options).run()
    assert outcome.code == 0, outcome.err
    line = r"top-1 of the first \d+ training images of synthetic: [\d.]+ % as given, [\d.]+ % as w"
    assert bool(re.search(line, outcome.out)) == told


FTCLIP = ("ftclip", "--bound-rates", "1e-3,1e-2")


def test_ftclip_is_the_same_on_any_number_of_ranks_and_after_kills(hardening):
    alone = hardening("alone", *FTCLIP)
    outcome = alone.run()
    assert outcome.code == 0, outcome.err
    told = outcome.logged("AUC by bound")
    assert len(told) >= 6 and all("behind by" in line for line in told)
    for ranks in (2, 3):
        other = hardening(f"ranks{ranks}", *FTCLIP)
        assert other.run(ranks=ranks).code == 0
        assert other.network() == alone.network()
    killed = hardening("killed", *FTCLIP)
    for results, ranks in ((1, 0), (4, 2)):
        killed.killed_after(results, ranks)
    resumed = killed.run(ranks=3)
    assert resumed.code == 0, resumed.err
    assert resumed.logged("are stored already")
    assert killed.network() == alone.network()


@pytest.mark.parametrize("search", ["fitact", "proact"])
def test_trained_bounds_are_the_same_on_any_number_of_ranks_and_after_kills(hardening, search):
    options = (search, "--clipping", "smooth", "--bound-epochs", "3")
    alone = hardening("alone", *options)
    outcome = alone.run()
    assert outcome.code == 0, outcome.err
    assert len(outcome.logged(f"{search}, ")) == (3 if search == "fitact" else 6)
    both = hardening("both", *options)
    assert both.run(ranks=2).code == 0
    assert both.network() == alone.network()
    killed = hardening("killed", *options)
    process = killed.sentinelnn.start(killed.args, cwd=killed.folder)
    state = killed.folder / "net.pth.training"
    assert wait_until(state.exists)
    kill_job(process)
    ended(process, 30)
    resumed = killed.run(ranks=2)
    assert resumed.code == 0, resumed.err
    assert killed.network() == alone.network()
    assert not state.exists()


def test_a_campaign_searches_once(sentinelnn, selection, tmp_path):
    args = [
        *("campaign", *selection, "--hardening-ratio", "0", "--bound-search", *FTCLIP),
        *("--calibration-images", str(CALIBRATED), "--ber", "1e-3", "--repeat", "2"),
        *("--images", "10", "--output", tmp_path / "result.h5"),
    ]
    first = sentinelnn.run(args)
    assert first.code == 0, first.err
    assert first.logged("AUC by bound")
    trials = tmp_path / "result.h5.hardened.pth.bounds"
    shutil.rmtree(trials)
    again = sentinelnn.run(args)
    assert again.code == 0, again.err
    assert not again.logged("AUC by bound") and not trials.exists()
    # The stored job says all of the search.
    replay = sentinelnn.run(["replay", tmp_path / "result.h5", "--trials", "0-1"])
    assert "2 of 2 trials identical" in replay.out, replay.err
    with h5py.File(tmp_path / "result.h5") as file:
        (tmp_path / "job.toml").write_text(text(file.attrs["job"]))
    other = tmp_path / "other.h5"
    once_more = sentinelnn.run(["campaign", "--job", tmp_path / "job.toml", "--output", other])
    assert once_more.code == 0, once_more.err
    Result.read(other).check_same(Result.read(tmp_path / "result.h5"))


@pytest.mark.parametrize(
    "options, words",
    [
        (["ftclip", "--bounds", "channel"], ["--bound-search ftclip", "--bounds"]),
        (["ftclip", "--clipping", "none"], ["--bound-search ftclip", "--clipping none"]),
        (["percentile:0"], ["--bound-search percentile:0", "percentile:99.9"]),
        (["percentile:q"], ["--bound-search percentile:q", "percentile:99.9"]),
        (["median"], ["--bound-search median", "ftclip"]),
        (["ftclip", "--bound-rates", "1e-5,1e-6"], ["--bound-rates", "ascending"]),
        (["fitact"], ["--bound-search fitact", "--clipping smooth"]),
        (["proact", "--clipping", "smooth", "--bounds", "neuron"], ["proact", "--bounds"]),
        (["max", "--bound-epochs", "3"], ["--bound-epochs needs", "fitact or proact"]),
        (["max", "--bound-rates", "1e-6,1e-5"], ["--bound-rates needs --bound-search ftclip"]),
        (["percentile:99", "--fresh"], ["--fresh", "--bound-search percentile:99 keeps nothing"]),
    ],
)
def test_contradictions_are_refused_before_any_work(hardening, options, words):
    run = hardening("refused", *options)
    outcome = run.run()
    assert outcome.code == 64
    (message,) = outcome.messages
    for word in words:
        assert word in message
    assert list(run.folder.iterdir()) == []


def test_trials_in_what_is_no_folder_are_refused_with_the_reason(hardening):
    run = hardening("refused", *FTCLIP)
    there = run.folder / "net.pth.bounds"
    there.write_text("mine")
    outcome = run.run()
    assert outcome.code == 64 and "net.pth.bounds" in outcome.messages[0]
    assert "is no folder; remove" in outcome.messages[0]
    assert there.read_text() == "mine"


def test_a_network_with_nothing_to_bound_is_refused(sentinelnn, campaign, tmp_path):
    path = tmp_path / "linear.ts"
    linear = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.Flatten(), nn.Linear(256, 10)).eval()
    torch.jit.trace(linear, torch.randn(1, 3, 32, 32)).save(str(path))
    words = ["harden", "--model", path, "--dataset", "synthetic", "--data", campaign.data]
    words += ["--mean", "none", "--calibration-images", "8", "--output", tmp_path / "net.pth"]
    outcome = sentinelnn.run(words)
    assert outcome.code == 64
    assert "--clipping ranger: the network has no activations to bound" in outcome.messages[0]
    assert sentinelnn.run([*words, "--clipping", "none"]).code == 0
