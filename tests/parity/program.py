"""Head of the tests in this folder: packages, data and the program.

The real weights and images lie in ../shared/data (SENTINELNN_TEST_DATA).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

try:
    import h5py
    import torch
except ImportError:
    h5py = torch = None

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("SENTINELNN", str(ROOT / "build/release/sentinelnn"))
DATA = Path(os.environ.get("SENTINELNN_TEST_DATA", ROOT / "../shared/data")).resolve()

needs_packages = pytest.mark.skipif(torch is None, reason="needs PyTorch and h5py")


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.exists(), reason=f"{path} is missing")


def run(*words: str | int | float | Path) -> None:
    done = subprocess.run(
        [PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


def tensor_names(file: h5py.File) -> list[str]:
    """The tensors of the first network of a result."""
    return [row["name"].decode() for row in next(iter(file["models"].values()))["tensors"][:]]
