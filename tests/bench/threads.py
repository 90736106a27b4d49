#!/usr/bin/python3
"""Default threads against one thread, quiet and beside busy processes, as Markdown and JSON.

  threads.py --work W [--programs before=FILE now=FILE] [--when quiet busy] [--rounds 5] [--load 4]
             [--commands evaluate harden prune vul-gain]

Each command runs in turns with default threads and with --threads 1: medians of the rounds. Beside
a load of four processes that the script starts (each counts for ever) and ends. Only the programs'
own choice of how threads wait is measured: variables that choose it are taken out.
"quiet" is as quiet as the machine is; the load average beside it says how quiet that was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import support

CHOICES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
COMMANDS = {
    "evaluate": ["evaluate"],
    "harden": ["harden", "--hardening-ratio", 0.1, "--calibration-images", 512],
    "prune": ["prune", "--pruning-ratio", 0.1, "--finetune-epochs", 0],
    "vul-gain": ["rank", "--importance", "vul-gain", "--ranking-images", 32],
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=support.DATA, help="has cifar10/ and models/")
    programs = [f"now={support.PROGRAM}"]
    parser.add_argument("--programs", nargs="+", default=programs, metavar="NAME=FILE")
    parser.add_argument("--when", nargs="+", choices=["quiet", "busy"], default=["quiet", "busy"])
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load", type=int, default=4, help="busy processes")
    return parser.parse_args()


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that never wait, while the block runs."""
    line = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(line) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def seconds(program: Path, words: list[object], threads: int | None, log: Path) -> float:
    """Wall time of one run."""
    line = support.command(program, 1, *words)
    line += [] if threads is None else ["--threads", str(threads)]
    environment = {name: v for name, v in os.environ.items() if name not in CHOICES}
    with log.open("a") as out:
        print("$", *line, file=out, flush=True)
        begin = time.monotonic()
        done = subprocess.run(line, env=environment, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        support.fail(f"exit code {done.returncode} of: {' '.join(line)}; see {log}")
    return time.monotonic() - begin


def measure(o: argparse.Namespace, name: str, when: str) -> list[dict[str, object]]:
    """Times of one command by all programs, in turns."""
    programs = dict(program.split("=", 1) for program in o.programs)
    network = ["--model", "resnet20", "--checkpoint", support.trained("resnet20", o.data)]
    network += ["--dataset", "cifar10", "--data", o.data / "cifar10"]
    words = [*COMMANDS[name], *network]
    words += [] if name == "evaluate" else ["--output", o.work / f"{name}.out.h5"]
    turns = [(program, threads) for program in programs for threads in (None, 1)]
    times: dict[tuple[str, int | None], list[float]] = {turn: [] for turn in turns}
    load = []
    with busy(o.load if when == "busy" else 0):
        for _ in range(o.rounds):
            load.append(os.getloadavg()[0])
            for turn in turns:
                run = seconds(Path(programs[turn[0]]), words, turn[1], o.work / "log.txt")
                times[turn].append(run)
    return [
        {"command": name, "when": when, "program": program, "load average": max(load)}
        | {"default": times[program, None], "one": times[program, 1]}
        for program in programs
    ]


def row(measured: dict[str, object]) -> list[str]:
    default, one = (statistics.median(measured[key]) for key in ("default", "one"))
    return [
        *(str(measured[key]) for key in ("command", "when", "program")),
        f"{default:.2f}",
        f"{one:.2f}",
        f"{default / one:.2f}",
        f"{measured['load average']:.1f}",
    ]


def main() -> None:
    o = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the load too
    support.require(o.data, support.PROGRAM)
    o.work.mkdir(parents=True, exist_ok=True)
    runs = []
    for when in o.when:
        for name in o.commands:
            runs += measure(o, name, when)
            (o.work / "threads.json").write_text(json.dumps(runs, indent=1))
    head = ["command", "machine", "program", "default (s)", "1 thread (s)", "default / 1"]
    print(f"medians of {o.rounds} rounds in turns; busy: beside {o.load} processes\n")
    support.table([[*head, "load average"], *map(row, runs)])


if __name__ == "__main__":
    main()
