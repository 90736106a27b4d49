#!/usr/bin/python3
"""Images per second and core of the image pipeline, against Pillow with torchvision's transforms.

  images.py [--program build/release/tests/bench_images] [--images 100] [--rounds 7]

Both read the same JPEG files (500 x 375, quality 75 and 95) on one thread, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import torch
from PIL import Image
from torchvision import transforms

import support

VIEW = transforms.Compose(
    [transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()]
)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    program = support.ROOT / "build/release/tests/bench_images"
    parser.add_argument("--program", type=Path, default=program)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def make(folder: Path, count: int, quality: int) -> list[Path]:
    """Photographs, roughly: waves of every length under some noise."""
    y, x = numpy.mgrid[0:375, 0:500]
    paths = [folder / f"{quality}_{number}.JPEG" for number in range(count)]
    for number, path in enumerate(paths):
        draw = numpy.random.default_rng(number)
        planes = numpy.full((375, 500, 3), 120.0) + draw.normal(0, 4, (375, 500, 3))
        for length in (7, 20, 60, 200, 500):
            angle, phase = draw.uniform(0, 6.3, 2)
            wave = numpy.sin(
                6.3 / length * (x * numpy.cos(angle) + y * numpy.sin(angle)) + phase
            )
            planes += wave[..., None] * draw.normal(0, 4 * length**0.4, 3)
        Image.fromarray(planes.clip(0, 255).astype(numpy.uint8)).save(path, quality=quality)
    return paths


def ours(program: Path, paths: list[Path]) -> float:
    return float(subprocess.run([program, *paths], check=True, capture_output=True).stdout)


def theirs(paths: list[Path]) -> float:
    start = time.perf_counter()
    for path in paths:
        VIEW(Image.open(path).convert("RGB"))
    return len(paths) / (time.perf_counter() - start)


def main() -> None:
    o = options()
    if not o.program.exists():
        support.fail(f"{o.program} is missing; build the target bench_images")
    torch.set_num_threads(1)
    rows = [["quality", "KiB per file", "ours, images/s", "Pillow, images/s", "ratio"]]
    with tempfile.TemporaryDirectory() as folder:
        for quality in (75, 95):
            paths = make(Path(folder), o.images, quality)
            size = sum(path.stat().st_size for path in paths) / len(paths) / 1024
            pairs = [(ours(o.program, paths), theirs(paths)) for _ in range(o.rounds)]
            mine, peer = (statistics.median(rates) for rates in zip(*pairs))
            ratio = statistics.median(a / b for a, b in pairs)
            rows.append([str(quality), f"{size:.0f}", f"{mine:.0f}", f"{peer:.0f}", f"{ratio:.2f}"])
    support.table(rows)


if __name__ == "__main__":
    main()
