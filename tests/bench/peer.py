#!/usr/bin/python3
"""Trials per second: sentinelnn against the way Python tools do it, interleaved in one run.

The peer is eager PyTorch on two threads: flip the bits through an integer view, run the whole network, flip back. It
is as fast as the original SentinelNN (shared/data/README.md). Ours runs with 1 and 2 ranks of one thread. With
--device cuda both use one GPU, ours with 1 rank; the same arithmetic for both (no TF32, deterministic).

usage: peer.py --data DIR [--trials 20] [--rounds 5] [--images 256] [--device cpu|cuda] [--json]
DIR holds cifar10/ and models/
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("SENTINELNN", str(ROOT / "build/release/sentinelnn"))
MPI_ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1"}
WORK = {
    "binomial 5e-6": ["--ber", "5e-6"],
    "per-layer-floor 5e-6": ["--ber", "5e-6", "--fault-count", "per-layer-floor"],
    "single bit": ["--single-bit"],
}


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + skip)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [16, 16, 32, 64]
        for i in (1, 2, 3):
            blocks = [Block(widths[i - 1] if b == 0 else widths[i], widths[i], 2 if i > 1 and b == 0 else 1) for b in range(3)]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def load_images(path: Path, count: int) -> torch.Tensor:
    raw = np.fromfile(path, np.uint8).reshape(-1, 3073)[:count, 1:]
    mean = torch.tensor((0.49139968, 0.48215827, 0.44653124)).view(1, 3, 1, 1)
    std = torch.tensor((0.24703233, 0.24348505, 0.26158768)).view(1, 3, 1, 1)
    return (torch.from_numpy(raw.copy()).float().view(-1, 3, 32, 32) / 255 - mean) / std


class Peer:
    """Flips bits in place, runs everything, flips back."""

    def __init__(self, data: Path, images: int, device: str) -> None:
        self.net = ResNet20().eval()
        self.net.load_state_dict(torch.load(data / "models/cifar10_resnet20.pth"))
        self.net.to(device)
        self.weights = [m.weight.data for m in self.net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        self.images = load_images(data / "cifar10/test_batch.bin", images).to(device)
        self.rng = np.random.default_rng(1)
        self.run()  # what is set up at first use is nobody's trial

    def run(self) -> int:
        with torch.no_grad():
            return torch.isfinite(self.net(self.images)).all(1).sum().item()

    def sites(self, work: str) -> list[np.ndarray]:
        bits = [w.numel() * 32 for w in self.weights]
        if work == "single bit":
            counts = [0] * len(bits)
            counts[self.rng.choice(len(bits), p=np.array(bits) / sum(bits))] = 1
        elif work.startswith("per-layer"):
            counts = [int(5e-6 * b) for b in bits]
        else:
            counts = [self.rng.binomial(b, 5e-6) for b in bits]
        return [self.rng.choice(b, c, replace=False) for b, c in zip(bits, counts)]

    def flip(self, sites: list[np.ndarray]) -> None:
        """All bits of a tensor at once: on a GPU every operation is a launch."""
        for weight, chosen in zip(self.weights, sites):
            if len(chosen) == 0:
                continue
            touched, place = np.unique(chosen // 32, return_inverse=True)
            masks = np.zeros(len(touched), np.uint32)
            np.bitwise_xor.at(masks, place, np.uint32(1) << (chosen % 32).astype(np.uint32))
            words = weight.view(torch.int32).view(-1)
            words[torch.from_numpy(touched).to(words.device)] ^= torch.from_numpy(masks.view(np.int32)).to(words.device)

    def rate(self, work: str, trials: int) -> float:
        start = time.perf_counter()
        for _ in range(trials):
            sites = self.sites(work)
            self.flip(sites)
            self.run()
            self.flip(sites)
        return trials / (time.perf_counter() - start)


def our_rate(work: str, data: Path, images: int, trials: int, ranks: int, extra: list[str]) -> float:
    """From the result's own record of when the session began and when its last rows were stored."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "r.h5"
        command = ["mpirun", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
        command += [PROGRAM, "inject", "--model", "resnet20", "--dataset", "cifar10", "--data", str(data / "cifar10")]
        command += ["--checkpoint", str(data / "models/cifar10_resnet20.pth"), "--images", str(images), "--seed", "1"]
        command += ["--repeat", str(trials), "--output", str(result), *WORK[work], *extra]
        subprocess.run(command, check=True, env={**os.environ, **MPI_ENV}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with h5py.File(result) as h:
            session = h["provenance/sessions"][0]
            return trials / (session["ended"] - session["started"])


def same_arithmetic() -> None:
    """On a GPU, as sentinelnn computes there."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=20, help="of the peer per round; ours runs 4 to 20 times as many, on a GPU 40 to 200 times")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("peer.py: --device cuda: PyTorch sees no GPU", file=sys.stderr)
        raise SystemExit(71)
    ranks = (1,) if args.device == "cuda" else (1, 2)
    torch.set_num_threads(2)
    same_arithmetic()
    peer = Peer(args.data, args.images, args.device)
    report = {}
    for work in WORK:
        ours = args.trials * (20 if work == "single bit" else 4) * (10 if args.device == "cuda" else 1) // 2
        rounds = [
            (
                peer.rate(work, args.trials),
                *(our_rate(work, args.data, args.images, ours * n, n, ["--device", args.device]) for n in ranks),
            )
            for _ in range(args.rounds)
        ]
        rates = report[work] = {"peer_trials_per_second": statistics.median(r[0] for r in rounds)}
        for place, n in enumerate(ranks, 1):
            rates[f"rank{n}_trials_per_second"] = statistics.median(r[place] for r in rounds)
        rates[f"rank{ranks[-1]}_over_peer"] = statistics.median(r[-1] / r[0] for r in rounds)
        if len(ranks) > 1:
            rates["rank2_over_rank1"] = statistics.median(r[2] / r[1] for r in rounds)
        if not args.json:
            print(work, {k: round(v, 2) for k, v in rates.items()}, flush=True)
    if args.json:
        json.dump(report, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
