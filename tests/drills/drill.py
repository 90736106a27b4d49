"""What the drills share: starting the program, reading a result, finding a job's processes."""

from __future__ import annotations

import copy
import itertools
import os
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("SENTINELNN", ROOT / "build/release/sentinelnn")).resolve()
SHIM = Path(
    os.environ.get("SENTINELNN_SHIM", ROOT / "build/release/tests/libkill_at_write.so")
).resolve()
LOG_LINE = re.compile(r"\[\d\d:\d\d:\d\d\] ")
# Columns of /trials that tell when and where a trial ran, not what came of it.
PLACE_AND_TIME = ("wall_us", "rank", "session")
# How far numbers may be apart that the program and Python compute.
ROUNDING = 1e-12  # some thousand doubles of size 1, added in another order
ITERATED = 1e-9  # ends of intervals, to which each iterates its own way

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def network(path: Path) -> list[str | Path]:
    """Options for a file that does not say what it holds."""
    return ["--model", "resnet20", "--checkpoint", path, "--dataset", "synthetic"]


def text(attribute: str | bytes) -> str:
    """An attribute of a file, whatever version of h5py reads it."""
    return attribute.decode() if isinstance(attribute, bytes) else attribute


def sanitized() -> bool:
    """Whether the program is built with AddressSanitizer, which brings its own allocator."""
    libraries = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=True)
    return "libasan" in libraries.stdout


def files_of_mpi_in(folder: Path) -> dict[str, str]:
    """Variables for Open MPI; what a killed mpirun leaves behind stays in `folder`, made here."""
    folder.mkdir(parents=True)
    names = ("orte_tmpdir_base", "btl_vader_backing_directory")
    return {f"OMPI_MCA_{name}": str(folder) for name in names}


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("sentinelnn: ")]

    @property
    def unlogged(self) -> list[str]:
        """Lines on stderr that are no log lines."""
        return [line for line in self.err.splitlines() if not LOG_LINE.match(line)]

    def logged(self, word: str) -> list[str]:
        return [line for line in self.err.splitlines() if word in line]

    @property
    def stored_already(self) -> int:
        """Trials an incarnation found when it started, as it logs them."""
        found = re.search(r"(\d+) of \d+ trials are stored already", self.err)
        return int(found.group(1)) if found else 0


class Launcher:
    """Starts the program alone (ranks 0) or under mpirun."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.numbers = scratch, itertools.count()
        self.environment = os.environ | ENVIRONMENT
        self.prefix: list[str] = []

    def within(self, *prefix: str, **variables: str) -> Launcher:
        """One that starts the program by another command, with other variables."""
        other = copy.copy(self)
        other.prefix = [*prefix, *self.prefix]
        other.environment = self.environment | variables
        return other

    def start(
        self, args: Sequence[str | Path], ranks: int = 0, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        mpirun = ["mpirun", "--oversubscribe", "-n", str(ranks)] if ranks else []
        # Of two that share a folder one may remove it when it ends, just as the other looks for it.
        own = files_of_mpi_in(self.scratch / str(next(self.numbers))) if ranks else {}
        return subprocess.Popen(
            [*self.prefix, *mpirun, str(PROGRAM), *map(str, args)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment | own,
            cwd=cwd,
        )

    def run(
        self,
        args: Sequence[str | Path],
        ranks: int = 0,
        timeout: float = 180,
        cwd: Path | None = None,
    ) -> Outcome:
        return ended(self.start(args, ranks, cwd), timeout)


def ended(process: subprocess.Popen[str], timeout: float = 180) -> Outcome:
    """Waits; a job that hangs is killed whole, and the drill fails."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_job(process)
        raise
    return Outcome(process.returncode, out, err)


def children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def rank_processes(pid: int) -> dict[int, int]:
    """Rank -> process id of the ranks that the mpirun `pid` started."""
    ranks = {}
    for child in children(pid):
        try:
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for variable in variables:
            if variable.startswith(b"OMPI_COMM_WORLD_RANK="):
                ranks[int(variable.split(b"=")[1])] = child
    return ranks


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def kill_job(process: subprocess.Popen[str]) -> None:
    """SIGKILL for mpirun and every process it started."""
    started = children(process.pid)
    if process.poll() is None:
        process.kill()
    for pid in started:
        kill(pid)


def wait_until(condition: Callable[[], bool], timeout: float = 60) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.002)
    return False


@dataclass
class Ranking:
    """A ranking file: datasets by layer."""

    layers: dict[str, dict[str, list[float]]]

    @classmethod
    def read(cls, path: Path) -> Ranking:
        with h5py.File(path, "r") as file:
            (method,) = file["importance"].values()
            order = sorted(method, key=lambda layer: method[layer].attrs["index"])
            return cls(
                {layer: {k: v[()].tolist() for k, v in method[layer].items()} for layer in order}
            )


@dataclass
class Result:
    """Everything of a result file that must not depend on how it came about."""

    trials: np.ndarray
    offsets: np.ndarray
    sites: np.ndarray
    estimates: np.ndarray
    audit: np.ndarray
    sessions: np.ndarray
    fixed: dict[str, np.ndarray]  # known before the first trial: golden run, points, importance
    models: int
    complete: bool

    @classmethod
    def read(cls, path: Path) -> Result:
        with h5py.File(path, "r") as file:
            assert file.attrs["schema"] in ("sentinelnn-result", b"sentinelnn-result")
            fixed: dict[str, np.ndarray] = {}
            for group in ("golden", "importance", "models"):
                file[group].visititems(
                    lambda name, item, group=group: (
                        fixed.update({f"{group}/{name}": item[()]})
                        if isinstance(item, h5py.Dataset)
                        else None
                    )
                )
            return cls(
                file["trials"][()],
                file["faults/offsets"][()],
                file["faults/sites"][()],
                file["estimates"][()],
                file["audit"][()],
                file["provenance/sessions"][()],
                fixed,
                len(file["models"]),
                bool(file.attrs["complete"]),
            )

    def keys(self) -> list[tuple[int, int, int]]:
        return [(int(r["point"]), int(r["id"]), int(r["model"])) for r in self.trials]

    def audits(self) -> dict[tuple[int, int, int], tuple]:
        return {(int(r["point"]), int(r["id"]), int(r["model"])): r.tolist() for r in self.audit}

    def faults(self, row: int) -> np.ndarray:
        return self.sites[int(self.offsets[row]) : int(self.offsets[row + 1])]

    def outcomes(self) -> list[str]:
        return [name for name in self.trials.dtype.names if name not in PLACE_AND_TIME]

    def check_whole(self) -> None:
        """Whatever the moment of publication: a file without holes."""
        keys = self.keys()
        assert keys == sorted(set(keys))
        trials = {key[:2] for key in keys}
        assert len(keys) == len(trials) * self.models, "a trial lacks the row of a model"
        assert len(self.offsets) == len(keys) + 1
        assert self.offsets[0] == 0 and self.offsets[-1] == len(self.sites)
        stored = self.trials["n_faults"] * self.trials["faults_stored"]
        assert np.array_equal(np.diff(self.offsets.astype("i8")), stored)
        kinds = sum(
            self.trials[kind].astype("i8")
            for kind in ("masked", "sdc_noncritical", "sdc_critical", "due")
        )
        assert np.array_equal(kinds, self.trials["images"])
        assert set(self.trials["session"]) <= set(self.sessions["number"])
        audited = [key for key, yes in zip(keys, self.trials["audited"]) if yes]
        assert list(self.audits()) == audited and len(self.audit) == len(audited)

    def check_part_of(self, whole: Result) -> None:
        """Every row, with its faults, is the row of `whole`."""
        place = {key: row for row, key in enumerate(whole.keys())}
        rows = [place[key] for key in self.keys()]
        for name in self.outcomes():
            assert np.array_equal(self.trials[name], whole.trials[name][rows]), name
        for row, other in enumerate(rows):
            assert np.array_equal(self.faults(row), whole.faults(other))
        assert self.audits().items() <= whole.audits().items()

    def check_same(self, other: Result) -> None:
        """Identical rows, faults, estimates and everything known before the first trial."""
        assert self.complete and other.complete
        self.check_whole()
        assert self.keys() == other.keys()
        self.check_part_of(other)
        assert self.estimates.tolist() == other.estimates.tolist()
        assert self.fixed.keys() == other.fixed.keys()
        for name, values in self.fixed.items():
            assert values.tobytes() == other.fixed[name].tobytes(), name


class Reader:
    """Opens the result again and again, as a plain h5py user would, while the campaign runs."""

    def __init__(self, path: Path, whole: Result) -> None:
        self.path, self.whole = path, whole
        self.opened, self.rows, self.error = 0, 0, None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.loop)

    def loop(self) -> None:
        there = False
        while not self.ended.wait(0.03):
            there = there or self.path.exists()
            if not there:
                continue
            try:
                result = Result.read(self.path)
                result.check_whole()
                result.check_part_of(self.whole)
                assert len(result.trials) >= self.rows, "published rows have disappeared"
            except Exception as error:  # noqa: BLE001 - anything at all is a failure of the drill
                self.error = error
                return
            self.rows = len(result.trials)
            self.opened += 1

    def __enter__(self) -> Reader:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def check(self) -> None:
        if self.error:
            raise self.error


def journals(result: Path) -> list[Path]:
    return sorted(result.parent.glob(result.name + ".journal.*"))


def journalled(path: Path) -> int:
    """Rows in the complete frames of a journal (the layout is in src/store/journal.hpp)."""
    data = path.read_bytes()
    if len(data) < 24:
        return 0
    offset = 24 + struct.unpack_from("<I", data, 12)[0]
    rows = 0
    while offset + 12 <= len(data):
        length = struct.unpack_from("<I", data, offset)[0]
        if offset + 12 + length > len(data):
            break
        kind, _, count = struct.unpack_from("<IdI", data, offset + 12)
        rows += count if kind == 1 else 0
        offset += 12 + length
    return rows


def acknowledged(result: Path) -> int:
    return sum(journalled(path) for path in journals(result))


def stored_rows(result: Path) -> int:
    """Rows in the journals or, once these are being removed, in the result."""
    published = len(Result.read(result).trials) if result.exists() else 0
    return max(published, acknowledged(result))


class Shim:
    """Starts the program with kill_at_write.c, which counts calls that change files."""

    def __init__(self, sentinelnn: Launcher, scratch: Path) -> None:
        assert SHIM.exists(), f"{SHIM} is missing; build the target kill_at_write"
        self.sentinelnn, self.scratch = sentinelnn, scratch
        self.numbers = itertools.count()

    def run(
        self,
        args: Sequence[str | Path],
        calls: str,
        at: int = 0,
        how: str = "before",
        ranks: int = 0,
    ) -> tuple[Outcome, list[str]]:
        """The outcome, and the calls that match, each as `<call> <path>`."""
        log = self.scratch / f"calls.{next(self.numbers)}"
        shimmed = self.sentinelnn.within(
            LD_PRELOAD=str(SHIM),
            # AddressSanitizer wants to be first; it also works as the second.
            ASAN_OPTIONS="verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", ""),
            SENTINELNN_SHIM_CALLS=calls,
            SENTINELNN_SHIM_AT=str(at),
            SENTINELNN_SHIM_HOW=how,
            SENTINELNN_SHIM_LOG=str(log),
        )
        outcome = shimmed.run(args, ranks)
        lines = log.read_text().splitlines() if log.exists() else []
        return outcome, lines


# Calls, as patterns of the shim.
JOURNAL = r"\.journal\.[0-9]+$"
REMOVAL = r"^remove .*\.journal\.[0-9]+$"
TEMPORARY = r".*\.tmp\.[0-9]+$"
PUBLICATION_WRITES = f"^pwrite {TEMPORARY}"
PUBLICATION_ENDS = f"^(fsync|rename) {TEMPORARY}"
PUBLICATION = f"{PUBLICATION_WRITES}|{PUBLICATION_ENDS}"
LOCK = r"\.lock$"
