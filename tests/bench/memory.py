#!/usr/bin/python3
"""Peak memory of one rank by --cache-budget, as a Markdown table; rough trials/s beside it.

  memory.py --work W [--models resnet20 vgg16_bn] [--budgets 0.05 0.5 4] [--images 1000]
            [--single 20] [--dense 3]

Each line is one `sentinelnn inject` of its own, without mpirun. The peak is ru_maxrss of that
process: program, LibTorch, network, images, cached activations, and the scratch of its trials.
trials/s count from the session's start to the last stored row; they are rough, as trials are few.
Networks without trained weights in DATA/models get some by twenty steps of training.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import h5py
import support

GIB = 2.0**30


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=support.DATA, help="has cifar10/ and models/")
    models = ["resnet20", "vgg16_bn"]
    parser.add_argument("--models", nargs="+", choices=support.FAMILIES, default=models)
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.05, 0.5, 4], help="GiB")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--single", type=int, default=20, help="trials with one flip")
    parser.add_argument("--dense", type=int, default=3, help="trials at BER 1e-6")
    return parser.parse_args()


def peak(line: list[str], log: Path) -> float:
    """Runs a command; its largest resident set [GiB]."""
    with log.open("a") as out:
        print("$", *line, file=out, flush=True)
        environment = {**os.environ, **support.ENVIRONMENT}
        process = subprocess.Popen(line, env=environment, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-6:])
        support.fail(f"exit code {process.returncode} of: {' '.join(line)}\n{end}")
    return usage.ru_maxrss * 1024 / GIB


def rate(result: Path) -> float:
    """trials/s of the first session."""
    with h5py.File(result) as file:
        session = file["provenance/sessions"][0]
        return len(file["trials"]) / (session["ended"] - session["started"])


def main() -> None:
    o = options()
    support.require(o.data, support.PROGRAM)
    o.work.mkdir(parents=True, exist_ok=True)
    faults = {
        "single flips": (["--single-bit"], o.single),
        "BER 1e-6": (["--ber", "1e-6"], o.dense),
    }
    rows = [["network", "budget (GiB)", "work", "peak (GiB)", "peak - budget", "trials/s"]]
    result = o.work / "memory.h5"
    for model in o.models:
        network = ["--checkpoint", support.checkpoint(model, o.data, o.work, support.PROGRAM)]
        network += ["--model", model, "--dataset", "cifar10", "--data", o.data / "cifar10"]
        for budget in o.budgets:
            for name, (how, trials) in faults.items():
                job = ["inject", *network, "--images", o.images, "--repeat", trials, "--audit", 0]
                job += [*how, "--cache-budget", budget, "--fresh", "--output", result]
                used = peak(support.command(support.PROGRAM, 1, *job), o.work / "log.txt")
                rows.append([model, f"{budget:g}", name, f"{used:.2f}", f"{used - budget:+.2f}"])
                rows[-1].append(f"{rate(result):.2f}")
    print(f"{o.images} images, one rank, one thread\n")
    support.table(rows)


if __name__ == "__main__":
    main()
