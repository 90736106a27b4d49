"""However many ranks and whichever engine: the same rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drill import PLACE_AND_TIME, Result


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
    split = ("masked", "sdc_noncritical", "path")
    for name in slow.trials.dtype.names:
        if name not in PLACE_AND_TIME and name not in split:
            assert np.array_equal(slow.trials[name], fast.trials[name]), name
    assert np.array_equal(slow.sites, fast.sites)
    assert set(slow.trials["path"]) == {0}
    assert set(fast.trials["path"]) == {1}


def test_bench_hashes_the_same_rows(sentinelnn):
    reports = [
        json.loads(sentinelnn.run(["bench", "--json", "--trials", "12"], ranks).out)
        for ranks in (0, 1, 3)
    ]
    assert [report["ranks"] for report in reports] == [1, 1, 3]
    assert len({report["rows_sha256"] for report in reports}) == 1
