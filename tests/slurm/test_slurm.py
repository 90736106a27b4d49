"""slurm/*.sbatch on a real SLURM: the same rows as without it, whatever happens to the job."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster import NODES
from conftest import SCRIPTS
from drill import Result, kill
from test_kill import acknowledged

LAUNCHERS = ("srun", "mpirun")
# Of a heterogeneous job.
COMPONENTS = ("--nodes=1", ":", "--nodes=1", "--ntasks=1")
# As that of SLURM 22.05 in some heterogeneous jobs.
HUNG_SRUN = """#!/bin/bash
{srun} "$@" &
trap "kill -USR1 $!" USR1
while kill -0 $! 2>/dev/null; do wait $!; done
exec sleep 600
"""


def hung_srun(folder: Path) -> str:
    """PATH with an srun that does not end after its ranks."""
    script = folder / "srun"
    script.write_text(HUNG_SRUN.format(srun=shutil.which("srun")))
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def session_info(result: Result) -> list[dict]:
    return [json.loads(row["info"]) for row in result.sessions]


def said(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def in_use(result: Path) -> Iterator[None]:
    """Somebody else has the result: its campaign starts, but no trial can begin."""
    with Path(f"{result}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def rank_process(result: Path, rank: int) -> int:
    """Of the campaign that writes this result, whatever started it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        launched = words[0].endswith(b"sentinelnn") and str(result).encode() in words
        if launched and f"PMIX_RANK={rank}".encode() in variables:
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_nodes(cluster, jobs, campaign, undisturbed, tmp_path, launcher):
    path, output = tmp_path / "result.h5", tmp_path / "job.out"
    job = jobs.submit(output, campaign.args(path), LAUNCHER=launcher)
    cluster.wait(job)
    assert cluster.state(job) == "COMPLETED", said(output)
    result = Result.read(path)
    result.check_same(undisturbed.result)
    assert set(result.trials["rank"]) == {0, 1, 2, 3}
    (info,) = session_info(result)
    assert sorted(rank.split()[0] for rank in info["ranks"]) == sorted(2 * NODES)
    assert info["slurm"]["SLURM_JOB_ID"] == job
    assert info["slurm"]["SLURM_JOB_NUM_NODES"] == "2"


def test_all_components_of_a_heterogeneous_job_work(
    cluster, jobs, campaign, undisturbed, tmp_path
):
    path, output = tmp_path / "result.h5", tmp_path / "job.out"
    job = jobs.submit(output, campaign.args(path), *COMPONENTS)
    cluster.wait(job)
    assert cluster.state(job) == "COMPLETED COMPLETED", said(output)
    result = Result.read(path)
    result.check_same(undisturbed.result)
    assert set(result.trials["rank"]) == {0, 1, 2}


def test_srun_that_does_not_end_after_its_ranks_is_ended(
    cluster, jobs, campaign, undisturbed, tmp_path
):
    path, output = tmp_path / "result.h5", tmp_path / "job.out"
    job = jobs.submit(output, campaign.args(path), *COMPONENTS, PATH=hung_srun(tmp_path))
    cluster.wait(job)
    assert cluster.state(job) == "COMPLETED COMPLETED", said(output)
    assert "srun did not end after its ranks, which ended with 0" in said(output)
    Result.read(path).check_same(undisturbed.result)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_near_its_limit_goes_on_later(
    cluster, jobs, campaign, undisturbed, tmp_path, launcher
):
    path, output = tmp_path / "result.h5", tmp_path / "job.out"
    job = jobs.submit(output, campaign.args(path), LAUNCHER=launcher)
    assert cluster.reaches(job, lambda: acknowledged(path) > 0), said(output)
    cluster.stop_gracefully(job)
    cluster.wait(job)
    assert cluster.job(job)["Restarts"] == "1", said(output)
    assert cluster.state(job) == "COMPLETED", said(output)
    result = Result.read(path)
    result.check_same(undisturbed.result)
    assert set(result.trials["session"]) == {0, 1}
    assert re.search(r": [1-9]\d* new trials; job \d+ is queued again", said(output))
    assert re.search(r" [1-9]\d* of \d+ trials are stored already", said(output))


@pytest.mark.parametrize("found", [0, 20])
def test_a_job_that_stored_nothing_new_is_not_queued_again(
    cluster, jobs, sentinelnn, campaign, tmp_path, found
):
    path, output = tmp_path / "result.h5", tmp_path / "job.out"
    if found:
        assert sentinelnn.run(campaign.args(path, trials=found)).code == 0
    with in_use(path):
        job = jobs.submit(output, campaign.args(path))
        assert cluster.reaches(job, lambda: "is in use by" in said(output)), said(output)
        cluster.stop_gracefully(job)
    cluster.wait(job)
    assert "no new trials before the stop" in said(output)
    ended = cluster.job(job)
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "75:0"), said(output)
    assert ended["Restarts"] == "0"
    # Stopped while it waits for the lock, it makes no file.
    assert (len(Result.read(path).trials) if path.exists() else 0) == 2 * 2 * found
    assert path.exists() == (found > 0)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_rank_ends_the_job(cluster, jobs, campaign, tmp_path, launcher):
    """Else the others would wait for its messages until the time limit."""
    path, output = tmp_path / "result.h5", tmp_path / "job.out"
    job = jobs.submit(output, campaign.args(path), LAUNCHER=launcher)
    assert cluster.reaches(job, lambda: acknowledged(path) > 0), said(output)
    kill(rank_process(path, 3))
    cluster.wait(job)
    ended = cluster.job(job)
    assert ended["JobState"] == "FAILED" and ended["ExitCode"] != "75:0", said(output)
    assert ended["Restarts"] == "0"


def test_each_rank_has_one_thread_and_a_gpu_of_its_own(cluster, jobs, tmp_path):
    output, probe = tmp_path / "job.out", tmp_path / "probe"
    probe.write_text(
        "#!/bin/sh\necho rank $SLURM_NODEID $SLURM_LOCALID $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS\n"
    )
    probe.chmod(0o755)
    job = jobs.submit(output, ["any"], "--gpus-per-task=1", SENTINELNN=str(probe))
    cluster.wait(job)
    assert cluster.state(job) == "COMPLETED", said(output)
    ranks = re.findall(r"^rank (\d) (\d) (\S+) (\d+)$", said(output), re.MULTILINE)
    assert sorted(rank[:2] for rank in ranks) == [(n, t) for n in "01" for t in "01"]
    assert sorted((node, gpu) for node, _, gpu, _ in ranks) == [(n, g) for n in "01" for g in "01"]
    assert {threads for *_, threads in ranks} == {"1"}


def without_own(args: list) -> list:
    """Without the options that sweep.sbatch gives."""
    for own in ("--output", "--repeat"):
        place = args.index(own)
        args = args[:place] + args[place + 2 :]
    return args


def test_an_array_of_ranges_merges_into_the_whole(cluster, jobs, campaign, undisturbed, tmp_path):
    path = tmp_path / "all.h5"
    sizes = {"TRIALS": str(campaign.trials), "PARTS": "4", "OUTPUT": str(path)}
    array, merge = jobs.sweep(tmp_path, without_own(campaign.args(path)), **sizes)
    cluster.wait(array, merge)
    logs = "".join(said(log) for log in tmp_path.glob("*.out"))
    assert cluster.state(array) == " ".join(4 * ["COMPLETED"]), logs
    assert cluster.state(merge) == "COMPLETED", logs
    Result.read(path).check_same(undisturbed.result)


def job_file(path: Path, campaign, trials: int) -> Path:
    """The campaign of the other tests with so many trials; its result is beside the file."""
    path.write_text(
        f'[campaign]\noutput = "{path}.h5"\ndata = "{campaign.data}"\n'
        f'checkpoint = "{campaign.checkpoint}"\nber = [2e-6, 2e-5]\nrepeat = {trials}\n'
        "images = 10\ncalibration-images = 32\npublish = 0\nseed = 7\n"
    )
    return path


@pytest.mark.parametrize("stopped", [0, 1, 2])
def test_a_stopped_element_is_queued_again_alone(
    cluster, jobs, campaign, undisturbed, tmp_path, stopped
):
    """One of the others is complete by then, one is running."""
    short, running = (stopped + 1) % 3, (stopped + 2) % 3
    trials = {stopped: campaign.trials, short: 2, running: campaign.trials}
    files = [job_file(tmp_path / f"job{i}.toml", campaign, trials[i]) for i in range(3)]
    results = [Path(f"{path}.h5") for path in files]
    with in_use(results[running]):
        with in_use(results[stopped]):
            (array,) = jobs.sweep(tmp_path, ["campaign"], JOBS=" ".join(map(str, files)))
            elements = [f"{array}_{i}" for i in range(3)]
            cluster.wait(elements[short])
        assert cluster.reaches(elements[stopped], lambda: acknowledged(results[stopped]) > 0)
        cluster.stop_gracefully(elements[stopped])
        assert cluster.state(elements[running]) == "RUNNING"
    cluster.wait(*elements)
    logs = "".join(said(log) for log in tmp_path.glob("*.out"))
    restarts = [cluster.job(element)["Restarts"] for element in elements]
    assert restarts == ["1" if i == stopped else "0" for i in range(3)], logs
    assert [cluster.state(element) for element in elements] == 3 * ["COMPLETED"], logs
    for i, path in enumerate(results):
        result = Result.read(path)
        assert result.complete and len(result.trials) == 2 * 2 * trials[i]
        result.check_part_of(undisturbed.result)
        assert len(result.sessions) == (2 if i == stopped else 1), logs


def test_the_merge_waits_for_a_stopped_element(
    cluster, jobs, campaign, undisturbed, tmp_path
):
    path = tmp_path / "all.h5"
    sizes = {"TRIALS": str(campaign.trials), "PARTS": "2", "OUTPUT": str(path)}
    array, merge = jobs.sweep(tmp_path, without_own(campaign.args(path)), **sizes)
    part = Path(f"{path}.part1.h5")
    assert cluster.reaches(f"{array}_1", lambda: acknowledged(part) > 0)
    cluster.stop_gracefully(f"{array}_1")
    cluster.wait(f"{array}_0", f"{array}_1", merge)
    logs = "".join(said(log) for log in tmp_path.glob("*.out"))
    assert [cluster.job(f"{array}_{i}")["Restarts"] for i in (0, 1)] == ["0", "1"], logs
    assert cluster.state(merge) == "COMPLETED", logs
    Result.read(path).check_same(undisturbed.result)


def test_one_range_alone(cluster, jobs, campaign, undisturbed, tmp_path):
    """As one submits an element again by hand; it too is stopped and goes on."""
    path = tmp_path / "all.h5"
    args = [SCRIPTS / "sweep.sbatch", *without_own(campaign.args(path))]
    options = ["--array=3", "--ntasks-per-node=2", f"--output={tmp_path}/%a.out"]
    own = {"TRIALS": str(4 * campaign.trials), "OUTPUT": str(path), **jobs.environment}
    own["SENTINELNN_SCRIPTS"] = str(SCRIPTS)
    refused = cluster.submit(*options, *args, **own)
    cluster.wait(refused)
    assert cluster.job(refused)["ExitCode"] == "64:0"
    assert "give PARTS" in said(tmp_path / "3.out")
    job = cluster.submit(*options, *args, **own, PARTS="4")
    part = Path(f"{path}.part3.h5")
    assert cluster.reaches(f"{job}_3", lambda: acknowledged(part) > 0), said(tmp_path / "3.out")
    cluster.stop_gracefully(f"{job}_3")
    cluster.wait(f"{job}_3")
    assert cluster.job(f"{job}_3")["Restarts"] == "1"
    result = Result.read(part)
    assert result.complete and set(result.trials["id"]) == set(
        range(3 * campaign.trials, 4 * campaign.trials)
    )


def test_a_failed_element_cancels_the_merge(cluster, jobs, tmp_path):
    sizes = {"TRIALS": "10", "PARTS": "2", "OUTPUT": str(tmp_path / "all.h5")}
    array, merge = jobs.sweep(tmp_path, ["any"], SENTINELNN="/bin/false", **sizes)
    cluster.wait(array, merge)
    assert cluster.state(array) == "FAILED FAILED"
    assert cluster.state(merge) == "CANCELLED"


def test_an_array_of_job_files(cluster, jobs, campaign, undisturbed, tmp_path):
    files = []
    for number, ber in enumerate(("2e-6", "2e-5")):
        path = tmp_path / f"job{number}.toml"
        path.write_text(
            f'[inject]\nber = {ber}\noutput = "{path}.h5"\ndata = "{campaign.data}"\n'
            f'checkpoint = "{campaign.checkpoint}"\nrepeat = 5\nimages = 10\nseed = 7\n'
        )
        files.append(path)
    (array,) = jobs.sweep(tmp_path, ["inject"], JOBS=" ".join(map(str, files)))
    cluster.wait(array)
    logs = "".join(said(log) for log in tmp_path.glob("*.out"))
    assert cluster.state(array) == "COMPLETED COMPLETED", logs
    for path in files:
        assert len(Result.read(path.with_name(path.name + ".h5")).trials) == 5
