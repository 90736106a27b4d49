#!/usr/bin/python3
"""The long check that the trial engine gives what the reference path gives.

  engine_parity.py cells --work W [--trials 80] [--made-trials 8] [--models M ...] [--ranks 2]
  engine_parity.py order --work W --models resnet20 [--trials 80] [--faults single ber]

cells: every model family x kind of faults x network (unprotected, pruned, hardened in each way).
Each trial runs by both paths (--audit 1); sums of /audit are printed as Markdown tables.
order: the same campaign on 1 rank, on 3 ranks, and in ranges that are merged gives the same rows,
whatever else was in a trial's chunk.

Networks, results and a log are kept in W. Run again, it goes on; with more --trials it adds them.
Results of another build of the program are never mixed in: they go to a folder of their own.
Families without trained weights in DATA/models get some by twenty steps of training, and run
--made-trials. The default is 20 384 audited (trial, network) rows.
Exit code 0: the paths agree; 1: a mismatch, or rows that differ.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import support

sys.path.append(str(support.ROOT / "tests/drills"))
from drill import Result  # noqa: E402

FAST = 1  # EnginePath
SHOWN = 20  # mismatches named one by one

# Batches of 12 leave a last one of 8 images.
FAULTS = {
    "single": "--single-bit",
    "blocks": "--single-bit --images-per-trial 8 --seed 2",
    "ber": "--ber 1e-7 1e-6 1e-5",
    "exact3": "--fault-count exact:3 --batch-size 12",
    "exact40": "--fault-count exact:40 --batch-size 12",
}
PRUNED = {"pruned": "--pruning-ratio 0.1 --finetune-epochs 0"}
HARDENED = {
    f"{correction}_{clipping}": f"--hardening-ratio 0.1 --correction {correction}"
    f" --clipping {clipping}"
    for correction in ("range", "min")
    for clipping in ("none", "ranger", "ranger-clamp")
}
HARDENED |= {
    "bounds_layer": "--hardening-ratio 0 --clipping none --weight-bounds layer",
    "bounds_channel": "--hardening-ratio 0 --clipping none --weight-bounds channel",
    "ranger_only": "--hardening-ratio 0 --clipping ranger --bounds channel",
    "all_layer": "--hardening-ratio 0.1 --correction min --clipping ranger --weight-bounds layer",
    "all_channel": "--hardening-ratio 0.3 --correction range --clipping ranger-clamp"
    " --bounds channel --weight-bounds channel --selection group",
}
# Made from the pruned network.
PRUNED_HARDENED = {"pruned_hardened": "--hardening-ratio 0.1 --clipping ranger"}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["cells", "order"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=support.DATA, help="has cifar10/ and models/")
    parser.add_argument("--models", nargs="+", choices=support.FAMILIES, default=support.FAMILIES)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--trials", type=int, default=80, help="per point of each network")
    parser.add_argument("--made-trials", type=int, default=8, help="where weights are made")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--all", action="store_true", help="also one line per cell")
    return parser.parse_args()


class Bench:
    """The program as it was when the check began, and the folders it works in."""

    def __init__(self, o: argparse.Namespace) -> None:
        support.require(o.data, support.PROGRAM)
        self.o = o
        self.networks = o.work / "networks"
        digest = hashlib.sha256(support.PROGRAM.read_bytes()).hexdigest()[:12]
        self.results = o.work / f"{digest}-{o.device}-{o.images}"
        for folder in (self.networks, self.results):
            folder.mkdir(parents=True, exist_ok=True)
        self.program = self.results / "sentinelnn"  # a copy: a rebuild must not change it midway
        if not self.program.exists():
            shutil.copy2(support.PROGRAM, self.results / "copying")
            (self.results / "copying").rename(self.program)

    def run(self, ranks: int, *args: object, codes: tuple[int, ...] = (0,)) -> int:
        return support.run(self.o.work / "log.txt", self.program, ranks, *args, codes=codes)

    def trials(self, model: str) -> int:
        trained = support.trained(model, self.o.data).exists()
        return self.o.trials if trained else self.o.made_trials

    def made(self, model: str, command: str, how: dict[str, str], base: Path) -> list[Path]:
        """The networks that `command` makes of the network `base`."""
        few = support.few_images(self.o.data, self.networks)
        network = ["--model", model, "--dataset", "cifar10", "--data", few, "--checkpoint", base]
        paths = []
        for name, flags in how.items():
            path = self.networks / model / f"{name}.pth"
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                end = ["--threads", 1, "--output", path]
                self.run(1, command, *network, *flags.split(), *end)
            paths.append(path)
        return paths

    def others(self, model: str, base: Path) -> list[Path]:
        """All networks made from the unprotected one, `base`."""
        pruned = self.made(model, "prune", PRUNED, base)
        hardened = self.made(model, "harden", HARDENED, base)
        return [*pruned, *hardened, *self.made(model, "harden", PRUNED_HARDENED, pruned[0])]

    def campaign(self, model: str, faults: str, ranks: int, output: Path, *more: object) -> None:
        """Every trial of every network by both paths."""
        base = support.checkpoint(model, self.o.data, self.networks, self.program)
        job = ["campaign", "--model", model, "--dataset", "cifar10", "--checkpoint", base]
        job += ["--data", self.o.data / "cifar10", "--also", *self.others(model, base)]
        job += ["--hardening-ratio", 0, "--clipping", "none", "--weight-bounds", "off"]
        job += ["--images", self.o.images, "--repeat", self.trials(model), "--audit", 1]
        job += ["--device", self.o.device, *FAULTS[faults].split(), "--output", output, *more]
        if ranks > 1 and self.o.device == "cuda":
            job.append("--share-gpu")
        self.run(ranks, *job, codes=(0, 1))


@dataclass
class Sum:
    """What the audit found in some rows."""

    rows: int = 0
    images: int = 0
    mismatches: int = 0
    near_ties: int = 0
    due: int = 0
    deviation: float = 0.0

    @classmethod
    def of(cls, rows: np.ndarray) -> Sum:
        counts = (int(rows[n].sum()) for n in ("images", "mismatches", "near_ties", "due"))
        return cls(len(rows), *counts, float(rows["deviation"].max(initial=0)))

    def counts(self) -> tuple[int, ...]:
        return self.rows, self.images, self.mismatches, self.near_ties, self.due

    def __add__(self, other: Sum) -> Sum:
        counts = (a + b for a, b in zip(self.counts(), other.counts()))
        # A NaN stays one.
        return Sum(*counts, float(np.maximum(self.deviation, other.deviation)))

    @property
    def agrees(self) -> bool:
        return self.rows > 0 and self.mismatches == 0

    def line(self) -> list[str]:
        return [*(str(count) for count in self.counts()), f"{self.deviation:.1e}"]


Cell = tuple[str, str, str]  # family, network, faults
HEAD = ["audited trials", "images", "mismatches", "near ties", "DUE images", "largest deviation"]


def point_name(point: np.void) -> str:
    name = point["fault_model"].decode()
    return f"{name} {point['ber']:g}" if point["ber"] > 0 else name


def cells_of(path: Path, model: str, faults: str) -> Iterator[tuple[Cell, np.ndarray]]:
    """The audited rows of a result, by network and point; ends the script where any lacks."""
    with h5py.File(path) as file:
        trials, audit = file["trials"][:], file["audit"][:]
        names = {file["models"][name].attrs["index"]: name for name in file["models"]}
        points = file["points"][:]
        if not file.attrs["complete"] or not len(trials):
            support.fail(f"{path} is not complete", 65)
    if len(audit) != len(trials) or not (trials["audited"] == 1).all():
        support.fail(f"{path}: only {len(audit)} of {len(trials)} rows are audited", 1)
    if not (trials["path"] == FAST).all():
        support.fail(f"{path}: rows of the reference engine, nothing to compare", 1)
    for point in points:
        label = point_name(point) + (", blocks of 8 images" if faults == "blocks" else "")
        for index, name in sorted(names.items()):
            rows = audit[(audit["point"] == point["id"]) & (audit["model"] == index)]
            yield (model, name, label), rows


def whole(path: Path, trials: int) -> bool:
    """Are so many trials of each point there?"""
    if not path.exists():
        return False
    with h5py.File(path) as file:
        return bool(file.attrs["complete"]) and (file["points"]["trials"] >= trials).all()


def print_sums(found: dict[Cell, Sum], title: str, axes: tuple[int, ...]) -> None:
    """Sums over the other axes of the cells."""
    sums: dict[tuple[str, ...], Sum] = defaultdict(Sum)
    for cell, part in found.items():
        sums[tuple(cell[axis] for axis in axes)] += part
    heads = [("family", "network", "faults")[axis] for axis in axes]
    print(f"\n{title}\n")
    support.table([[*heads, *HEAD], *([*key, *part.line()] for key, part in sums.items())])


def name_mismatches(path: Path, rows: np.ndarray, cell: Cell, shown: list[str]) -> None:
    for row in rows[rows["mismatches"] > 0]:
        at = f"point {row['point']}, trial {row['id']}, {cell[1]}"
        shown.append(f"{path}: {at}: {row['mismatches']} of {row['images']} images")


def cpu_seconds() -> float:
    """Of all programs that have ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cells(bench: Bench) -> int:
    found: dict[Cell, Sum] = defaultdict(Sum)
    mismatches: list[str] = []
    for model in bench.o.models:
        for faults in bench.o.faults:
            path = bench.results / f"{model}-{faults}.h5"
            start = cpu_seconds()
            if not whole(path, bench.trials(model)):
                bench.campaign(model, faults, bench.o.ranks, path)
            for cell, rows in cells_of(path, model, faults):
                found[cell] += Sum.of(rows)
                name_mismatches(path, rows, cell, mismatches)
            took = cpu_seconds() - start
            print(f"{model} {faults}: {took:.0f} s of CPU", file=sys.stderr, flush=True)
    if bench.o.all:
        print_sums(found, "Every cell", (0, 1, 2))
    for axis, title in enumerate(("By family", "By network", "By faults")):
        print_sums(found, title, (axis,))
    total = sum(part.rows for part in found.values())
    wrong = sorted({cell for cell, part in found.items() if not part.agrees})
    print(f"\n{total} audited trials in {len(found)} cells; the paths disagree in {len(wrong)}.")
    for line in mismatches[:SHOWN] + ["..."] * (len(mismatches) > SHOWN):
        print(line)
    return 1 if wrong else 0


def merged_ranges(bench: Bench, model: str, faults: str) -> Path:
    """The campaign in three ranges of its trials, on other ranks each."""
    trials = bench.trials(model)
    if trials < 4:
        support.fail(f"order: {model} has {trials} trials; 4 are the least to be cut in ranges", 64)
    cuts = [0, 1, trials // 3 + 1, trials]
    parts = []
    for ranks, (first, end) in enumerate(zip(cuts, cuts[1:]), 1):
        part = bench.results / f"order-{model}-{faults}-{first}.h5"
        bench.campaign(model, faults, ranks, part, "--trial-range", f"{first}:{end}", "--fresh")
        parts.append(part)
    path = bench.results / f"order-{model}-{faults}-merged.h5"
    path.unlink(missing_ok=True)
    bench.run(1, "merge", *parts, "-o", path)
    return path


def order(bench: Bench) -> int:
    different = 0
    for model in bench.o.models:
        for faults in bench.o.faults:
            alone, three = (bench.results / f"order-{model}-{faults}-{n}.h5" for n in ("a", "b"))
            bench.campaign(model, faults, 1, alone, "--publish", 3600, "--fresh")
            bench.campaign(model, faults, 3, three, "--publish", 1, "--fresh")
            for path in (three, merged_ranges(bench, model, faults)):
                words = "the same"
                try:
                    Result.read(path).check_same(Result.read(alone))
                except AssertionError as error:
                    different += 1
                    words = f"DIFFERENT from {alone.name} ({error})"
                print(f"{path.name}: {words}", flush=True)
    return 1 if different else 0


if __name__ == "__main__":
    arguments = options()
    raise SystemExit({"cells": cells, "order": order}[arguments.what](Bench(arguments)))
