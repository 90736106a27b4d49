"""slurm/*.sbatch on a real SLURM: the same rows as without it, whatever happens to the job."""

from __future__ import annotations

import fcntl
import json
import re
from pathlib import Path

import pytest
from cluster import NODES
from drill import Result, kill
from test_kill import acknowledged

LAUNCHERS = ("srun", "mpirun")


def session_info(result: Result) -> list[dict]:
    return [json.loads(row["info"]) for row in result.sessions]


def said(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


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
    # Somebody else has the result, so that the first trial cannot begin before the signal.
    with (tmp_path / "result.h5.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        job = jobs.submit(output, campaign.args(path))
        assert cluster.reaches(job, lambda: "is in use by" in said(output)), said(output)
        cluster.stop_gracefully(job)
    cluster.wait(job)
    assert "no new trials before the stop" in said(output)
    ended = cluster.job(job)
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "75:0"), said(output)
    assert ended["Restarts"] == "0"
    assert len(Result.read(path).trials) == 2 * 2 * found


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


def test_an_array_of_ranges_merges_into_the_whole(cluster, jobs, campaign, undisturbed, tmp_path):
    path = tmp_path / "all.h5"
    args = campaign.args(path)
    for own in ("--output", "--repeat"):  # sweep.sbatch gives these
        place = args.index(own)
        del args[place : place + 2]
    sizes = {"TRIALS": str(campaign.trials), "PARTS": "4", "OUTPUT": str(path)}
    array, merge = jobs.sweep(tmp_path, args, **sizes)
    cluster.wait(array, merge)
    logs = "".join(said(log) for log in tmp_path.glob("*.out"))
    assert cluster.state(array) == " ".join(4 * ["COMPLETED"]), logs
    assert cluster.state(merge) == "COMPLETED", logs
    Result.read(path).check_same(undisturbed.result)


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
