"""However many ranks and whichever engine: the same rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drill import PLACE_AND_TIME, Ranking, Result


@pytest.mark.parametrize(
    ("ranks", "more"),
    [(1, []), (2, []), (3, []), (2, ["--dedicated-driver"]), (3, ["--dedicated-driver"])],
    ids=["mpirun-1", "mpirun-2", "mpirun-3", "dedicated-2", "dedicated-3"],
)
def test_rows_do_not_depend_on_the_ranks(sentinelnn, campaign, undisturbed, tmp_path, ranks, more):
    path = tmp_path / "result.h5"
    outcome = sentinelnn.run(campaign.args(path, *more), ranks)
    assert outcome.code == 0, outcome.err
    result = Result.read(path)
    result.check_same(undisturbed.result)
    worked = set(result.trials["rank"])
    assert worked == set(range(1 if more else 0, ranks)), "not every rank worked"
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"result.h5", "result.h5.hardened.pth"}, "a file is missing or was left behind"


def test_a_dedicated_driver_alone_is_refused(sentinelnn, campaign, tmp_path):
    outcome = sentinelnn.run(campaign.args(tmp_path / "result.h5", "--dedicated-driver"))
    assert outcome.code == 64
    assert len(outcome.messages) == 1 and "--dedicated-driver" in outcome.messages[0]


def test_the_reference_engine_finds_the_same_outcomes(
    sentinelnn, campaign, undisturbed, tmp_path
):
    path = tmp_path / "reference.h5"
    outcome = sentinelnn.run(campaign.args(path, "--engine", "reference"), 2)
    assert outcome.code == 0, outcome.err
    slow, fast = Result.read(path), undisturbed.result
    slow.check_whole()
    assert slow.keys() == fast.keys()
    # The split of masked and non-critical belongs to the path that ran; only their sum is compared.
    split = ("masked", "sdc_noncritical", "path", "audited")
    for name in slow.trials.dtype.names:
        if name not in PLACE_AND_TIME and name not in split:
            assert np.array_equal(slow.trials[name], fast.trials[name]), name
    assert np.array_equal(slow.sites, fast.sites)
    assert set(slow.trials["path"]) == {0}
    assert set(fast.trials["path"]) == {1}


def test_channel_fi_does_not_depend_on_the_ranks(sentinelnn, campaign, tmp_path):
    rankings, results = [], []
    for ranks in (0, 2, 3):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        outcome = sentinelnn.run(campaign.rank_args(folder), ranks)
        assert outcome.code == 0, outcome.err
        assert {p.name for p in folder.iterdir()} == {"ranking.h5", "ranking.h5.trials.h5"}
        rankings.append(Ranking.read(folder / "ranking.h5"))
        results.append(Result.read(folder / "ranking.h5.trials.h5"))
        assert set(results[-1].trials["rank"]) == set(range(max(1, ranks)))
    for ranking, result in zip(rankings[1:], results[1:]):
        result.check_same(results[0])
        assert ranking == rankings[0]
    assert len(results[0].trials) == (16 + 64) * 12
    assert list(rankings[0].layers) == ["conv1", "layer3.2.conv1"]
    scores = rankings[0].layers["conv1"]["scores"]
    assert len(set(scores)) > 2
    # Scores from the rows, in another language.
    for channel, score in enumerate(scores):
        rows = results[0].trials[results[0].trials["point"] == channel]
        failing = (rows["sdc_critical"] + rows["due"]) / rows["images"]
        assert abs(failing.mean() - score) < 1e-12


def test_channel_fi_to_a_half_width_does_not_depend_on_the_ranks(sentinelnn, campaign, tmp_path):
    rankings, results = [], []
    for ranks in (0, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        outcome = sentinelnn.run(campaign.half_width_args(folder), ranks)
        assert outcome.code == 0, outcome.err
        rankings.append(Ranking.read(folder / "ranking.h5"))
        results.append(Result.read(folder / "ranking.h5.trials.h5"))
        assert set(results[-1].trials["rank"]) == set(range(max(1, ranks)))
    results[1].check_same(results[0])
    assert rankings[1] == rankings[0]
    trials, layer = results[0].trials, rankings[0].layers["conv1"]
    assert set(trials["images"]) == {4, 2}, "a trial looks at a block of the images"
    assert all(np.subtract(layer["upper"], layer["lower"]) <= 0.08)
    # Scores from the rows, in another language.
    for channel, score in enumerate(layer["scores"]):
        rows = trials[trials["point"] == channel]
        assert len(rows) == layer["trials"][channel]
        failing = (rows["sdc_critical"] + rows["due"]) / rows["images"]
        means = [failing[rows["stratum"] == h].mean() for h in range(3)]
        assert abs(np.dot(means, [1 / 32, 7 / 32, 24 / 32]) - score) < 1e-12


def test_a_ranking_of_some_layers_does_not_harden(sentinelnn, campaign, tmp_path):
    assert sentinelnn.run(campaign.rank_args(tmp_path)).code == 0
    outcome = sentinelnn.run(
        ["harden", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
        + ["--ranking", tmp_path / "ranking.h5", "--output", tmp_path / "hardened.pth"]
    )
    assert outcome.code == 65
    assert len(outcome.messages) == 1 and "layer1.0.conv1" in outcome.messages[0]


def test_bench_hashes_the_same_rows(sentinelnn):
    reports = [
        json.loads(sentinelnn.run(["bench", "--json", "--trials", "12"], ranks).out)
        for ranks in (0, 1, 3)
    ]
    assert [report["ranks"] for report in reports] == [1, 1, 3]
    assert len({report["rows_sha256"] for report in reports}) == 1
