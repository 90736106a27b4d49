"""What machines do besides dying: clocks that jump, processes that stand still, ranks that start in
different folders or with different options, no shared memory, other ways to write numbers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from drill import (
    PROGRAM,
    SHIM,
    Outcome,
    Result,
    acknowledged,
    ended,
    files_of_mpi_in,
    kill,
    rank_processes,
    wait_until,
)

HOUR = 3600
SINCE_1970 = int(time.time())


# ---- time ----


class Clock:
    """The day's clock of the programs that `launcher` starts."""

    def __init__(self, sentinelnn, folder: Path) -> None:
        shim = SHIM.with_name("libshift_clock.so")
        assert shim.exists(), f"{shim} is missing; build the target shift_clock"
        self.file = folder / "clock"
        self.set(0)
        self.launcher = sentinelnn.within(
            LD_PRELOAD=str(shim),
            ASAN_OPTIONS="verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", ""),
            SENTINELNN_CLOCK_FILE=str(self.file),
        )

    def set(self, seconds: int) -> None:
        new = self.file.with_name("clock.new")
        new.write_text(f"{seconds}\n")
        new.replace(self.file)


@pytest.mark.parametrize(
    ("jump", "later"),
    [(7 * HOUR, -30 * HOUR), (-7 * HOUR, 30 * HOUR), (-SINCE_1970 - 10 * HOUR, 0)]
    + [(30 * HOUR, -SINCE_1970 - HOUR)],
    ids=["forwards", "backwards", "before-1970", "before-1970-later"],
)
def test_a_clock_that_jumps(sentinelnn, campaign, undisturbed, tmp_path, jump, later):
    """While a session runs, and before the next."""
    path, clock = tmp_path / "result.h5", Clock(sentinelnn, tmp_path)
    process = clock.launcher.start(campaign.args(path))
    assert wait_until(lambda: process.poll() is not None or acknowledged(path) > 0)
    clock.set(jump)
    # Long enough for a heartbeat; nobody else may think the holder dead.
    kill(process.pid, signal.SIGSTOP)
    time.sleep(1)
    kill(process.pid, signal.SIGCONT)
    assert wait_until(lambda: process.poll() is not None or acknowledged(path) > 20)
    process.send_signal(signal.SIGUSR1)
    stopped = ended(process)
    assert stopped.code == 75, stopped.err
    clock.set(later)
    outcome = clock.launcher.run(campaign.args(path))
    assert outcome.code == 0, outcome.err
    result = Result.read(path)
    result.check_same(undisturbed.result)
    assert len(result.sessions) == 2
    for session in result.sessions:
        assert 0 <= session["ended"] - session["started"] < HOUR
    assert result.trials["wall_us"].max() < HOUR * 1e6
    assert sentinelnn.run(["summarize", path]).code == 0


def test_rank_0_stands_still(sentinelnn, campaign, undisturbed, tmp_path):
    """Longer than a heartbeat: the others wait, and whoever wants the result too."""
    path = tmp_path / "result.h5"
    process = sentinelnn.start(campaign.args(path), 2)
    assert wait_until(lambda: process.poll() is not None or acknowledged(path) > 0)
    driver = rank_processes(process.pid)[0]
    kill(driver, signal.SIGSTOP)
    other = sentinelnn.start(campaign.args(path))
    time.sleep(7)
    assert process.poll() is None and other.poll() is None
    kill(driver, signal.SIGCONT)
    outcome, second = ended(process), ended(other)
    assert outcome.code == 0, outcome.err
    assert second.code == 0, second.err
    assert "is in use by process" in second.err
    assert 2 * second.stored_already == len(undisturbed.result.trials)
    Result.read(path).check_same(undisturbed.result)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def test_who_stood_still_too_long_replaces_nothing(sentinelnn, campaign, tmp_path):
    """In the middle of a publication, while another node found the lease dead and went on."""
    path = tmp_path / "result.h5"
    launcher = sentinelnn.within(
        LD_PRELOAD=str(SHIM),
        ASAN_OPTIONS="verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", ""),
        SENTINELNN_SHIM_CALLS=r"^pwrite .*\.tmp\.[0-9]+$",
        SENTINELNN_SHIM_AT="40",  # of the second publication
        SENTINELNN_SHIM_HOW="stop",
    )
    process = launcher.start(campaign.args(path))
    assert wait_until(lambda: process.poll() is not None or is_stopped(process.pid))
    assert process.poll() is None, ended(process).err
    lease = {"host": "node2", "machine": "another", "pid": 7, "since": 1e9, "heartbeat": 1e9}
    path.with_name("result.h5.lock").write_text(json.dumps(lease))
    path.write_bytes(b"of the new holder")
    kill(process.pid, signal.SIGCONT)
    outcome = ended(process)
    assert outcome.code == 71, outcome.err
    assert "was lost to process 7 on host node2" in outcome.messages[0]
    assert path.read_bytes() == b"of the new holder"


# ---- ranks that differ ----


def run_ranks(sentinelnn, ranks: list[tuple[Path, list]], timeout: float = 120) -> Outcome:
    """Ranks with a folder and words each."""
    command = ["mpirun", "--oversubscribe"]
    for number, (folder, words) in enumerate(ranks):
        command += [":"] if number else []
        command += ["-n", "1", "--wdir", str(folder), str(PROGRAM), *map(str, words)]
    own = files_of_mpi_in(sentinelnn.scratch / str(next(sentinelnn.numbers)))
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=sentinelnn.environment | own,
    )
    return ended(process, timeout)


def test_ranks_in_different_folders(sentinelnn, campaign, undisturbed, tmp_path):
    """Relative paths are those of rank 0."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / "out").mkdir()
    (folders[0] / "data").symlink_to(campaign.data)
    shutil.copy(campaign.checkpoint, folders[0] / "net.pth")
    (folders[0] / "job.toml").write_text(
        '[campaign]\ndata = "data"\ncheckpoint = "net.pth"\noutput = "out/result.h5"\n'
        f"ber = [2e-6, 2e-5]\nrepeat = {campaign.trials}\n"
        "images = 10\ncalibration-images = 32\npublish = 0\nseed = 7\n"
    )
    words = ["campaign", "--job", "job.toml"]
    outcome = run_ranks(sentinelnn, [(folder, words) for folder in folders])
    assert outcome.code == 0, outcome.err
    result = Result.read(folders[0] / "out" / "result.h5")
    result.check_same(undisturbed.result)
    assert set(result.trials["rank"]) == {0, 1}
    assert not list(folders[1].iterdir())


@pytest.mark.parametrize("other", [["--seed", "8"], ["--sed", "7"], ["--threads", "1"]])
def test_ranks_with_other_words_are_refused(sentinelnn, tiny, tmp_path, other):
    """They would compute other rows, or wait for each other for ever."""
    path = tmp_path / "result.h5"
    words = tiny.args(path)
    outcome = run_ranks(sentinelnn, [(tmp_path, words), (tmp_path, words[:-2] + other)])
    assert outcome.code == 64, outcome.err
    assert "rank 1 was started with other words" in outcome.messages[0]
    assert not list(tmp_path.iterdir())


# ---- what a machine may lack ----


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("how", ["ro", "size=4k"])
def test_without_shared_memory(sentinelnn, tiny, tmp_path, how):
    script = f'mount -t tmpfs -o {how} tmpfs /dev/shm && exec "$@"'
    launcher = sentinelnn.within("unshare", "--mount", "sh", "-c", script, "_")
    path = tmp_path / "result.h5"
    outcome = launcher.run(tiny.args(path), 2)
    assert outcome.code == 0, outcome.err
    Result.read(path).check_same(tiny.whole)


def test_decimal_commas(sentinelnn, tiny, tmp_path):
    made = tmp_path / "de_DE.UTF-8"
    try:
        done = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", made])
    except FileNotFoundError:
        pytest.skip("no localedef")
    if done.returncode != 0:
        pytest.skip("no sources of the German locale")
    path = tmp_path / "result.h5"
    german = sentinelnn.within(LOCPATH=str(tmp_path), LC_ALL=made.name)
    outcome = german.run(tiny.args(path, "--confidence", "0.9"))
    assert outcome.code == 0, outcome.err
    plain = [sentinelnn.run(["summarize", path, *more]).out for more in ([], ["--json"])]
    assert plain == [german.run(["summarize", path, *more]).out for more in ([], ["--json"])]
    assert outcome.out in plain[0] or plain[0] in outcome.out
    json.loads(plain[1])


@pytest.mark.parametrize("classes", [1, 20000])
def test_other_numbers_of_classes_are_refused(sentinelnn, campaign, tmp_path, classes):
    torch = pytest.importorskip("torch")
    state = torch.load(campaign.checkpoint)
    state["fc.weight"] = torch.zeros(classes, state["fc.weight"].shape[1])
    state["fc.bias"] = torch.zeros(classes)
    path = tmp_path / "net.pth"
    torch.save(dict(state), path)
    for command in ("evaluate", "export"):
        more = ["--output", tmp_path / "net.ts"] if command == "export" else ["--data", campaign.data]
        names = ["--model", "resnet20", "--dataset", "synthetic", "--checkpoint", path]
        outcome = sentinelnn.run([command, *names, *more])
        assert outcome.code == 65, outcome.err
        assert f"for {classes} classes, the data set has 10" in outcome.messages[0]
