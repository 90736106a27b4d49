"""report.py and figures.py replace nothing but their own files, say when output was lost, and take
names as they are."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

ANALYSIS = Path(__file__).resolve().parents[2] / "analysis"
ODD = "a$x_{$\x1b[31m"


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = line.replace("report.py", f"{sys.executable} {ANALYSIS}/report.py")
    line = line.replace("figures.py", f"{sys.executable} {ANALYSIS}/figures.py")
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=folder, timeout=120
    )


@pytest.fixture
def folder(paired: Path) -> Path:
    shutil.copy(paired, paired.with_name("other.h5"))
    paired.with_name("mine.html").write_text("<!DOCTYPE html><p>mine")
    paired.with_name("mine.txt").write_text("mine")
    (paired.parent / "link.html").symlink_to("other.h5")
    os.mkfifo(paired.with_name("fifo.html"))
    return paired.parent


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "line",
    [
        *(f"report.py paired.h5 -o {name}" for name in ("paired.h5", "other.h5", "mine.html")),
        *(f"report.py paired.h5 -o {name}" for name in ("mine.txt", "link.html", "fifo.html")),
        "report.py paired.h5 -o /dev/full",
        "report.py paired.h5 -o .",
        "figures.py paired.h5 -o other.h5",
        "figures.py paired.h5 accuracy -o mine.pdf",
        "figures.py paired.h5 accuracy -o mine.png",
    ],
)
def test_files_of_others_are_kept(folder, line):
    for name in ("mine.pdf", "mine.png"):
        (folder / name).write_bytes(b"%PDF mine")
    before = contents(folder)
    done = shell(f"timeout 60 {line}", folder)
    assert done.returncode == 64 and len(done.stderr.splitlines()) == 1, done.stderr
    assert contents(folder) == before and (folder / "link.html").is_symlink()


def test_own_files_are_replaced(folder):
    (folder / "page.html").symlink_to("far.html")
    for line in ("report.py paired.h5 -o page.html", "figures.py paired.h5 timing outcomes "
                 "--format pdf png svg"):  # fmt: skip
        for _ in range(2):
            done = shell(line, folder)
            assert done.returncode == 0, done.stderr
    assert (folder / "page.html").is_symlink() and (folder / "far.html").stat().st_size > 1000
    assert not list(folder.rglob("*.tmp.*"))


def test_no_folder_is_made_on_the_way(folder):
    done = shell("report.py paired.h5 -o missing/page.html", folder)
    assert done.returncode == 71 and not (folder / "missing").exists(), done.stderr
    assert "report.py: cannot write missing/page.html: there is no folder" in done.stderr
    done = shell("report.py paired.h5 -o paired.h5/page.html", folder)
    assert done.returncode == 71 and "there is no folder" in done.stderr, done.stderr


def test_lost_output(folder):
    for where, reason in ((">/dev/full", "No space left"), (">&-", "Bad file descriptor")):
        for line in ("figures.py paired.h5 timing", "report.py --help"):
            done = shell(f"{line} {where}", folder)
            assert done.returncode == 71, (line, where, done.stderr)
            assert reason in done.stderr.splitlines()[-1]  # argparse falls back to stderr
    for where in ("2>/dev/full", "2>&-"):
        assert shell(f"figures.py paired.h5 timing {where}", folder).returncode == 0
        assert shell(f"report.py mine.txt {where}", folder).returncode == 65
        assert shell(f"report.py --banana {where}", folder).returncode == 64
    done = shell("report.py --help | (exec <&-; sleep 1); echo ${PIPESTATUS[0]}", folder)
    assert done.stdout.strip() == str(128 + signal.SIGPIPE) and done.stderr == ""


def test_odd_names(paired):
    """Two $ are no formula, and nothing in a name commands the terminal."""
    with h5py.File(paired, "r+") as file:
        for group in ("models", "golden"):
            file[group].move("hardened", ODD)
        points = file["points"][()]
        points["models"] = f"unprotected,{ODD}".encode()[: points["models"].itemsize]
        file["points"][...] = points
        tensors = file["models/unprotected/tensors"][()]
        tensors["name"] = [f"$l_{{${i}.weight".encode() for i in range(len(tensors))]
        for name in ("unprotected", ODD):
            file[f"models/{name}/tensors"][...] = tensors
        nodes = file["models/unprotected/nodes"][()]
        nodes["name"] = [b"input", *(f"$l_{{${i}".encode() for i in range(len(nodes) - 1))]
        for name in ("unprotected", ODD):
            file[f"models/{name}/nodes"][...] = nodes
        group = file["importance"].create_group("$m_{$")
        for index in range(2):
            layer = group.create_group(f"$l_{{${index}")
            layer.attrs["index"] = np.uint32(index)
            layer["scores"], layer["order"] = np.array([1.0, 2.0, 3.0]), np.array([2, 1, 0])
    for line in ("report.py paired.h5", "figures.py paired.h5 --format png svg"):
        done = shell(line, paired.parent)
        assert done.returncode == 0, done.stderr
    done = shell("report.py $'nix\\x1b[2J\\x9b.h5'", paired.parent)
    assert done.returncode == 65 and "\x1b" not in done.stderr and "\\u001b" in done.stderr


def test_names_that_are_no_utf8(paired):
    with h5py.File(paired, "r+") as file:
        text = h5py.string_dtype("utf-8")
        file["provenance"].attrs.create("checkpoint", b"net\xff.pth", dtype=text)
        file.attrs.create("command", b"net\xff.pth", dtype=text)
    done = shell("report.py paired.h5 -o page.html", paired.parent)
    assert done.returncode == 0, done.stderr
