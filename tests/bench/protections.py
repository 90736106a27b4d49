#!/usr/bin/env python3
"""What each protection buys: hardened networks of one checkpoint under the same faults, as Markdown tables.

  protections.py choices    --model resnet20 --checkpoint F.pth   range/min, own/group, ranger/ranger-clamp in pairs
  protections.py map        ...   duplication x clipping x weight bounds: accuracy against overhead, Pareto front
  protections.py importance ...   importance methods at two hardening ratios, without restriction

Every network is made by `sentinelnn harden`, all of them are injected with the same faults by one
`sentinelnn campaign --also`, and what is printed comes from its result file. Run again, it goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
CHOICES = {
    "range": "--hardening-ratio 0.1 --clipping none --correction range",
    "min": "--hardening-ratio 0.1 --clipping none --correction min",
    "range_0.3": "--hardening-ratio 0.3 --clipping none --correction range",
    "min_0.3": "--hardening-ratio 0.3 --clipping none --correction min",
    "group": "--hardening-ratio 0.1 --clipping none --selection group",
    "group_0.3": "--hardening-ratio 0.3 --clipping none --selection group",
    "ranger": "--hardening-ratio 0 --clipping ranger",
    "clamp": "--hardening-ratio 0 --clipping ranger-clamp",
}
PAIRS = [
    ("range", "min"),
    ("range_0.3", "min_0.3"),
    ("range", "group"),
    ("range_0.3", "group_0.3"),
    ("ranger", "clamp"),
]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=["choices", "map", "importance"])
    parser.add_argument("--sentinelnn", default=ROOT / "build/release/sentinelnn", type=Path)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="networks, rankings and result")
    parser.add_argument("--ber", nargs="+", default=["1e-6", "5e-6", "2e-5"])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument(
        "--methods", nargs="+", default=["l1-norm", "l2-norm", "vul-gain", "salience", "deepvigor"]
    )
    parser.add_argument("--rankings", nargs="*", default=[], help="further ranking files")
    parser.add_argument(
        "--only", nargs="+", choices=CHOICES, help="choices: only these networks and their pairs"
    )
    return parser.parse_args()


def run(o: argparse.Namespace, ranks: int, *args: object) -> None:
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMP_NUM_THREADS": "1"}
    environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    command = ["mpirun", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
    command += [str(o.sentinelnn), *map(str, args)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def network(o: argparse.Namespace) -> list[object]:
    named = ["--model", o.model, "--dataset", "cifar10"]
    return [*named, "--data", o.data, "--checkpoint", o.checkpoint]


def harden(o: argparse.Namespace, name: str, how: str) -> Path:
    path = o.work / f"{name}.pth"
    if not path.exists():
        run(o, 1, "harden", *network(o), "--threads", 1, *how.split(), "--output", path)
    return path


def campaign(o: argparse.Namespace, models: dict[str, str]) -> Path:
    """The result of injecting the same faults into the network and all those made from it."""
    also = [harden(o, name, how) for name, how in models.items()]
    nothing = ["--hardening-ratio", 0, "--clipping", "none"]
    result = o.work / f"{o.experiment}.h5"
    faults = ["--ber", *o.ber, "--repeat", o.trials, "--images", o.images, "--output", result]
    run(o, o.ranks, "campaign", *network(o), *nothing, "--also", *also, *faults)
    return result


class Trials:
    """Right images of every (BER, network, trial)."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            rows, models = file["trials"][:], file["models"]
            self.names = sorted(models, key=lambda name: models[name].attrs["index"])
            self.costs = {name: dict(models[name].attrs) for name in self.names}
            self.ber = file["points"]["ber"]
        self.images = int(rows["images"][0])
        self.share = {
            (point, name): rows["correct"][(rows["point"] == point) & (rows["model"] == index)]
            / self.images
            for point in range(len(self.ber))
            for index, name in enumerate(self.names)
        }

    def mean(self, point: int, name: str) -> tuple[float, float]:
        return interval(self.share[point, name])

    def difference(self, point: int, a: str, b: str) -> tuple[float, float]:
        return interval(self.share[point, a] - self.share[point, b])


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of its 95 % t interval, in points of accuracy."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return 100 * values.mean(), 100 * half


def table(rows: list[list[str]]) -> None:
    for place, row in enumerate(rows):
        print("| " + " | ".join(row) + " |")
        if place == 0:
            print("|" + "---|" * len(row))


def choices(o: argparse.Namespace) -> None:
    models = {name: how for name, how in CHOICES.items() if name in (o.only or CHOICES)}
    trials = Trials(campaign(o, models))
    pairs = [pair for pair in PAIRS if models.keys() >= set(pair)]
    rows = [["BER", "trials", "first", "accuracy", "second", "accuracy", "first - second", "decided"]]
    for (point, ber), (a, b) in itertools.product(enumerate(trials.ber), pairs):
        difference, half = trials.difference(point, a, b)
        decided = a if difference > half else b if difference < -half else "no"
        rows.append([f"{ber:g}", str(len(trials.share[point, a]))])
        for name in (a, b):
            rows[-1] += [name, "{:.2f} ± {:.2f}".format(*trials.mean(point, name))]
        rows[-1] += [f"{difference:+.2f} ± {half:.2f}", decided]
    table(rows)


def latency_ratios(o: argparse.Namespace, models: list[str]) -> dict[str, float]:
    """Latency of each network over that of the unprotected one, measured in turns."""
    file = o.work / "latency.json"
    if not file.exists():
        against = [o.work / f"{name}.pth" for name in models]
        command = [o.sentinelnn, "profile", *network(o), "--images", 64, "--threads", 1]
        command += ["--json", "--against", *against]
        done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
        file.write_text(done.stdout)
    measured = json.loads(file.read_text())["models"]
    return {Path(m["checkpoint"]).stem: m["latency_ratio"]["median"] for m in measured}


def pareto(points: dict[str, tuple[float, float]]) -> set[str]:
    """Names that no other beats in accuracy at the same or less overhead."""
    return {
        name
        for name, (cost, gain) in points.items()
        if not any(
            (c <= cost and g > gain) or (c < cost and g >= gain) for c, g in points.values()
        )
    }


def overhead_map(o: argparse.Namespace) -> None:
    models = {}
    for ratio, clipping, bounds in itertools.product(
        ("0", "0.1", "0.3"), ("none", "ranger", "ranger-clamp"), ("off", "layer", "channel")
    ):
        how = f"--hardening-ratio {ratio} --clipping {clipping} --weight-bounds {bounds}"
        if how != "--hardening-ratio 0 --clipping none --weight-bounds off":
            models[f"d{ratio}_{clipping}_{bounds}"] = how
    trials = Trials(campaign(o, models))
    latency = latency_ratios(o, list(models))
    plain = trials.costs["unprotected"]
    rows = [["network", "parameters", "MACs", "latency", *(f"{ber:g}" for ber in trials.ber)]]
    for name in trials.names:
        cost = trials.costs[name]
        rows.append([name, f"{cost['parameters'] / plain['parameters']:.3f}"])
        rows[-1] += [f"{cost['macs'] / plain['macs']:.3f}", f"{latency.get(name, 1):.2f}"]
        for point in range(len(trials.ber)):
            rows[-1].append("{:.1f} ± {:.1f}".format(*trials.mean(point, name)))
    table(rows)
    for point, ber in enumerate(trials.ber):
        against = {n: (latency.get(n, 1.0), trials.mean(point, n)[0]) for n in trials.names}
        print(f"\nPareto front, accuracy against latency, BER {ber:g}:", *sorted(pareto(against)))


def importance(o: argparse.Namespace) -> None:
    o.work.mkdir(parents=True, exist_ok=True)
    rankings = {Path(path).stem: Path(path) for path in o.rankings}
    for method in o.methods:
        rankings[method] = o.work / f"{method}.h5"
        if not rankings[method].exists():
            cache = ["--workspace", o.work / "cache", "--threads", 1]
            rank = ["rank", *network(o), "--importance", method, *cache]
            run(o, o.ranks, *rank, "--output", rankings[method])
    models = {
        f"{name}_{ratio}": f"--ranking {path} --hardening-ratio {ratio} --clipping none"
        for name, path in rankings.items()
        for ratio in ("0.1", "0.3")
    }
    trials = Trials(campaign(o, models))
    rows = [["BER", "ranking", "ratio", "accuracy", "improvement", "trials"]]
    for point, ber in enumerate(trials.ber):
        rows.append([f"{ber:g}", "unprotected", ""])
        rows[-1] += ["{:.2f} ± {:.2f}".format(*trials.mean(point, "unprotected")), "", ""]
        for name in models:
            gain = "{:+.2f} ± {:.2f}".format(*trials.difference(point, name, "unprotected"))
            mean = "{:.2f} ± {:.2f}".format(*trials.mean(point, name))
            ranking, ratio = name.rsplit("_", 1)
            count = str(len(trials.share[point, name]))
            rows.append([f"{ber:g}", ranking, ratio, mean, gain, count])
    table(rows)


if __name__ == "__main__":
    arguments = options()
    arguments.work.mkdir(parents=True, exist_ok=True)
    {"choices": choices, "map": overhead_map, "importance": importance}[arguments.experiment](
        arguments
    )
