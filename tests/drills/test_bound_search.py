"""Bounds of activations: quantiles as NumPy has them; searches that are killed, resumed and run on
any number of ranks give the same network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drill import Outcome, children, ended, is_running, kill_job, wait_until

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


@pytest.mark.parametrize("percentile", [60, 99.9])
def test_percentiles_are_those_of_numpy(hardening, net, campaign, percentile):
    run = hardening("q", f"percentile:{percentile}", "--bounds", "channel")
    outcome = run.run()
    assert outcome.code == 0, outcome.err
    state = torch.load(run.folder / "net.pth")
    found = next(t for name, t in state.items() if "bound" in name and t.numel() == 6)
    with torch.no_grad():
        activations = net.relu1(images(campaign.data)).transpose(0, 1).flatten(1).numpy()
    expected = np.percentile(activations, percentile, axis=1, method="inverted_cdf")
    np.testing.assert_allclose(found.numpy() / (1 + 2**-10), expected, rtol=FLOAT, atol=FLOAT)
    assert found.max() > 0


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
    again = sentinelnn.run(args)
    assert again.code == 0, again.err
    assert not again.logged("AUC by bound")


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
