#!/usr/bin/env python3
"""Restrictions of activations under faults, by how their bounds are found. Prints Markdown tables.

  restrictions.py --work W [--networks resnet20 vgg11_bn] [--rates 1e-7 1e-6 1e-5 1e-4]

Every network is made by `harden`, once. Two campaigns give the same faults to all of them: fp32 with
weights and biases faulty, and fixed:15.16 with the bounds faulty too. Run again, it goes on. Each cell
is accuracy in % with the half-width of its 95 % interval; one that begins at 0 is told by its end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

import support

FIXED = "weight,bias,bn,bound=fixed:15.16,trunc"
WAYS = {
    "ranger": "--clipping ranger",
    "ranger-clamp": "--clipping ranger-clamp",
    "percentile": "--clipping ranger --bound-search percentile:99.9",
    "ftclip": "--clipping ranger --bound-search ftclip",
    "smooth": "--clipping smooth",
    "fitact": "--clipping smooth --bounds neuron --bound-search fitact",
    "proact": "--clipping smooth --bound-search proact",
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=support.DATA, help="has cifar10/ and models/")
    parser.add_argument("--networks", nargs="+", default=["resnet20", "vgg11_bn"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rates", nargs="+", default="1e-7 1e-6 1e-5 1e-4".split())
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--images-per-trial", type=int, default=64)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--fitact", default="--bound-epochs 5", help="further options of its search")
    parser.add_argument("--proact", default="--bound-epochs 1 --calibration-images 2000")
    parser.add_argument("--ftclip", default="--calibration-images 256")
    return parser.parse_args()


class Networks:
    """The checkpoints of one network, unprotected and restricted, in both formats."""

    def __init__(self, o: argparse.Namespace, name: str) -> None:
        self.o, self.name = o, name
        plain = support.checkpoint(name, o.data, o.work, support.PROGRAM)
        self.given = ["--model", name, *self.data(), "--checkpoint", plain]

    def data(self) -> list[object]:
        return ["--dataset", "cifar10", "--data", self.o.data / "cifar10"]

    def harden(self, file: str, given: list[object], *how: object) -> Path:
        path = self.o.work / f"{self.name}_{file}.pth"
        if not path.exists():
            support.run(
                *(self.o.work / "log.txt", support.PROGRAM, 1, "harden", *given),
                *("--hardening-ratio", 0, *how, "--output", path),
            )
        return path

    def restricted(self, way: str) -> Path:
        further = getattr(self.o, way, "").split()
        return self.harden(self.file(way), self.given, *WAYS[way].split(), *further)

    def file(self, way: str) -> str:
        """Says what the search was told too, so that another one is made anew."""
        return way + "".join(getattr(self.o, way, "").split()).replace("--", "_")

    def fixed(self, way: str) -> Path:
        given = [*self.data(), "--checkpoint", self.restricted(way)] if way else self.given
        store = ("--clipping", "none", "--store", FIXED if way else FIXED.replace(",bound", ""))
        return self.harden(f"{self.file(way) or 'unprotected'}_fixed", given, *store)


def printed(*args: object, ranks: int = 1) -> dict:
    line = support.command(support.PROGRAM, ranks, *args, "--json")
    done = subprocess.run(line, env=os.environ | support.ENVIRONMENT, stdout=subprocess.PIPE)
    if done.returncode != 0:
        support.fail(f"exit code {done.returncode} of: {' '.join(line)}", done.returncode)
    return json.loads(done.stdout)


def campaign(
    o: argparse.Namespace, name: str, given: list[object], also: dict[str, Path], target: str
) -> dict:
    return printed(
        *("campaign", *given, "--hardening-ratio", 0, "--clipping", "none"),
        *("--also", *(f"{way}={path}" for way, path in also.items())),
        *("--fault-target", target, "--ber", *o.rates, "--repeat", o.trials, "--seed", o.seed),
        *("--images", o.images, "--images-per-trial", o.images_per_trial),
        *("--output", o.work / f"{name}.h5"),
        ranks=o.ranks,
    )


def accuracies(result: dict) -> dict[str, list[str]]:
    """Cells of each network, by ascending rate."""
    rows = [row for row in result["estimates"] if row["quantity"] == "accuracy"]
    rows.sort(key=lambda row: row["point"])
    names = {row["model"] for row in rows}
    return {name: [support.cell(row) for row in rows if row["model"] == name] for name in names}


def latencies(networks: Networks, also: dict[str, Path]) -> dict[str, float]:
    """Latency over that of the unprotected network, measured in turns."""
    measured = printed(
        *("profile", *networks.given, "--images", 64, "--threads", 1, "--against", *also.values())
    )
    ways = {str(path): way for way, path in also.items()}
    return {
        ways[model["checkpoint"]]: model["latency_ratio"]["median"]
        for model in measured["models"]
        if model["checkpoint"] in ways
    }


def print_table(o: argparse.Namespace, name: str) -> None:
    networks = Networks(o, name)
    also = {way: networks.restricted(way) for way in o.ways}
    fixed = {way: networks.fixed(way) for way in o.ways}
    fp32 = campaign(o, f"{name}_fp32", networks.given, also, "weight,bias")
    given = [*networks.data(), "--checkpoint", networks.fixed("")]
    hit = campaign(o, f"{name}_fixed", given, fixed, "weight,bias,bound")
    results = [accuracies(fp32), accuracies(hit)]
    latency = latencies(networks, also)
    costs = {model["name"]: model for model in fp32["models"]}
    plain = next(iter(costs.values()))
    rates = [f"{form} {rate}" for form in ("fp32", "fixed") for rate in o.rates]
    rows = [["network", "memory [bytes]", "ratio", "latency", "fault-free", *rates]]
    for way, model in costs.items():
        bytes_ = model["memory_bytes"]
        rows.append([way, f"{bytes_:,}".replace(",", " "), f"{bytes_ / plain['memory_bytes']:.3f}"])
        rows[-1] += [f"{latency.get(way, 1):.2f}", f"{100 * model['correct'] / model['images']:.2f}"]
        rows[-1] += [*results[0][way], *results[1][way]]
    print(f"\n{name}, {o.images} images, {o.trials} trials of {o.images_per_trial} images\n")
    support.table(rows)


if __name__ == "__main__":
    arguments = options()
    arguments.work.mkdir(parents=True, exist_ok=True)
    support.require(arguments.data, support.PROGRAM)
    for network in arguments.networks:
        print_table(arguments, network)
