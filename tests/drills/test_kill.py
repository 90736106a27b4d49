"""Killed at any moment, of any rank: nothing acknowledged is lost, and resuming gives the rows of
an undisturbed run; whoever reads the result meanwhile sees whole files only."""

from __future__ import annotations

import math
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
from drill import (
    Ranking,
    Reader,
    Result,
    acknowledged,
    children,
    ended,
    is_running,
    journals,
    kill,
    kill_job,
    rank_processes,
    stored_rows,
    wait_until,
)

SEED = int(os.environ.get("SENTINELNN_DRILL_SEED", time.time_ns() % 2**32))
KILLS = int(
    os.environ.get("SENTINELNN_DRILL_KILLS", "50")
)  # at random moments, of all victims together


@pytest.fixture
def moments(request) -> random.Random:
    print(f"random moments: SENTINELNN_DRILL_SEED={SEED}")  # pytest shows it where a test fails
    return random.Random(f"{SEED} {request.node.name}")


def kill_rank(process, rank: int) -> None:
    pid = rank_processes(process.pid).get(rank)
    if pid is None:  # mpirun has not got that far
        kill_job(process)
    else:
        kill(pid)


def kill_driver(process) -> None:
    kill_rank(process, 0)


def kill_worker(process) -> None:
    kill_rank(process, 1)


def end_mpirun(process) -> None:
    """As a batch system does. mpirun hands the signal on and kills its ranks soon after."""
    process.terminate()


class Drill:
    """One result that is killed and resumed until it is complete; then another."""

    def __init__(self, sentinelnn, campaign, undisturbed, folder: Path) -> None:
        self.sentinelnn, self.campaign, self.whole = sentinelnn, campaign, undisturbed.result
        self.folder, self.number, self.stored = folder, 0, 0
        self.next_result()

    def next_result(self) -> None:
        self.number += 1
        self.stored = 0
        self.path = self.folder / f"result{self.number}.h5"

    def killed(self, outcome) -> None:
        """After an incarnation ended by a kill."""
        if outcome.stored_already:  # else it may have died before it could say so
            assert 2 * outcome.stored_already >= self.stored, "acknowledged rows are lost"
        now = stored_rows(self.path)
        assert now >= self.stored, "stored rows have disappeared"
        self.stored = now

    def complete(self, ranks: int) -> None:
        outcome = self.sentinelnn.run(self.campaign.args(self.path), ranks)
        assert outcome.code == 0, outcome.err
        assert 2 * outcome.stored_already >= self.stored, "acknowledged rows are lost"
        Result.read(self.path).check_same(self.whole)
        assert not journals(self.path)

    def kill_once(self, wait, victim, ranks: int) -> bool:
        """Whether the job was still there to be killed."""
        process = self.sentinelnn.start(self.campaign.args(self.path), ranks)
        wait(process)
        alive = process.poll() is None
        started = children(process.pid)
        if alive:
            victim(process)
        outcome = ended(process, 30)  # a rank's death ends the job within seconds
        assert wait_until(lambda: not any(is_running(pid) for pid in started), 30)
        # A kill may also come between the last publication and the end of the process.
        finished = self.path.exists() and Result.read(self.path).complete
        if outcome.code == 0 or (finished and not journals(self.path)):
            Result.read(self.path).check_same(self.whole)
            self.next_result()
            return False
        assert alive, outcome.err
        self.killed(outcome)
        return True


@pytest.fixture
def drill(sentinelnn, campaign, undisturbed, tmp_path) -> Drill:
    return Drill(sentinelnn, campaign, undisturbed, tmp_path)


VICTIMS = (kill_job, kill_driver, kill_worker, end_mpirun)


@pytest.mark.parametrize("victim", VICTIMS)
def test_kill_at_random_moments(drill, undisturbed, moments, victim):
    kills, wanted = 0, math.ceil(KILLS / len(VICTIMS))
    while kills < wanted:
        first = drill.path
        with Reader(first, undisturbed.result) as reader:
            while kills < wanted and drill.path == first:
                pause = moments.uniform(0, 0.8 * undisturbed.seconds)
                kills += drill.kill_once(lambda _, pause=pause: time.sleep(pause), victim, 2)
            if drill.path == first:
                drill.complete(2)
        reader.check()
        assert reader.opened > 0


def test_kill_right_at_the_start(drill, moments):
    """Before, while and just after the first files appear."""
    for _ in range(5):
        drill.kill_once(lambda _: time.sleep(moments.uniform(0, 0.5)), kill_job, 0)
    for _ in range(3):
        appear = drill.path.with_name(drill.path.name + ".lock")
        drill.kill_once(lambda _, file=appear: wait_until(file.exists), kill_job, 0)
    drill.complete(0)


@pytest.mark.parametrize(("victim", "ranks"), [(kill_job, 0), (kill_worker, 2), (kill_worker, 3)])
def test_kill_while_publishing(drill, undisturbed, moments, victim, ranks):
    def until_publishing(process) -> None:
        def publishing() -> bool:
            return process.poll() is not None or any(drill.folder.glob(drill.path.name + ".tmp.*"))

        for _ in range(moments.randrange(1, 4)):
            wait_until(publishing)
        time.sleep(moments.uniform(0, 0.01))

    kills = 0
    while kills < 4:
        first = drill.path
        with Reader(first, undisturbed.result) as reader:
            while kills < 4 and drill.path == first:
                kills += drill.kill_once(until_publishing, victim, ranks)
            if drill.path == first:
                drill.complete(ranks)
        reader.check()
    assert not list(drill.folder.glob("*.tmp.*")), "unfinished publications were left behind"


def test_kill_when_everything_is_stored(drill):
    """Between the last row and the end: the next start has nothing to do but finish."""

    def until_everything_is_stored(process) -> None:
        everything = len(drill.whole.trials)
        wait_until(lambda: process.poll() is not None or acknowledged(drill.path) == everything)

    drill.kill_once(until_everything_is_stored, kill_job, 0)
    if drill.number == 1:
        drill.complete(0)


def test_a_torn_tail_is_cut(drill, moments):
    """What a crash of the machine may do to the last frame."""

    def after_some_rows(process) -> None:
        wait_until(lambda: process.poll() is not None or acknowledged(drill.path) >= 20)

    assert drill.kill_once(after_some_rows, kill_job, 0)
    journal = journals(drill.path)[-1]
    size = journal.stat().st_size
    os.truncate(journal, size - moments.randrange(1, 200))
    drill.stored = 0  # the torn frame's rows were never synced; what is published must survive
    published = len(Result.read(drill.path).trials)
    outcome = drill.sentinelnn.run(drill.campaign.args(drill.path))
    assert outcome.code == 0, outcome.err
    assert 2 * outcome.stored_already >= published
    Result.read(drill.path).check_same(drill.whole)


def stop_while_it_works(sentinelnn, campaign, path, number, ranks=0, times=1):
    process = sentinelnn.start(campaign.args(path), ranks)
    assert wait_until(lambda: process.poll() is not None or acknowledged(path) > 0)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.01)
    return ended(process, 60)


@pytest.mark.parametrize(
    ("number", "ranks", "code", "times"),
    [(signal.SIGUSR1, 2, 75, 1), (signal.SIGUSR2, 2, 75, 1), (signal.SIGTERM, 0, 75, 2)]
    + [(signal.SIGXCPU, 0, 75, 1), (signal.SIGHUP, 0, 75, 2), (signal.SIGINT, 0, 130, 1)],
    ids=["USR1-mpirun", "USR2-mpirun", "TERM-TERM", "XCPU", "HUP-HUP", "INT"],
)
def test_a_signal_stops_gracefully(
    sentinelnn, campaign, undisturbed, tmp_path, number, ranks, code, times
):
    path = tmp_path / "result.h5"
    outcome = stop_while_it_works(sentinelnn, campaign, path, number, ranks, times)
    assert outcome.code == code, outcome.err
    assert re.search(r"run the same command again", outcome.err)
    stopped = Result.read(path)
    stopped.check_whole()
    assert not stopped.complete
    assert 0 < len(stopped.trials) < len(undisturbed.result.trials)
    assert len(stopped.trials) == acknowledged(path), "not everything stored was published"
    assert not path.with_name(path.name + ".lock").exists()
    resumed = sentinelnn.run(campaign.args(path), ranks)
    assert resumed.code == 0, resumed.err
    assert 2 * resumed.stored_already == len(stopped.trials)
    result = Result.read(path)
    result.check_same(undisturbed.result)
    assert set(result.trials["session"]) == {0, 1}


def test_a_hangup_that_nohup_ignores_stops_nothing(sentinelnn, campaign, undisturbed, tmp_path):
    path = tmp_path / "result.h5"
    launcher = sentinelnn.within("sh", "-c", 'trap "" HUP; exec "$@"', "_")
    outcome = stop_while_it_works(launcher, campaign, path, signal.SIGHUP)
    assert outcome.code == 0, outcome.err
    Result.read(path).check_same(undisturbed.result)


@pytest.mark.parametrize("plan", ["plain", "half-width"])
def test_channel_fi_stops_and_goes_on(sentinelnn, campaign, tmp_path, plan):
    folders = [tmp_path / "undisturbed", tmp_path / "stopped"]
    for folder in folders:
        folder.mkdir()
    whole, stopped = (folder / "ranking.h5.trials.h5" for folder in folders)
    if plan == "plain":
        args = [campaign.rank_args(folder, flips=40) for folder in folders]
    else:
        args = [campaign.half_width_args(folder) for folder in folders]
    assert sentinelnn.run(args[0], 2).code == 0
    process = sentinelnn.start(args[1], 2)
    assert wait_until(lambda: process.poll() is not None or acknowledged(stopped) > 0)
    process.send_signal(signal.SIGUSR1)
    outcome = ended(process, 60)
    assert outcome.code == 75, outcome.err
    assert "run the same command again" in outcome.messages[0]
    assert not (folders[1] / "ranking.h5").exists()
    part, complete = Result.read(stopped), Result.read(whole)
    part.check_part_of(complete)
    assert 0 < len(part.trials) < len(complete.trials)
    resumed = sentinelnn.run(args[1])
    assert resumed.code == 0, resumed.err
    assert resumed.stored_already == len(part.trials)
    Result.read(stopped).check_same(complete)
    rankings = [Ranking.read(folder / "ranking.h5") for folder in folders]
    assert rankings[0] == rankings[1]


def test_more_trials_continue_a_complete_result(sentinelnn, campaign, undisturbed, tmp_path):
    path = tmp_path / "result.h5"
    first = sentinelnn.run(campaign.args(path, trials=campaign.trials // 2))
    assert first.code == 0, first.err
    part = Result.read(path)
    assert part.complete and len(part.trials) == len(undisturbed.result.trials) // 2
    part.check_part_of(undisturbed.result)
    second = sentinelnn.run(campaign.args(path), 2)
    assert second.code == 0, second.err
    assert 2 * second.stored_already == len(part.trials)
    Result.read(path).check_same(undisturbed.result)


def test_a_complete_result_is_left_as_it_is(sentinelnn, campaign, undisturbed, tmp_path):
    path = tmp_path / "result.h5"
    assert sentinelnn.run(campaign.args(path), 2).code == 0
    again = sentinelnn.run(campaign.args(path))
    assert again.code == 0, again.err
    assert 2 * again.stored_already == len(undisturbed.result.trials)
    Result.read(path).check_same(undisturbed.result)


def test_the_next_process_takes_over_from_a_killed_one(sentinelnn, campaign, undisturbed, tmp_path):
    """As a requeued job does while its first incarnation is dying."""
    path = tmp_path / "result.h5"
    first = sentinelnn.start(campaign.args(path))
    assert wait_until(lambda: acknowledged(path) > 0)
    os.kill(first.pid, signal.SIGSTOP)
    second = sentinelnn.start(campaign.args(path))
    time.sleep(3)
    assert second.poll() is None, "the second did not wait"
    kill(first.pid)
    ended(first)
    outcome = ended(second)
    assert outcome.code == 0, outcome.err
    assert re.search(rf"is in use by process {first.pid} ", outcome.err)
    assert outcome.stored_already > 0
    Result.read(path).check_same(undisturbed.result)


TRAINING = {
    "train": ["train", "--epochs", "4", "--batch-size", "64"],
    "prune": ["prune", "--finetune-epochs", "4", "--pruning-ratio", "0.3"]
    + ["--finetune-batch-size", "64"],
    "stored": ["train", "--epochs", "3", "--batch-size", "64", "--store", "weight=int4+bch:8,4"]
    + ["--store", "bias,bn,scale=fp16"],
}


def training(command: str, campaign) -> list[str | Path]:
    files = ["--data", campaign.data, "--checkpoint", campaign.checkpoint, "--output", "net.pth"]
    return [*TRAINING[command], *files, "--threads", "1"]


@pytest.fixture(scope="session")
def trained(sentinelnn, campaign, scratch) -> dict[str, bytes]:
    """The checkpoint of each undisturbed training, in one process."""
    files = {}
    for command in TRAINING:
        folder = scratch / command
        folder.mkdir()
        outcome = sentinelnn.run(training(command, campaign), cwd=folder)
        assert outcome.code == 0, outcome.err
        (output,) = folder.iterdir()
        files[command] = output.read_bytes()
    return files


@pytest.mark.parametrize("command", TRAINING)
@pytest.mark.parametrize(
    ("number", "ranks", "code"),
    [(signal.SIGUSR1, 2, 75), (signal.SIGTERM, 0, 75), (signal.SIGKILL, 0, -signal.SIGKILL)],
    ids=["USR1-mpirun", "TERM", "KILL"],
)
def test_a_training_goes_on_after_its_last_epoch(
    sentinelnn, campaign, trained, tmp_path, command, number, ranks, code
):
    output = tmp_path / "net.pth"
    state = tmp_path / "net.pth.training"
    args = training(command, campaign)
    process = sentinelnn.start(args, ranks, cwd=tmp_path)
    assert wait_until(lambda: process.poll() is not None or state.exists())
    process.send_signal(number)
    stopped = ended(process, 60)
    assert stopped.code == code, stopped.err
    assert state.exists() and not output.exists()
    if code == 75:
        assert "run the same command again" in stopped.err
    resumed = sentinelnn.run(args, ranks, cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert "done before the stop" in resumed.out
    assert output.read_bytes() == trained[command]
    assert not state.exists()


@pytest.mark.parametrize("command", TRAINING)
def test_a_training_killed_at_random_moments(
    sentinelnn, campaign, trained, tmp_path, moments, command
):
    output, args = tmp_path / "net.pth", training(command, campaign)
    for _ in range(6):
        process = sentinelnn.start(args, cwd=tmp_path)
        time.sleep(moments.uniform(0, 3))
        number = moments.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
        kill(process.pid, number)
        outcome = ended(process, 60)
        # At its very start it has not begun to listen.
        assert outcome.code in (0, 75, -number), outcome.err
        # A kill may fall between the output's renaming and the end of the process.
        if outcome.code != -signal.SIGKILL:
            assert output.exists() == (outcome.code == 0)
        if output.exists():
            assert output.read_bytes() == trained[command]
            output.unlink()
    outcome = sentinelnn.run(args, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert output.read_bytes() == trained[command]
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
