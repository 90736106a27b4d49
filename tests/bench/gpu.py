#!/usr/bin/python3
"""Trials per second on a GPU by the number of trials at once, against eager PyTorch on the same GPU, as Markdown.

ResNet-20; the peer flips bits in place, or in outputs by hooks, and runs the whole network (peer.py). Both with the
same arithmetic: fp32 without TF32, deterministic. Each measurement ends after so many seconds.

usage: gpu.py --data DIR [--images 256] [--seconds 8] [--at-once 1 8 64 512] [--json]
DIR holds cifar10/ and models/
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import peer
import torch
from torch import nn

STARTED = 60  # seconds that a process may take to begin
NO_MEMORY = 71  # also other troubles of the environment, which the log names
WORK = {
    "weights, BER 5e-6": ["--ber", "5e-6"],
    "weights, single flips": ["--single-bit"],
    "activations, a flip in each image": ["--fault-target", "activation", "--single-bit"],
}


class Peer(peer.Peer):
    """Also flips one bit in an output of each image."""

    def __init__(self, data: Path, images: int) -> None:
        super().__init__(data, images, "cuda")
        self.layers = [m for m in self.net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]

    def neurons(self) -> None:
        layer_of = self.rng.integers(len(self.layers), size=len(self.images))
        hooks = [
            layer.register_forward_hook(lambda _m, _i, out, own=np.flatnonzero(layer_of == number): self.hit(out, own))
            for number, layer in enumerate(self.layers)
        ]
        self.run()
        for hook in hooks:
            hook.remove()

    def hit(self, output: torch.Tensor, images: np.ndarray) -> torch.Tensor:
        words = output.view(torch.int32).view(len(output), -1)
        rows, places = torch.from_numpy(images), torch.from_numpy(self.rng.integers(words.shape[1], size=len(images)))
        masks = torch.from_numpy(np.left_shift(1, self.rng.integers(31, size=len(images))).astype(np.int32))
        words[rows.to(words.device), places.to(words.device)] ^= masks.to(words.device)
        return output

    def trial(self, work: str) -> None:
        if work.startswith("activations"):
            self.neurons()
            return
        sites = self.sites("single bit" if "single" in work else "binomial")
        self.flip(sites)
        self.run()
        self.flip(sites)

    def rate_for(self, work: str, seconds: float) -> float:
        start, trials = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            self.trial(work)
            trials += 1
        return trials / (time.perf_counter() - start)


def stored(result: Path) -> int:
    """Rows that the program has published so far."""
    try:
        with h5py.File(result) as file:
            return len(file["trials"])
    except OSError:
        return 0


def our_rate(o: argparse.Namespace, work: str, at_once: int) -> float:
    """Of rows stored in the session, which is asked to stop after its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder) / "r.h5", Path(folder) / "log"
        command = [peer.PROGRAM, "inject", "--model", "resnet20", "--dataset", "cifar10"]
        command += ["--data", str(o.data / "cifar10"), "--checkpoint", str(o.data / "models/cifar10_resnet20.pth")]
        command += ["--images", str(o.images), "--repeat", "1000000", "--publish", "1", "--output", str(result)]
        command += ["--device", o.device, "--audit", "0", *WORK[work]]
        command += ["--trials-at-once", str(at_once)] if o.device == "cuda" else []
        with log.open("w") as out:
            process = subprocess.Popen(command, env={**os.environ, **peer.MPI_ENV}, stdout=out, stderr=out)
            begun = time.monotonic()
            while stored(result) == 0 and process.poll() is None and time.monotonic() - begun < STARTED:
                time.sleep(0.2)
            time.sleep(o.seconds)
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=120)
        if code == NO_MEMORY:
            print(log.read_text().splitlines()[-1], file=sys.stderr)
            return float("nan")
        if code not in (0, 75):
            print(log.read_text(), file=sys.stderr)
            raise SystemExit(code)
        with h5py.File(result) as file:
            session = file["provenance/sessions"][0]
            return len(file["trials"]) / float(session["ended"] - session["started"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda", help="cpu: without the peer, to try this script")
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    if o.device == "cuda" and not torch.cuda.is_available():
        print("gpu.py: PyTorch sees no GPU", file=sys.stderr)
        raise SystemExit(71)
    peer.same_arithmetic()
    theirs = Peer(o.data, o.images) if o.device == "cuda" else None
    report = {}
    for work in WORK:
        rates = {str(n): our_rate(o, work, n) for n in o.at_once}
        report[work] = {"peer": theirs.rate_for(work, o.seconds) if theirs else float("nan"), **rates}
    if o.json:
        json.dump(report, sys.stdout, indent=2)
        return
    columns = ["peer", *map(str, o.at_once)]
    print("| trials/s | eager PyTorch | " + " | ".join(f"{n} at once" for n in o.at_once) + " | best / PyTorch |")
    print("|---" * (len(columns) + 2) + "|")
    for work, rates in report.items():
        best = max((rates[c] for c in columns[1:] if rates[c] == rates[c]), default=float("nan"))
        print(f"| {work} | " + " | ".join(f"{rates[c]:.1f}" for c in columns) + f" | {best / rates['peer']:.1f}x |")


if __name__ == "__main__":
    main()
