"""What these scripts share: starting the program, a network of each family."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("SENTINELNN", ROOT / "build/release/sentinelnn"))
DATA = ROOT.parent / "shared/data"
FAMILIES = [f"resnet{depth}" for depth in (20, 32, 44, 56)]
FAMILIES += [f"vgg{depth}_bn" for depth in (11, 13, 16, 19)]
MADE_IMAGES = 64  # of each training file: few, as weights of any kind will do
RECORD_BYTES = 3073  # a label and an image of CIFAR-10
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def fail(message: str, code: int = 71) -> None:
    """Ends the script with one of the program's exit codes (docs/exit_codes.md)."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    raise SystemExit(code)


def require(data: Path, program: Path) -> None:
    if not os.access(program, os.X_OK):
        fail(f"{program} is no program; build it, or say where it is by SENTINELNN=FILE")
    if not (data / "cifar10/test_batch.bin").exists():
        fail(f"{data}/cifar10/test_batch.bin is missing; --data wants a folder with cifar10/", 65)


def command(program: Path, ranks: int, *args: object) -> list[str]:
    """The command line of `ranks` processes; of one without mpirun."""
    mpirun = ["mpirun", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
    return [*mpirun, str(program), *map(str, args)]


def run(
    log: Path, program: Path, ranks: int, *args: object, codes: tuple[int, ...] = (0,)
) -> int:
    """Runs the program, its output appended to `log`; ends the script on any other exit code."""
    line = command(program, ranks, *args)
    with log.open("a") as out:
        print("$", *line, file=out, flush=True)
        environment = {**os.environ, **ENVIRONMENT}
        done = subprocess.run(line, env=environment, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode not in codes:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-6:])
        fail(f"exit code {done.returncode} of: {' '.join(line)}\n{end}", done.returncode % 256)
    return done.returncode


def few_images(data: Path, work: Path) -> Path:
    """A data set of the first images of each file of CIFAR-10."""
    few = work / "few"
    few.mkdir(parents=True, exist_ok=True)
    for source in (data / "cifar10").glob("*.bin"):
        with source.open("rb") as file:
            (few / source.name).write_bytes(file.read(MADE_IMAGES * RECORD_BYTES))
    return few


def trained(model: str, data: Path) -> Path:
    """Where trained weights would be."""
    return data / f"models/cifar10_{model}.pth"


def checkpoint(model: str, data: Path, work: Path, program: Path) -> Path:
    """Trained weights where `data` has them, else weights after some twenty steps of training."""
    if trained(model, data).exists():
        return trained(model, data)
    made = work / f"{model}.pth"
    if not made.exists():
        selection = ["--model", model, "--dataset", "cifar10", "--data", few_images(data, work)]
        how = ["--epochs", 1, "--batch-size", 16, "--lr", 0.02, "--seed", 1, "--threads", 1]
        run(work / "log.txt", program, 1, "train", *selection, *how, "--output", made)
    return made


def table(rows: list[list[str]]) -> None:
    """Prints Markdown; the first row is the head."""
    for place, row in enumerate(rows):
        print("| " + " | ".join(row) + " |")
        if place == 0:
            print("|" + "---|" * len(row))


def cell(row: dict) -> str:
    """An estimate of the program in percent, with the half-width of its interval. One that begins
    at 0 is told by its end."""
    estimate, lower, upper = (100 * row[name] for name in ("estimate", "lower", "upper"))
    if lower == 0:
        return f"{estimate:.1f} (below {upper:.1f})"
    return f"{estimate:.1f} ± {(upper - lower) / 2:.1f}"
