"""Output gets out, or the exit code says that it did not; a log that is lost harms nothing."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import (
    ENVIRONMENT,
    PROGRAM,
    Launcher,
    Outcome,
    Result,
    ended,
    rank_processes,
    wait_until,
)


def shell(line: str, folder: Path, **variables: str) -> Outcome:
    """A line of bash, where $S is the program."""
    environment = os.environ | ENVIRONMENT | {"S": str(PROGRAM)} | variables
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, errors="replace", cwd=folder,
        env=environment, timeout=180, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def result(sentinelnn, tiny, scratch) -> Path:
    path = scratch / "printed.h5"
    assert sentinelnn.run(tiny.args(path)).code == 0
    return path


PRINTING = ["--help", "--version", "inject --help", "summarize printed.h5",
            "summarize printed.h5 --json", "inspect net.pth", "inspect printed.h5",
            "replay printed.h5 --trials 0"]  # fmt: skip


@pytest.mark.parametrize("line", PRINTING)
def test_stdout_that_cannot_be_written(result, line):
    for where, reason in ((">/dev/full", "No space left"), (">&-", "Bad file descriptor")):
        outcome = shell(f"$S {line} {where}", result.parent)
        assert outcome.code == 71, (where, outcome.err)
        assert len(outcome.messages) == 1 and reason in outcome.messages[0]


@pytest.mark.parametrize("line", PRINTING)
def test_stderr_that_cannot_be_written(result, line):
    wanted = shell(f"$S {line}", result.parent)
    assert wanted.code == 0
    for where in ("2>/dev/full", "2>&-"):
        outcome = shell(f"$S {line} {where}", result.parent)
        assert (outcome.code, outcome.out) == (0, wanted.out), where


def test_an_error_keeps_its_code(result):
    for where in ("2>/dev/full", "2>&-", ">/dev/full", ">&- 2>&-"):
        assert shell(f"$S summarize net.pth {where}", result.parent).code == 65
        assert shell(f"$S fly {where}", result.parent).code == 64


@pytest.mark.parametrize("where", [">/dev/full", ">&-", "2>/dev/full", "2>&-", ">&- 2>&- <&-"])
def test_a_campaign_is_stored_all_the_same(tiny, tmp_path, where):
    path = tmp_path / "r.h5"
    words = " ".join(map(str, tiny.args(path)))
    outcome = shell(f"$S {words} {where}", tmp_path)
    assert outcome.code == (71 if ">/dev/full" == where or where.startswith(">&-") else 0)
    Result.read(path).check_same(tiny.whole)


def test_a_reader_that_has_enough(result):
    outcome = shell("$S inspect printed.h5 | head -1; echo ${PIPESTATUS[0]}", result.parent)
    lines = outcome.out.splitlines()
    assert lines[0] == "/" and lines[-1] in ("0", str(128 + signal.SIGPIPE))
    assert outcome.err == ""
    # Nobody reads at all.
    closed = "$S summarize printed.h5 | (exec <&-; sleep 1); echo ${PIPESTATUS[0]}"
    outcome = shell(closed, result.parent)
    assert outcome.out.strip() == str(128 + signal.SIGPIPE) and outcome.err == ""


def test_a_campaign_whose_reader_is_gone(tiny, tmp_path):
    path = tmp_path / "r.h5"
    words = " ".join(map(str, tiny.args(path)))
    shell(f"$S {words} 2>&1 | true", tmp_path)
    Result.read(path).check_same(tiny.whole)


def test_the_limit_of_file_sizes(tiny, tmp_path):
    """SIGXFSZ would end the program without a word."""
    path = tmp_path / "r.h5"
    words = " ".join(map(str, tiny.args(path)))
    outcome = shell(f"ulimit -f 40; $S {words}", tmp_path)
    assert outcome.code == 71, outcome.err
    assert "ulimit -f" in outcome.messages[0]
    assert shell(f"$S {words}", tmp_path).code == 0
    Result.read(path).check_same(tiny.whole)
    export = f"$S export --checkpoint {tiny.checkpoint} --output n.ts"
    outcome = shell(f"ulimit -f 40; {export}", tmp_path)
    assert outcome.code == 71 and "ulimit -f" in outcome.messages[0], outcome.err
    assert not (tmp_path / "n.ts").exists() and not list(tmp_path.glob("*.tmp.*"))
    outcome = shell("ulimit -f 0; $S summarize r.h5 >out.txt", tmp_path)
    assert outcome.code == 71 and "File too large" in outcome.err


def test_two_ranks(result, tiny, tmp_path):
    mpirun = "mpirun --oversubscribe -n 2 $S"
    assert shell(f"{mpirun} summarize printed.h5 2>/dev/full", result.parent).code == 0
    path = tmp_path / "r.h5"
    words = " ".join(map(str, tiny.args(path)))
    assert shell(f"{mpirun} {words} 2>/dev/full", tmp_path).code == 0
    Result.read(path).check_same(tiny.whole)


# ---- names from files ------------------------------------------------------------------------------

ODD = "a\x1b[31m\nb\x7f\x9b2J\u202e$x_{"


def obeyed(text: str) -> list[str]:
    return [c for c in text if not (c.isprintable() or c == "\n")]


def rename_in_points(file: h5py.File, name: str, other: str) -> None:
    rows, notes = file["points"][()], dict(file["points"].attrs)
    long = h5py.string_dtype("utf-8", 400)
    wide = [(n, long if n == "models" else rows.dtype[n]) for n in rows.dtype.names]
    changed = rows.astype(np.dtype(wide))
    changed["models"] = [old.replace(name.encode(), other.encode()) for old in rows["models"]]
    del file["points"]
    file["points"] = changed
    file["points"].attrs.update(notes)


def test_names_do_not_command_the_terminal(sentinelnn: Launcher, result, tmp_path):
    path = tmp_path / "odd.h5"
    path.write_bytes(result.read_bytes())
    with h5py.File(path, "r+") as file:
        for group in ("models", "golden"):
            file[group].move("unprotected", ODD)
        rename_in_points(file, "unprotected", ODD)
        file["provenance"].attrs["dataset"] = ODD
        file["provenance"].attrs["checkpoint"] = ODD
        file.attrs["creator"] = ODD
    for command in ("summarize", "inspect"):
        outcome = sentinelnn.run([command, path])
        assert outcome.code == 0, outcome.err
        assert obeyed(outcome.out + outcome.err) == []
        assert "\\u001b[31m" in outcome.out and "\\u009b" in outcome.out
    outcome = sentinelnn.run(["summarize", path, "--json"])
    assert json.loads(outcome.out)["models"][0]["name"] == ODD
    assert obeyed(outcome.out) == []


def test_a_record_does_not_command_the_terminal(sentinelnn, campaign, tmp_path):
    path = tmp_path / f"net{ODD}.pth".replace("/", "")
    with zipfile.ZipFile(campaign.checkpoint) as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename == "archive/sentinelnn.json":
                data = data.replace(b'"command": "', b'"command": "' + "\x9b\x1b[2J".encode())
            new.writestr(item.filename, data)
    for args in (["inspect", path], ["evaluate", "--checkpoint", path]):
        outcome = sentinelnn.run(args)
        assert obeyed(outcome.out + outcome.err) == [], args


# ---- signals ---------------------------------------------------------------------------------------


def hears(process: int, number: int) -> bool:
    """Whether it has a handler for this signal; before main it has none."""
    status = Path(f"/proc/{process}/status").read_text()
    handled = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return bool(handled >> (number - 1) & 1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130),
                                              (signal.SIGUSR1, 75)])  # fmt: skip
@pytest.mark.parametrize("ranks", [0, 2])
def test_a_signal_is_heard_during_the_set_up(sentinelnn, campaign, tmp_path, number, code, ranks):
    path = tmp_path / "r.h5"
    rates = ", ".join(f"{10000 + point}e-11" for point in range(20000))
    (tmp_path / "job.toml").write_text(f"[campaign]\nber = [{rates}]\n")
    args = ["campaign", "--data", campaign.data, "--checkpoint", campaign.checkpoint, "--images"]
    args += ["64", "--hardening-ratio", "0", "--repeat", "1", "--job", tmp_path / "job.toml"]
    args += ["--output", path]
    process = sentinelnn.start(args, ranks)
    who = process.pid
    if ranks:
        assert wait_until(lambda: len(rank_processes(process.pid)) == ranks)
        who = rank_processes(process.pid)[1]
    assert wait_until(lambda: hears(who, number))
    time.sleep(0.3)
    assert not path.exists(), "the set-up is over already"
    os.kill(who, number)
    outcome = ended(process, 60)
    assert outcome.code == code, outcome.err
    assert "run the same command again" in outcome.err


@pytest.mark.parametrize("line", ["evaluate --checkpoint @", "inspect @", "summarize @",
                                  "campaign --job @", "evaluate --checkpoint net.pth --data @",
                                  "merge @ --output x.h5", "replay @ --trials 0",
                                  "harden --checkpoint net.pth --ranking @ --output h.pth"])  # fmt: skip
def test_a_fifo_is_no_input(result, line):
    fifo = result.parent / "fifo"
    if not fifo.exists():
        os.mkfifo(fifo)
    outcome = shell(f"timeout 20 $S {line.replace('@', 'fifo')}", result.parent)
    assert outcome.code == 65, outcome.err
    assert "fifo" in outcome.messages[0]


def test_too_many_threads(result, campaign):
    line = f"$S evaluate --checkpoint net.pth --data {campaign.data} --images 2"
    outcome = shell(line, result.parent, OMP_NUM_THREADS="512")
    assert outcome.code == 0 and "512" in outcome.err, outcome.err
    assert shell(f"{line} --threads 10000", result.parent).code == 64
