#!/usr/bin/python3
"""Faults in activations: what protects against them, and how fast single neuron flips are.

  activations.py protections --work W [--images 256] [--trials 100]
  activations.py speed --work W [--images 256] [--rounds 5]

`protections` prints accuracy under bit error rates in the outputs of convolutions and linear
layers, of ResNet-20 and networks made from it, on paired faults; and how many images a single flip
makes fail. `speed` compares single flips with hooks of PyTorch on the layer that is hit, and with
PyTorchFI where it is installed: whole batches, with a fault in each image or in one. All run in
turns on one thread. The rates are per second of CPU time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
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


class Hooks:
    """Whole batches in eager PyTorch, a hook on the layer that is hit."""

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
            self.layers[layer].register_forward_hook(lambda _m, _i, out, o=own: self._flip(out, o))
            for layer, own in by_layer.items()
        ]
        with self.torch.no_grad():
            self.net(self.images).argmax(1)
        for hook in hooks:
            hook.remove()

    def ranges(self) -> list[float]:
        """The largest outputs of the convolutions, in the order of their runs."""
        found: list[float] = []
        hooks = [
            layer.register_forward_hook(lambda _m, _i, out: found.append(float(out.abs().max())))
            for layer in self.layers
            if isinstance(layer, self.torch.nn.Conv2d)
        ]
        with self.torch.no_grad():
            self.net(self.images)
        for hook in hooks:
            hook.remove()
        return found

    def _flip(self, output, images: list[int]):
        words = output.view(self.torch.int32).view(len(output), -1)
        for image in images:
            words[image, self._below(words.shape[1])] ^= 1 << self._below(31)
        return output


class PyTorchFI:
    """Its own single flips, in outputs of convolutions: of an 8-bit number, scaled by the layer's
    largest output."""

    def __init__(self, hooks: Hooks, images: int) -> None:
        from pytorchfi import neuron_error_models

        self.models, self.torch = neuron_error_models, hooks.torch
        self.images, self.ranges = hooks.images[:images], hooks.ranges()
        kinds = [hooks.torch.nn.Conv2d]
        self.injector = neuron_error_models.single_bit_flip_func(
            hooks.net, images, input_shape=[3, 32, 32], layer_types=kinds, bits=8
        )

    def trial(self, inject: str) -> None:
        with self.torch.no_grad():
            getattr(self.models, inject)(self.injector, self.ranges)(self.images).argmax(1)


def ways(o: argparse.Namespace) -> dict[str, tuple[int, Callable[[], None]]]:
    """The others: flips of a run, and a run."""
    hooks = Hooks(o)
    found = {
        "PyTorch, hooks, each image": (o.images, lambda: hooks.trial(range(o.images))),
        "PyTorch, hooks, one image": (1, lambda: hooks.trial(range(1))),
    }
    if importlib.util.find_spec("pytorchfi"):
        whole, alone = PyTorchFI(hooks, o.images), PyTorchFI(hooks, 1)
        single = "random_neuron_single_bit_inj"
        name = f"PyTorchFI {importlib.metadata.version('pytorchfi')}"
        found |= {
            f"{name}, each image": (o.images, lambda: whole.trial(f"{single}_batched")),
            f"{name}, one image": (1, lambda: whole.trial(single)),
            f"{name}, a batch of one": (1, lambda: alone.trial(single)),
        }
    return found


def ours(o: argparse.Namespace, trials: int) -> float:
    """CPU time of a campaign [s]."""
    faults = ["--fault-target", "activation", "--single-bit", "--repeat", trials, "--audit", 0]
    output = ["--images", o.images, "--fresh", "--output", o.work / "speed.h5"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run("inject", *selection(o), *faults, *output)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def one_run(run_once: Callable[[], None]) -> float:
    """CPU time [s], a mean over a second and more."""
    start, runs = time.process_time(), 0
    while time.process_time() - start < 1:
        run_once()
        runs += 1
    return (time.process_time() - start) / runs


def speed(o: argparse.Namespace) -> None:
    others = ways(o)
    times: dict[str, list[float]] = {name: [] for name in ("ours", *others)}
    for _ in range(o.rounds):
        times["ours"].append((ours(o, 1 + o.trials) - ours(o, 1)) / o.trials)
        for name, (_, run_once) in others.items():
            times[name].append(one_run(run_once))
    our_rate = o.images / statistics.median(times["ours"])
    rows = [["", "neuron flips/s", "ours / that"], ["ours, each image", f"{our_rate:.0f}", "1"]]
    for name, (flips, _) in others.items():
        rate = flips / statistics.median(times[name])
        rows.append([name, f"{rate:.1f}", f"{our_rate / rate:.1f}"])
    support.table(rows)


def main() -> None:
    o = options()
    support.require(o.data, support.PROGRAM)
    o.work.mkdir(parents=True, exist_ok=True)
    {"protections": protections, "speed": speed}[o.what](o)


if __name__ == "__main__":
    main()
