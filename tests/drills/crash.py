"""Incarnations of the tiny campaign that end at a chosen call, and what they leave."""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from drill import Launcher, Outcome, Reader, Result, Shim, stored_rows

RESULT = "result.h5"
KILLED, FULL, FAILING = ("before", "torn"), "full", "fail"  # ways to end, as the shim knows them


def two_at_a_time(work: Callable, items: Iterable) -> list:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, items))


def kinds(lines: Iterable[str]) -> set[str]:
    return {line.split()[0] for line in lines}


def check_gave_up(outcome: Outcome, path: Path) -> None:
    """Exit 71, and one sentence that names a file of the result."""
    assert outcome.code == 71, outcome.err
    (message,) = outcome.messages
    assert str(path) in message


class Crash:
    """All that happens to results in one folder."""

    def __init__(self, sentinelnn: Launcher, shim: Shim, tiny: Any, folder: Path) -> None:
        self.sentinelnn, self.shim, self.tiny, self.folder = sentinelnn, shim, tiny, folder
        self.numbers = itertools.count()

    def undisturbed(self, calls: str, ranks: int = 0) -> list[str]:
        """The matching calls of a run from start to end."""
        path = self.new_result("undisturbed")
        outcome, made = self.shim.run(self.tiny.args(path), calls, ranks=ranks)
        assert outcome.code == 0, outcome.err
        self.check_complete(path)
        return made

    def new_result(self, name: str, begun: Path | None = None) -> Path:
        """A result in a folder of its own, nothing or a copy of what is begun."""
        folder = self.folder / f"{next(self.numbers)}-{name}"
        if begun:
            shutil.copytree(begun.parent, folder)
        else:
            folder.mkdir()
        return folder / RESULT

    def check_complete(self, path: Path) -> None:
        Result.read(path).check_same(self.tiny.whole)
        assert [file.name for file in path.parent.iterdir()] == [RESULT]

    def end(self, path: Path, calls: str, at: int, how: str, ranks: int = 0) -> str | None:
        """The call at which an incarnation was ended; nothing where it made fewer calls and got to
        its end by itself."""
        before = stored_rows(path)
        outcome, made = self.shim.run(self.tiny.args(path), calls, at, how, ranks)
        if len(made) < at:
            assert outcome.code == 0, outcome.err
            return None
        if how in KILLED:
            assert outcome.code == (137 if ranks else -signal.SIGKILL), outcome.err
        else:
            check_gave_up(outcome, path)
        self.check_begun(path)
        assert stored_rows(path) >= before, "stored rows have disappeared"
        return made[at - 1]

    def check_begun(self, path: Path) -> None:
        """What is published is whole, whatever has happened."""
        if path.exists():
            published = Result.read(path)
            published.check_whole()
            published.check_part_of(self.tiny.whole)

    def resume(self, path: Path, ranks: int = 0) -> None:
        stored = stored_rows(path)
        outcome = self.sentinelnn.run(self.tiny.args(path), ranks)
        assert outcome.code == 0, outcome.err
        assert outcome.stored_already == stored
        self.check_complete(path)

    def each(
        self, calls: str, places: Iterable[int], hows: Iterable[str], ranks: int = 0, begun=None
    ) -> set[str]:
        """Ended at each of these calls, every time on a new result, and resumed. Returns the kinds
        of calls it was ended at."""

        def one(place: tuple[int, str]) -> str | None:
            at, how = place
            path = self.new_result(f"{how}{at}", begun)
            with Reader(path, self.tiny.whole) as reader:
                ended_at = self.end(path, calls, at, how, ranks)
                self.resume(path, ranks)
            reader.check()
            return ended_at

        ended_at = two_at_a_time(one, [(at, how) for at in places for how in hows])
        return kinds(call for call in ended_at if call)

    def chain(self, path: Path, calls: str, how: str, step: int = 1) -> set[str]:
        """Incarnations on one result are ended at their 1st, (1 + step)-th, ... call, until one gets
        to its end by itself. Returns the kinds of calls."""
        ended_at: list[str] = []
        with Reader(path, self.tiny.whole) as reader:
            while call := self.end(path, calls, 1 + step * len(ended_at), how):
                ended_at.append(call)
        reader.check()
        self.check_complete(path)
        return kinds(ended_at)

    def chains(
        self, calls: str, hows: Iterable[str], begun: Path | None = None, step: int = 1
    ) -> set[str]:
        """Such a chain for each way to end."""

        def one(how: str) -> set[str]:
            return self.chain(self.new_result(how, begun), calls, how, step)

        return set().union(*two_at_a_time(one, hows))
