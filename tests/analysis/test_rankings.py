"""rankings.py: scores of several files, and how far the methods agree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import agreement
import numpy as np
import pandas as pd
import pytest
import rankings
import report
from agreement import Flips
from conftest import LAYERS, Sample, outcome, write_ranking
from hdf5 import ResultError
from results import Result

REPORT = Path(__file__).resolve().parents[2] / "analysis" / "report.py"
BENCH = Path(__file__).resolve().parents[1] / "bench" / "rank_correlation.py"
STEM, CONV = LAYERS[:2]


@pytest.fixture
def channel_trials(tmp_path: Path) -> Path:
    """Running trials of channel-FI: channels 0 and 2 of the stem have trials, 1 none yet; the
    second layer is not looked at."""
    points = [(f"channel:{layer}:{c}", 0.0, 2 * (layer == STEM)) for layer in (STEM, CONV)
              for c in range(3)]  # fmt: skip
    trials = [
        outcome(point, i, 0, 90 - fail, fail)
        for point, fails in ((0, (10, 30)), (2, (0, 10)))
        for i, fail in enumerate(fails)
    ]
    sample = Sample(
        models=("unprotected",), points=tuple(points), trials=trials, complete=False,
        estimands=("T1 of a channel",) * 6,
    )  # fmt: skip
    return sample.write(tmp_path / "channel-FI.h5.trials.h5")


def test_trials_of_channel_fi_give_scores_as_far_as_they_are(channel_trials):
    with Result(channel_trials) as result:
        assert rankings.holds_channels(result)
        table = rankings.importance_of(result)
    assert list(table["layer"].unique()) == [STEM] and set(table["method"]) == {"channel-FI"}
    assert table["score"].to_numpy() == pytest.approx([0.2, np.nan, 0.05], nan_ok=True)
    assert table["accuracy"].to_numpy() == pytest.approx([0.7, np.nan, 0.85], nan_ok=True)
    assert list(table["trials"]) == [2, 0, 2] and table["rank"][0] == 0
    assert table["lower"][0] <= 0.2 <= table["upper"][0]


def test_files_join_and_known_methods_are_not_listed_twice(paired, tmp_path):
    same = write_ranking(tmp_path / "same.h5", "l2-norm", {STEM: [1, 3, 2], CONV: [1, 3, 2]})
    other = write_ranking(tmp_path / "other.h5", "l2-norm", {STEM: [3, 2, 1], CONV: [1, 3, 2]})
    sampled = write_ranking(tmp_path / "fi.h5", "channel-FI", {STEM: [0.1, 0.3, 0.2]}, trials=9)
    with Result(paired) as result:
        table = rankings.sources_of(result, [same, other, sampled]).importance
    assert list(table["method"].unique()) == ["l2-norm", "l2-norm (other)", "channel-FI"]
    assert agreement.layers_in_order(table) == [STEM, CONV]
    assert set(table.loc[table["method"] == "channel-FI", "trials"]) == {9}


def test_rank_correlation_by_hand(tmp_path):
    files = [
        write_ranking(tmp_path / "a.h5", "l1-norm", {STEM: [1, 2, 3, 4], CONV: [1, 1, 1]}),
        write_ranking(tmp_path / "b.h5", "deepvigor", {STEM: [1, 2, 4, 3], CONV: [1, 2, 3]}),
        write_ranking(tmp_path / "c.h5", "salience", {STEM: [4, 3, 2], CONV: [9, 5, 1]}),
    ]
    table = rankings.add_rankings(rankings.read_ranking(files[0]), files[1:])
    assert agreement.reference_of(table["method"].unique()) == "deepvigor"
    found = agreement.rank_correlation(table, "deepvigor")
    # one swap of neighbours among four: 1 - 6 * 2/(4 * 15)
    assert found["l1-norm"][STEM] == pytest.approx(0.8)
    assert np.isnan(found["l1-norm"][CONV])  # equal scores have no order
    assert np.isnan(found["salience"][STEM])  # a network of another width
    assert found["salience"][CONV] == pytest.approx(-1)


def one_layer(scores, other, **bounds):
    """Scores of channel-FI and of another method in one layer."""
    channels = {"layer": "stem", "channel": range(len(scores))}
    nothing = {"lower": np.nan, "upper": np.nan}
    parts = [
        pd.DataFrame({"method": "channel-FI", "score": scores} | channels | nothing | bounds),
        pd.DataFrame({"method": "l2-norm", "score": other} | channels | nothing),
    ]
    return pd.concat(parts, ignore_index=True)


def test_a_correlation_is_as_uncertain_as_the_flips_behind_it():
    random = np.random.default_rng(20260102)
    truth = np.linspace(0.02, 0.4, 16)
    widths = []
    for flips in (20, 2000):
        shares = [(random.random(flips) < share).astype(float) for share in truth]
        drawn = {("stem", c): Flips([share], [1.0]) for c, share in enumerate(shares)}
        table = one_layer([share.mean() for share in shares], truth)
        found = agreement.agreement(table, "channel-FI", drawn, 0.95, replicates=200)
        row = found[found["layer"] == "stem"].iloc[0]
        assert row["over"] == "flips" and row["upper"] > 0.8
        assert row["lower"] < row["estimate"] <= row["upper"]
        widths.append(row["upper"] - row["lower"])
        mean = found[found["layer"] == agreement.MEAN].iloc[0]
        assert mean["estimate"] == row["estimate"]
    assert widths[0] > 3 * widths[1]
    over = agreement.agreement(table, "channel-FI", {}, 0.95, replicates=200)["over"]
    assert set(over) == {"channels"}


def test_flips_are_drawn_again_within_their_strata():
    # Half of the weight, and ever the same share there: only the other half varies.
    flips = Flips([np.array([0.0, 1.0]), np.full(5, 0.3)], [0.5, 0.5])
    drawn = agreement._drawn(flips, 400, np.random.default_rng(1))
    assert set(np.round(drawn, 12)) == {0.15, 0.4, 0.65}


def test_scores_that_are_mostly_error_make_a_correlation_grey():
    scores, other = [0.10, 0.11, 0.12, 0.13], [1, 2, 4, 3]
    for half, noise in ((0.002, False), (0.05, True)):
        bounds = {"lower": np.array(scores) - half, "upper": np.array(scores) + half}
        table = one_layer(scores, other, **bounds)
        assert set(agreement.agreement(table, "channel-FI", {}, 0.95, 10)["noise"]) == {noise}


def test_the_trials_of_channel_fi_are_the_flips(channel_trials, tmp_path):
    norm = write_ranking(tmp_path / "l2.h5", "l2-norm", {STEM: [1, 9, 2]})
    with Result(channel_trials) as result:
        flips = rankings.sources_of(result, [norm]).flips
    assert set(flips) == {(STEM, 0), (STEM, 2)}
    assert list(flips[STEM, 0].shares[0]) == [0.1, 0.3] and flips[STEM, 0].weights == [1]


def test_a_ranking_of_another_network_is_refused_in_one_sentence(tmp_path):
    sample = Sample(trials=[outcome(0, 0, 0, 50, 40)], networks=("a" * 64, "b" * 64))
    path = sample.write(tmp_path / "result.h5")
    ranking = tmp_path / "r.h5"
    with Result(path) as result:
        for network in ("a" * 64, "b" * 64, ""):
            write_ranking(ranking, "l2-norm", {STEM: [1, 9, 2]}, network)
            sources = rankings.sources_of(result, [ranking])
            assert sources.unnamed == ([] if network else ["r.h5"])
        assert "r.h5 does not say which network it ranks" in report.render(sources)
    write_ranking(ranking, "l2-norm", {STEM: [1, 9, 2]}, "c" * 64)
    command = [sys.executable, str(REPORT), path, "--rankings", ranking]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 65 and done.stderr.count("\n") == 1
    assert "r.h5: ranks the network cccccccccccc, but the result holds unprotected" in done.stderr


def test_channels_without_trials_are_left_out_of_the_correlation(channel_trials, tmp_path):
    norm = write_ranking(tmp_path / "l2.h5", "l2-norm", {STEM: [1, 9, 2]})
    with Result(channel_trials) as result:
        table = rankings.sources_of(result, [norm]).importance
    assert agreement.rank_correlation(table, "channel-FI")["l2-norm"][STEM] == pytest.approx(-1)


def test_files_without_scores_and_foreign_files_are_named(empty, tmp_path):
    with pytest.raises(ResultError, match="empty.h5: holds no scores of channels"):
        rankings.read_ranking(empty)
    with pytest.raises(ResultError, match="absent.h5: no such file"):
        rankings.read_ranking(tmp_path / "absent.h5")
    ranking = write_ranking(tmp_path / "l2.h5", "l2-norm", {STEM: [1, 9, 2]})
    with pytest.raises(ResultError, match="l2.h5: not a SentinelNN result"):
        Result(ranking)


def test_the_bench_program_prints_the_same_numbers(tmp_path):
    first = write_ranking(tmp_path / "first.h5", "l2-norm", {STEM: [1, 2, 4, 3], CONV: [1, 2, 3]})
    again = write_ranking(tmp_path / "again.h5", "l2-norm", {STEM: [1, 2, 3, 4], CONV: [3, 2, 1]})
    command = [sys.executable, str(BENCH), str(first), str(again)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        "| layer | channels | again |",
        "|---|---|---|",
        f"| {STEM} | 4 | 0.80 |",
        f"| {CONV} | 3 | -1.00 |",
        "| mean | | -0.10 |",
    ]
