"""A time limit as SLURM enforces it (its shortest is a minute)."""

from __future__ import annotations

from drill import Result


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
