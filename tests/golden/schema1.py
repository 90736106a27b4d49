"""Unpacks schema1.tar.xz (see schema1.md)."""

from __future__ import annotations

import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).resolve().parent / "schema1.tar.xz"


def unpack(folder: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None, member.name
            (folder / member.name).write_bytes(content.read())
    return folder
