#!/usr/bin/python3
"""Time of `vulnerability` against the Python program of DeepVigor+'s authors, in turns on this machine.

Their program is not part of this repository: --authors names a folder with its main.py, whose CNNs.py must know the
network by --authors-model. Without --authors the bench is skipped, and says so. Both sample channels and limit shifts
to 1024 as the authors do; ours searches by bisection, as theirs, and exhaustively.

usage: deepvigor_peer.py --data DIR [--authors DIR] [--authors-model resnet20] [--factors weights|operands]
                         [--sample 0.1] [--images 32] [--rounds 3]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from support import ENVIRONMENT, PROGRAM, command, fail, require, table


def cpu_seconds(line: list[str], folder: Path, log: Path) -> float:
    """Of one process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("a") as out:
        done = subprocess.run(
            line, cwd=folder, env={**os.environ, **ENVIRONMENT}, stdout=out, stderr=subprocess.STDOUT
        )
    if done.returncode != 0:
        fail(f"exit code {done.returncode} of: {' '.join(line)}\n{log.read_text(errors='replace')[-600:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(args: argparse.Namespace, search: str, output: Path) -> list[str]:
    units = "channel" if args.factors == "weights" else "neuron"
    network = ["--model", "resnet20", "--checkpoint", args.data / "models/cifar10_resnet20.pth"]
    images = ["--dataset", "cifar10", "--data", args.data / "cifar10", "--images", args.images]
    what = ["--factors", args.factors, "--units", units, "--sample", args.sample, "--threads", 1]
    how = ["--deepvigor-limit", 1024, "--deepvigor-pool", "images", "--deepvigor-search", search]
    return command(PROGRAM, 1, "vulnerability", *network, *images, *what, *how, "--output", output)


def theirs(args: argparse.Namespace) -> list[str]:
    mode = "sampling-analysis-" + ("weight" if args.factors == "weights" else "act")
    what = [f"--model={args.authors_model}", f"--run-mode={mode}", "--dataset=cifar10"]
    return [sys.executable, "main.py", *what, f"--batch-size={args.images}", f"--channel-sampling={args.sample}"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=lambda word: Path(word).resolve(), required=True)
    parser.add_argument("--authors", type=lambda word: Path(word).resolve())
    parser.add_argument("--authors-model", default="resnet20")
    parser.add_argument("--factors", choices=["weights", "operands"], default="weights")
    parser.add_argument("--sample", type=float, default=0.1)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if not args.authors:
        print("skipped: the authors' program is not here; --authors DIR names a folder with its main.py")
        return
    if not (args.authors / "main.py").exists():
        fail(f"{args.authors}/main.py is missing; --authors wants the folder of the authors' program", 65)
    require(args.data, PROGRAM)
    seconds: dict[str, list[float]] = {"authors": [], "bisect": [], "proportional": [], "exhaustive": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for _ in range(args.rounds):
            seconds["authors"].append(cpu_seconds(theirs(args), args.authors, work / "authors.log"))
            for search in ("bisect", "proportional", "exhaustive"):
                line = ours(args, search, work / "factors.h5")
                seconds[search].append(cpu_seconds(line, work, work / "ours.log"))
    base = statistics.median(seconds["authors"])
    rows = [["", "CPU seconds, median", "authors / this"]]
    rows += [[who, f"{statistics.median(own):.1f}", f"{base / statistics.median(own):.1f}"] for who, own in seconds.items()]
    table(rows)


if __name__ == "__main__":
    main()
