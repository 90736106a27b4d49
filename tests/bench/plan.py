#!/usr/bin/python3
"""What `plan` says against what runs take: trials, memory, disk. Prints Markdown tables.

  plan.py --work W [--images 128] [--cases t1-1 t2-1e-6 ...] [--memory]

Each case runs `sentinelnn plan` and then the same options for real, with one rank. Said is the row
of the supposed populations whose share of failing trials is nearest to the share of failing images
that the run found. --memory instead compares the peak of every rank, with one and two of them,
and with many faults.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

import h5py
import support

MIB = 2.0**20
CASES = {
    "t1-1": (["--single-bit", "--half-width", "0.01"], False),
    "t1-0.3": (["--single-bit", "--half-width", "0.003"], False),
    "t2-1e-6": (["--ber", "1e-6", "--half-width", "0.02"], False),
    "t2-1e-5": (["--ber", "1e-5", "--half-width", "0.02"], False),
    "also": (["--ber", "1e-6", "--half-width", "0.02"], True),
}
MEMORY = ("resnet20", "vgg11_bn"), (256, 1017), (1, 2)
ONE = ["--ber", "1e-6", "--repeat", 40]
OUTPUTS = ["--fault-target", "activation", "--repeat", 4, "--audit", 0, "--ber"]
HELD = {  # faults that take memory, and values that are kept for a moment
    "outputs, BER 1e-3": [*OUTPUTS, "1e-3"],
    "outputs, BER 4e-3": [*OUTPUTS, "4e-3"],
    "outputs, BER 1e-5, --cache-budget 0.001": [*OUTPUTS, "1e-5", "--cache-budget", "0.001"],
    "weights, BER 1e-3": ["--ber", "1e-3", "--repeat", 100],
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=support.DATA, help="has cifar10/ and models/")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--memory", action="store_true")
    return parser.parse_args()


def network(o: argparse.Namespace, model: str, images: int) -> list[object]:
    checkpoint = support.checkpoint(model, o.data, o.work, support.PROGRAM)
    selection = ["--model", model, "--dataset", "cifar10", "--data", o.data / "cifar10"]
    return [*selection, "--checkpoint", checkpoint, "--images", images]


def planned(*args: object, ranks: int = 1) -> dict:
    line = support.command(support.PROGRAM, ranks, "plan", "--json", *args)
    environment = {**os.environ, **support.ENVIRONMENT}
    done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def peaks(o: argparse.Namespace, ranks: int, *args: object) -> list[float]:
    """Runs the program; the largest resident set of each rank [MiB]."""
    for old in o.work.glob("peak.*"):
        old.unlink()
    timed = f'exec /usr/bin/time -f %M -o {o.work}/peak.$OMPI_COMM_WORLD_RANK "$0" "$@"'
    line = ["mpirun", "--oversubscribe", "-n", str(ranks), "sh", "-c", timed]
    line += [str(support.PROGRAM), *map(str, args)]
    with (o.work / "log.txt").open("a") as out:
        environment = {**os.environ, **support.ENVIRONMENT}
        subprocess.run(line, env=environment, stdout=out, stderr=out, check=True)
    files = sorted(o.work.glob("peak.*"))
    return [int(file.read_text().split()[-1]) * 1024 / MIB for file in files]


def said_peaks(plan: dict) -> tuple[float, float]:
    """Rank 0, other ranks [MiB]."""
    return plan["peak_bytes"] / MIB, (plan["peak_bytes"] - plan["less_elsewhere_bytes"]) / MIB


def hardened(o: argparse.Namespace) -> Path:
    made = o.work / "hardened.pth"
    if not made.exists():
        how = ["--calibration-images", "64", "--output", made]
        args = network(o, "resnet20", 1)[:-2]
        support.run(o.work / "log.txt", support.PROGRAM, 1, "harden", *args, *how)
    return made


def found(path: Path) -> tuple[int, float, float]:
    """Trials used, seconds, share of failing images of the network that fails most."""
    with h5py.File(path) as file:
        estimates = file["estimates"][:]
        last = estimates[estimates["trials"] == estimates["trials"].max()]
        failing = last[last["quantity"] == b"failing"]["estimate"].max()
        session = file["provenance/sessions"][0]
        used = int(file["design/plans"]["used"][0])
        return used, session["ended"] - session["started"], float(failing)


def compare(o: argparse.Namespace, name: str) -> list[str]:
    how, two = CASES[name]
    selection = network(o, "resnet20", o.images)
    also = ["--also", hardened(o)] if two else []
    plan = planned(*selection, *how, *also)
    result = o.work / f"{name}.h5"
    command = "campaign" if two else "inject"
    unprotected = ["--hardening-ratio", 0, "--clipping", "none"] if two else []
    args = [*selection, *how, *also, *unprotected, "--fresh", "--output", result]
    measured = peaks(o, 1, command, *args)[0]
    trials, seconds, failing = found(result)
    point = plan["points"][0]
    row = min(point["outlooks"], key=lambda outlook: abs(outlook["failing"] - failing))
    low, median, high = (row["trials"][key] for key in ("low", "median", "high"))
    disk = plan["result_bytes"] + trials * point["result_bytes_per_trial"]
    return [
        name, f"{100 * failing:.2f}", f"{100 * row['failing']:.2f}",
        f"{median:.0f} ({low:.0f} to {high:.0f})", str(trials),
        f"{median * point['seconds_per_trial']:.0f}", f"{seconds:.0f}",
        f"{said_peaks(plan)[0]:.0f}", f"{measured:.0f}",
        f"{disk / 1e3:.0f}", f"{result.stat().st_size / 1e3:.0f}",
    ]  # fmt: skip


def memory(o: argparse.Namespace) -> list[list[str]]:
    rows = [["network", "images", "ranks", "said (MiB)", "measured (MiB)", "said / measured"]]
    models, images, ranks = MEMORY
    for model in models:
        for count in images:
            for size in ranks:
                rows.append([model, str(count), str(size), *compared(o, model, count, size, ONE)])
    return rows


def held(o: argparse.Namespace) -> list[list[str]]:
    rows = [["faults", "said (MiB)", "measured (MiB)", "said / measured"]]
    return rows + [[name, *compared(o, "resnet20", 128, 1, how)] for name, how in HELD.items()]


def compared(o: argparse.Namespace, model: str, images: int, ranks: int, how: list) -> list[str]:
    """Peaks of all ranks: said, measured, and their ratio."""
    args = [*network(o, model, images), *how]
    first, other = said_peaks(planned(*args, ranks=ranks))
    measured = peaks(o, ranks, "inject", *args, "--fresh", "--output", o.work / "memory.h5")
    said = [first, *[other] * (ranks - 1)]
    return [
        ", ".join(f"{value:.0f}" for value in said),
        ", ".join(f"{value:.0f}" for value in measured),
        ", ".join(f"{s / m:.2f}" for s, m in zip(said, measured)),
    ]


def main() -> None:
    o = options()
    support.require(o.data, support.PROGRAM)
    o.work.mkdir(parents=True, exist_ok=True)
    o.work = o.work.resolve()
    if o.memory:
        support.table(memory(o))
        return support.table(held(o))
    head = ["case", "failing found (%)", "failing supposed (%)", "trials said", "taken"]
    head += ["time said (s)", "taken", "memory said (MiB)", "measured", "result said (kB)", "measured"]
    support.table([head, *(compare(o, name) for name in o.cases)])


if __name__ == "__main__":
    main()
