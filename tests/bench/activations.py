#!/usr/bin/python3
"""Faults in activations: what protects against them, and how fast single neuron flips are.

  activations.py protections --work W [--images 256] [--trials 100]
  activations.py speed --work W [--images 256] [--rounds 5]

`protections` prints accuracy under bit error rates in the outputs of convolutions and linear layers,
of ResNet-20 and networks made from it, on paired faults; and how many images a single flip makes
fail. `speed` compares single flips with the way PyTorch tools make them, a hook on the layer and a
run of the whole batch, in turns: once with one faulty image a run, once with a fault in each image.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import support

RATES = ("1e-8", "1e-7", "1e-6")
DUPLICATED = ("--hardening-ratio", "0.5", "--clipping", "none")
PROTECTIONS = {
    "ranger": ("--hardening-ratio", "0"),
    "ranger-by-channel": ("--hardening-ratio", "0", "--bounds", "channel"),
    "ranger-clamp": ("--hardening-ratio", "0", "--clipping", "ranger-clamp"),
    "half-duplicated": DUPLICATED,
    "half-duplicated+ranger": ("--hardening-ratio", "0.5"),
    "nearly-all-duplicated": ("--hardening-ratio", "0.99", "--clipping", "none"),
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("protections", "speed"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=support.DATA, help="has cifar10/ and models/")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=1)
    return parser.parse_args()


def run(*words: object, ranks: int = 1) -> str:
    line = support.command(support.PROGRAM, ranks, *words)
    environment = os.environ | support.ENVIRONMENT
    done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        support.fail(f"{' '.join(line)} ended with {done.returncode}", done.returncode % 256)
    return done.stdout


def selection(o: argparse.Namespace) -> list[object]:
    weights = support.trained("resnet20", o.data)
    named = ["--model", "resnet20", "--dataset", "cifar10"]
    return [*named, "--checkpoint", weights, "--data", o.data / "cifar10"]


# ---- protections ---------------------------------------------------------------------------------


def protected(o: argparse.Namespace, name: str) -> Path:
    path = o.work / f"{name.replace(', ', '_').replace(' ', '_')}.pth"
    if not path.exists():
        run("harden", *selection(o), *PROTECTIONS[name], "--output", path)
    return path


def campaign(o: argparse.Namespace, name: str, *faults: object) -> dict:
    """All networks in one file; a run that was stopped goes on."""
    also = [word for made in PROTECTIONS for word in ("--also", f"{made}={protected(o, made)}")]
    plain = ["--hardening-ratio", "0", "--clipping", "none"]
    return json.loads(
        run(
            *("campaign", *selection(o), *plain, *also, "--fault-target", "activation", *faults),
            *("--images", o.images, "--output", o.work / f"{name}.h5", "--json"),
            ranks=o.ranks,
        )
    )


def cell(result: dict, model: str, point: int, quantity: str) -> str:
    rows = [
        row
        for row in result["estimates"]
        if (row["point"], row["quantity"]) == (point, quantity) and row["model"] == model
    ]
    row = {name: 100 * rows[-1][name] for name in ("estimate", "lower", "upper")}
    return f"{row['estimate']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}]"


def protections(o: argparse.Namespace) -> None:
    single = campaign(o, "single", "--single-bit", "--repeat", o.trials)
    rates = campaign(o, "rates", "--ber", *RATES, "--repeat", o.trials)
    rows = [["network", "memory", "MACs", "failing, one flip", *RATES]]
    first = single["models"][0]
    for model in single["models"]:
        name = model["name"]
        rows.append(
            [name]
            + [f"{model[what] / first[what]:.3f}" for what in ("memory_bytes", "macs")]
            + [cell(single, name, 0, "failing")]
            + [cell(rates, name, point, "accuracy") for point in range(len(RATES))]
        )
    support.table(rows)


# ---- speed ---------------------------------------------------------------------------------------


class Peer:
    """Whole batches in eager PyTorch on one thread, a hook on the layer that is hit."""

    def __init__(self, o: argparse.Namespace) -> None:
        import peer
        import torch

        self.torch = torch
        torch.set_num_threads(1)
        self.net = peer.ResNet20().eval()
        self.net.load_state_dict(torch.load(support.trained("resnet20", o.data)))
        self.images = peer.load_images(o.data / "cifar10/test_batch.bin", o.images)
        kinds = (torch.nn.Conv2d, torch.nn.Linear)
        self.layers = [m for m in self.net.modules() if isinstance(m, kinds)]
        self.generator = torch.Generator().manual_seed(1)

    def _below(self, n: int) -> int:
        return int(self.torch.randint(n, (1,), generator=self.generator))

    def trial(self, images: range) -> None:
        """One flip in each of these images."""
        by_layer: dict[int, list[int]] = {}
        for image in images:
            by_layer.setdefault(self._below(len(self.layers)), []).append(image)
        hooks = [
            self.layers[layer].register_forward_hook(lambda _m, _i, out, own=own: self._flip(out, own))
            for layer, own in by_layer.items()
        ]
        with self.torch.no_grad():
            self.net(self.images).argmax(1)
        for hook in hooks:
            hook.remove()

    def _flip(self, output, images: list[int]):
        words = output.view(self.torch.int32).view(len(output), -1)
        for image in images:
            words[image, self._below(words.shape[1])] ^= 1 << self._below(31)
        return output


def ours(o: argparse.Namespace, trials: int) -> float:
    """Wall time of the trials alone [s]."""
    import h5py

    path = o.work / "speed.h5"
    faults = ["--fault-target", "activation", "--single-bit", "--repeat", trials, "--audit", 0]
    run("inject", *selection(o), *faults, "--images", o.images, "--fresh", "--output", path)
    with h5py.File(path) as file:
        return float(file["trials"]["wall_us"].sum()) / 1e6


def speed(o: argparse.Namespace) -> None:
    peer, trials = Peer(o), 40
    times: dict[str, list[float]] = {"ours": [], "each": [], "one": []}
    for _ in range(o.rounds):
        times["ours"].append(ours(o, trials) / trials)
        for what, images in (("each", range(o.images)), ("one", range(1))):
            start = time.perf_counter()
            for _ in range(3):
                peer.trial(images)
            times[what].append((time.perf_counter() - start) / 3)
    middle = {what: statistics.median(own) for what, own in times.items()}
    rows = [["", "neuron flips/s", "ours / that"]]
    our_rate = o.images / middle["ours"]
    rows.append(["ours, a flip in each image of a trial", f"{our_rate:.0f}", "1"])
    for what, flips in (("each", o.images), ("one", 1)):
        rate = flips / middle[what]
        named = "a flip in each image" if what == "each" else "a flip in one image"
        rows.append([f"PyTorch, hooks, {named} of the batch", f"{rate:.1f}", f"{our_rate / rate:.1f}"])
    support.table(rows)


def main() -> None:
    o = options()
    support.require(o.data, support.PROGRAM)
    o.work.mkdir(parents=True, exist_ok=True)
    {"protections": protections, "speed": speed}[o.what](o)


if __name__ == "__main__":
    main()
