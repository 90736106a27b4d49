"""Files that the analysis programs write: a file of another kind is never replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

# How a file begins that these programs wrote, and what is in it.
_SIGNS = {
    "csv": (b"# sentinelnn-faults", b"trial,tensor"),
    "html": (b"<!DOCTYPE html>", b"fault-injection campaign</title>"),
    "pdf": (b"%PDF", b"Matplotlib"),
    "png": (b"\x89PNG", b"Matplotlib"),
    "svg": (b"<?xml", b"Matplotlib"),
}


class OutputError(Exception):
    """An output that may not be written; one line that says which, and why."""


def check_output(path: Path, kind: str) -> None:
    """Before any work: whether `path` may be written as a file of this kind (a key of _SIGNS)."""
    if not path.resolve().parent.is_dir():
        folder = path.resolve().parent
        raise OSError(f"cannot write {path}: there is no folder {folder}; make it first")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OutputError(f"{path} is a folder, FIFO or device; give the name of a file to write")
    start, sign = _SIGNS[kind]
    content = path.read_bytes()
    if not content.startswith(start) or sign not in content:
        raise OutputError(
            f"{path} is there already and is no .{kind} file of these programs; "
            "give another --output, or remove the file"
        )


def check_folder(path: Path) -> None:
    """Whether `path` is a folder, or may become one."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; give a folder, or another --output")


def write_output(path: Path, kind: str, content: bytes) -> None:
    """Writes the whole file or nothing; of a symbolic link, what it leads to is replaced."""
    check_output(path, kind)
    target = path.resolve()
    temporary = target.with_name(f"{target.name}.tmp.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(target)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
