"""Result.mean by hand; tests/drills/test_estimates.py compares it with the program."""

from __future__ import annotations

import numpy as np
import pytest
import summaries
from checkpoints import element_in_file
from conftest import Sample, outcome, plan, strata_of
from hdf5 import ResultError
from results import Result

OUTCOMES = ("masked", "sdc_noncritical", "sdc_critical", "due")


def test_accuracy_is_what_faults_take_away_from_the_fault_free(stratified):
    # Lost: 60 of 100 images of stratum 0, 10 of stratum 1, none of stratum 2
    with Result(stratified) as result:
        expected = 0.9 - 0.03125 * 0.6 - 0.09375 * 0.1
        assert result.mean("accuracy", 0, "unprotected") == pytest.approx(expected)
        assert result.mean("failing", 0, 0) == pytest.approx(0.028125)


def test_a_stratum_drawn_too_often_moves_the_loss_and_not_the_accuracy(tmp_path):
    # Nothing ever fails, but stratum 2 (7/8 of the population, drawn half of the time) came only
    # once: the weights sum to 0.9375, and so would their weighted accuracies to 0.84.
    strata, probability = (0, 1, 0, 2), (0.25, 0.25, 0.25, 0.5)
    trials = [
        outcome(0, i, 0, 90, 0) | {"stratum": h, "probability": q}
        for i, (h, q) in enumerate(zip(strata, probability))
    ]
    sample = Sample(
        models=("unprotected",), points=(("exact:1", 0.0, 4),), trials=trials,
        strata=strata_of(0), plans=[plan(0, "sequential", used=4)],
    )  # fmt: skip
    with Result(sample.write(tmp_path / "often.h5")) as result:
        weighted = (result.trials["accuracy"] * result.trials["weight"]).sum()
        assert weighted < 0.6 and result.mean("accuracy", 0, 0) == pytest.approx(0.9)


def test_blocks_are_compared_with_themselves_without_faults(sequential):
    with Result(sequential) as result:
        # All predictions of the sample are right: a trial of 90 or 40 right images lost 10 or 60.
        trials = result.trials
        lost = (1 - trials["accuracy"]) * trials["weight"] * len(trials)
        assert result.mean("accuracy", 0, 0) == pytest.approx(0.9 - lost.mean())


def test_the_difference_of_two_networks_is_that_of_their_trials(paired):
    with Result(paired) as result:
        assert result.mean("accuracy", 0, "hardened", "unprotected") == pytest.approx(0.15)


def test_a_group_counts_strata_by_their_shares(stratified):
    with Result(stratified) as result:
        where = result.trials["stratum"] < 2
        expected = (0.03125 * 0.6 + 0.09375 * 0.1) / 0.125
        assert result.mean("failing", 0, 0, where=where) == pytest.approx(expected)
        nobody = result.mean("failing", 0, 0, where=where & ~where)
        assert np.isnan(nobody)


def test_shares_with_centres_sum_to_one_and_are_not_negative(tmp_path):
    # Two trials of rounds centred at 1/4 each and at (0.7, 0.2, 0.1, 0): W/q = 0.875/0.25 = 3.5
    trials = [
        outcome(0, 0, 0, 90, 0) | {"stratum": 2, "probability": 0.25},
        outcome(0, 1, 0, 40, 50, 10) | {"stratum": 2, "probability": 0.25},
    ]
    centres = np.array([[0.25] * 4, [0.7, 0.2, 0.1, 0.0]])
    rows = [
        {"point": 0, "round": r, "model": 0} | dict(zip(OUTCOMES, centres[r].tolist()))
        for r in (0, 1)
    ]
    sample = Sample(
        models=("unprotected",), points=(("exact:1", 0.0, 2),), trials=trials, centres=rows,
        strata=strata_of(0), plans=[plan(0, "sequential", used=2)],
        rounds=[{"point": 0, "round": r, "stratum": 0, "first": r, "trials": 1} for r in (0, 1)],
    )  # fmt: skip
    y = np.array([[0.5, 0.5, 0, 0], [0.2, 0.2, 0.5, 0.1]])
    expected = (centres + 3.5 * (y - centres)).mean(axis=0)
    assert expected.min() < 0 and expected.sum() == pytest.approx(1)
    expected = np.maximum(expected, 0) / np.maximum(expected, 0).sum()
    with Result(sample.write(tmp_path / "centres.h5")) as result:
        found = [result.mean(name, 0, 0) for name in OUTCOMES]
        assert found == pytest.approx(expected.tolist())
        assert result.mean("failing", 0, 0) == pytest.approx(expected[2] + expected[3])
        row = summaries.outcome_table(result).iloc[0]
    assert sum(row[name] for name in OUTCOMES) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("precision", 0, 0), "no quantity 'precision'"), (("due", 0, "best"), "no model 'best'")],
)
def test_unknown_names_are_named(paired, arguments, message):
    with Result(paired) as result, pytest.raises(ResultError, match=message):
        result.mean(*arguments)


def test_rows_of_a_grouped_checkpoint_have_their_copies_behind_the_first():
    # Five channels of two words, two duplicated: the file has rows 0 1 0' 1' 2 3 4.
    found = element_in_file(np.arange(14), originals=10, elements=14)
    rows = found[::2] // 2
    assert list(rows) == [0, 1, 4, 5, 6, 2, 3] and list(found % 2) == [0, 1] * 7
    own = element_in_file(np.arange(14), originals=10, elements=14, layout="own")
    assert list(own) == list(range(14))
