"""No space left, at any moment: exit 71 with a message that names the file, everything acknowledged
stays readable, and the same command goes on once there is space."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash import FAILING, FULL, RESULT, check_gave_up, two_at_a_time
from drill import (
    JOURNAL,
    PUBLICATION,
    PUBLICATION_ENDS,
    PUBLICATION_WRITES,
    Result,
    acknowledged,
    stored_rows,
)

PAGE = 4096  # [bytes] what a tmpfs hands out at once
ADVICE = "free space and run the same command again"


class SmallDisk:
    """A tmpfs in a mount namespace of its own, gone with the process that holds it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        mount = f'mount -t tmpfs -o size={PAGE} tmpfs "$0" && echo mounted && exec sleep infinity'
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", mount, folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = self.holder.stdout.readline()
        if said != "mounted\n":
            self.close()
            pytest.skip(f"cannot mount a tmpfs (it takes root): {said.strip()}")
        self.enter = ["nsenter", "--target", str(self.holder.pid), "--mount"]
        self.seen = Path(f"/proc/{self.holder.pid}/root{folder}")  # from out here
        (self.seen / "filler").write_bytes(bytes(PAGE))

    def leave(self, pages: int) -> None:
        size = f"remount,size={(1 + pages) * PAGE}"
        subprocess.run([*self.enter, "mount", "-o", size, self.folder], check=True)

    def close(self) -> None:
        self.holder.kill()
        self.holder.communicate()


@pytest.fixture
def disks(tmp_path) -> Iterator[list[SmallDisk]]:
    disks: list[SmallDisk] = []
    try:
        for number in range(2):
            disks.append(SmallDisk(tmp_path / f"disk{number}"))
        yield disks
    finally:
        for disk in disks:
            disk.close()


def full_at(disk: SmallDisk, crash, pages: int) -> str | None:
    """Runs with so much space, then with enough. Returns the kind of the file that had none, with a
    plus where rows were acknowledged before; nothing where the space was enough."""
    disk.leave(pages)
    tiny, inside = crash.tiny, crash.sentinelnn.within(*disk.enter)
    path, seen = disk.folder / RESULT, disk.seen / RESULT
    outcome = inside.run(tiny.args(path))
    full = None
    if outcome.code != 0:
        check_gave_up(outcome, path)
        assert ADVICE in outcome.messages[0]
        crash.check_begun(seen)
        file = re.search(rf"{re.escape(str(path))}(\.[a-z]+)", outcome.messages[0])
        full = file.group(1) + ("+" if acknowledged(seen) else "")
    stored = stored_rows(seen)
    disk.leave(1000)
    resumed = inside.run(tiny.args(path))
    assert resumed.code == 0, resumed.err
    assert resumed.stored_already == stored
    Result.read(seen).check_same(tiny.whole)
    assert sorted(file.name for file in disk.seen.iterdir()) == ["filler", RESULT]
    seen.unlink()
    return full


def test_a_disk_of_any_size(disks, crash):
    """From no space at all to enough."""

    def sizes(number: int) -> set[str]:
        # The lock and the journal's header take a page each, all else several.
        pages = itertools.chain([number], itertools.count(2 + 2 * number, 2 * len(disks)))
        full = (full_at(disks[number], crash, size) for size in pages)
        return set(itertools.takewhile(bool, full))

    seen = set().union(*two_at_a_time(sizes, range(len(disks))))
    # The lock, the header of the journal, the first publication, a frame, the last publication.
    assert seen == {".lock", ".journal", ".tmp", ".journal+", ".tmp+"}


def test_no_space_at_every_call_on_the_journal(crash):
    calls = crash.undisturbed(JOURNAL)
    ended_at = crash.each(JOURNAL, range(1, len(calls)), [FULL])  # the last removes it
    assert ended_at == {"write", "fdatasync"}


def test_every_call_on_the_journal_fails(crash):
    """As on a broken device: not even a torn frame can be cut off."""
    assert crash.chains(JOURNAL, [FAILING]) == {"write", "fdatasync", "remove"}


def test_no_space_in_a_publication(crash, stored):
    """HDF5 must survive it wherever it happens."""
    assert crash.chains(PUBLICATION, [FULL], step=5) >= {"pwrite"}
    assert crash.chains(PUBLICATION, [FULL], stored) == {"pwrite", "fsync", "rename"}


def test_a_publication_fails(crash, stored):
    assert crash.chains(PUBLICATION_WRITES, [FAILING], stored, step=3) == {"pwrite"}
    assert crash.chains(PUBLICATION_ENDS, [FAILING], stored) == {"fsync", "rename"}
