"""What takes minutes: a time limit as SLURM enforces it, jobs whose srun does not end."""

from __future__ import annotations

import pytest
from drill import Result
from test_kill import acknowledged
from test_slurm import COMPONENTS, hung_srun, said


def test_a_campaign_outlasts_its_time_limit(cluster, jobs, campaign, undisturbed, tmp_path):
    path, output = tmp_path / "result.h5", tmp_path / "job.out"
    trials = int(campaign.trials * max(1, 100 / undisturbed.seconds))
    # SLURM looks every 30 s, so that the signal comes 20 to 50 s after the start.
    limit = ("--time=1", "--signal=B:USR1@10")
    job = jobs.submit(output, campaign.args(path, trials=trials), *limit)
    cluster.wait(job, timeout=900)
    text = output.read_text(errors="replace")
    assert cluster.state(job) == "COMPLETED", text
    assert int(cluster.job(job)["Restarts"]) >= 1
    assert "DUE TO TIME LIMIT" not in text
    result = Result.read(path)
    result.check_whole()
    assert result.complete and len(result.trials) == 2 * 2 * trials
    undisturbed.result.check_part_of(result)
    assert len(set(result.trials["session"])) >= 2


@pytest.mark.parametrize(("word", "code"), [("exit 65", 65), ("kill -SEGV $$", 139)])
def test_the_code_of_ranks_whose_srun_does_not_end(cluster, jobs, tmp_path, word, code):
    output, probe = tmp_path / "job.out", tmp_path / "probe"
    probe.write_text(f"#!/bin/sh\necho begins >&2\n{word}\n")
    probe.chmod(0o755)
    search = hung_srun(tmp_path)
    job = jobs.submit(output, ["any"], *COMPONENTS, PATH=search, SENTINELNN=str(probe))
    cluster.wait(job)
    assert cluster.job(job)["ExitCode"] == f"{code}:0", said(output)
    assert f"ended with {code}" in said(output)


def test_a_stopped_job_whose_srun_does_not_end_goes_on(
    cluster, jobs, campaign, undisturbed, tmp_path
):
    """SLURM still has the 75 of the first session when the second ends with 0."""
    path, output = tmp_path / "result.h5", tmp_path / "job.out"
    job = jobs.submit(output, campaign.args(path), *COMPONENTS, PATH=hung_srun(tmp_path))
    assert cluster.reaches(job, lambda: acknowledged(path) > 0), said(output)
    cluster.stop_gracefully(job)
    cluster.wait(job, timeout=600)
    assert cluster.job(job)["Restarts"] == "1", said(output)
    assert cluster.state(job) == "COMPLETED COMPLETED", said(output)
    assert "ended with 75" in said(output) and "ended with 0" in said(output)
    Result.read(path).check_same(undisturbed.result)
