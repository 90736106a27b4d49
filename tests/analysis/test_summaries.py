"""summaries.py against numbers worked out by hand."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import summaries
from conftest import Sample, _rows, outcome
from results import ESTIMATE, Result, ResultError


def test_t_quantiles_of_the_printed_tables():
    assert summaries.t_quantile(3, 0.95) == pytest.approx(3.182446, abs=1e-6)
    assert summaries.t_quantile(1, 0.95) == pytest.approx(12.706205, abs=1e-6)


def test_accuracy_with_its_t_interval(paired):
    # 0.5 0.7 0.9 0.7: mean 0.7, s = sqrt(0.08/3); 3.182446 s / 2 = 0.259846
    with Result(paired) as result:
        before = summaries.accuracy_table(result).iloc[0]
    assert before["estimate"] == pytest.approx(0.7)
    assert before["lower"] == pytest.approx(0.7 - 0.259846, abs=1e-6)
    assert before["upper"] == pytest.approx(0.7 + 0.259846, abs=1e-6)
    assert (before["trials"], before["planned"], before["flips"]) == (4, 4, 2)
    assert before["fault_free"] == 0.9


def test_paired_gain(paired):
    # differences 0.3 0.2 0.0 0.1: mean 0.15, s = sqrt(0.05/3); 3.182446 s / 2 = 0.205426
    with Result(paired) as result:
        gain = summaries.gain_table(result).iloc[0]
    assert gain["estimate"] == pytest.approx(0.15)
    assert gain["upper"] - gain["estimate"] == pytest.approx(0.205426, abs=1e-6)
    assert gain["method"] == "paired t over trials"


def test_independent_faults_are_compared_by_welch(tmp_path):
    trials = [outcome(0, i, m, c, 90 - c) for i in range(3) for m, c in ((0, 50 + i), (1, 80 + i))]
    sample = Sample(points=(("exact:8", 0.0, 3),), trials=trials)
    with Result(sample.write(tmp_path / "welch.h5")) as result:
        gain = summaries.gain_table(result).iloc[0]
    # both variances 1e-4, n = 3, df = 4: 2.776445 sqrt(2e-4/3)
    assert gain["method"] == "Welch"
    assert gain["estimate"] - gain["lower"] == pytest.approx(2.776445 * (2e-4 / 3) ** 0.5, abs=1e-8)


def test_a_stored_estimate_wins(tmp_path):
    row = {"point": 0, "model": 0, "against": -1, "quantity": "accuracy", "estimate": 0.42}
    row |= {"lower": 0.4, "upper": 0.44, "confidence": 0.95, "method": "t over trials", "trials": 1}
    sample = Sample(trials=[outcome(0, 0, 0, 50, 40)], estimates=[row])
    with Result(sample.write(tmp_path / "stored.h5")) as result:
        assert summaries.accuracy_table(result).iloc[0]["estimate"] == 0.42


def test_outcome_shares_are_means_over_trials_and_sum_to_one(paired):
    with Result(paired) as result:
        table = summaries.outcome_table(result)
    assert table["sdc_critical"][0] == pytest.approx(0.2) and table["due"][0] == pytest.approx(0.05)
    total = table[["masked", "sdc_noncritical", "sdc_critical", "due"]].sum(axis=1)
    assert total.to_numpy() == pytest.approx(np.ones(len(table)))


def test_overhead_ratios(paired):
    with Result(paired) as result:
        table = summaries.overhead_table(result)
    assert table["parameters_ratio"][1] == pytest.approx(1.1)
    assert table["macs_ratio"][1] == pytest.approx(1.12)
    assert table["memory_bytes_ratio"][1] == pytest.approx(1.11)


def test_single_flips_by_bit(single):
    # bit 30: 0.4 and 0.6, t_1 = 12.7 clips to [0, 1]; bit 0: no failure in 3, -ln(0.05)/3 > 1 -> 1
    with Result(single) as result:
        table = summaries.failures_by(result, "bit", 0, 0).set_index("bit")
    assert table["estimate"][30] == pytest.approx(0.5) and table["with_it"][30] == 2
    assert table["estimate"][0] == 0 and table["with_it"][0] == 3
    assert table["upper"][0] == pytest.approx(min(1.0, -np.log(0.05) / 3))
    assert table["estimate"].drop([0, 30]).isna().all()


def test_several_flips_are_compared_with_trials_without(tmp_path):
    # 12 trials with bit 30 fail 50 or 52 of 100, 12 without fail 10 or 12: the difference is 0.4
    trials, faults = [], []
    for i in range(24):
        hit = i < 12
        trials.append(outcome(0, i, 0, 40, (50 if hit else 10) + 2 * (i % 2)))
        faults.append([(0, 0, 30 if hit else 3), (1, 0, 1)])
    points = (("binomial", 1e-5, 24),)
    sample = Sample(models=("unprotected",), points=points, trials=trials, faults=faults)
    with Result(sample.write(tmp_path / "several.h5")) as result:
        table = summaries.failures_by(result, "bit", 0, 0).set_index("bit")
        layers = summaries.failures_by(result, "layer", 0, 0).set_index("layer")
    assert table["estimate"][30] == pytest.approx(0.4)
    # s^2 = 12/11 * 1e-4 in each group of 12, df = 11: t = 2.200985; both half-widths add squared
    half = 2.200985 * (2 * 1e-4 / 11) ** 0.5
    assert table["upper"][30] - 0.4 == pytest.approx(half, abs=1e-8)
    assert np.isnan(table["estimate"][1])  # in every trial: nothing to compare with
    assert np.isnan(layers["estimate"]["stem"]) and layers["with_it"]["linear"] == 0


def test_a_group_without_failures_still_bounds_the_difference():
    hit, other = np.array([0.2, 0.4] * 10), np.zeros(30)
    interval = summaries.difference_interval(hit, other, 0.95)
    own = summaries.t_interval(hit, 0.95)
    assert interval.estimate == pytest.approx(0.3)
    below = np.hypot(0.3 - own.lower, -np.log(0.05) / 30)  # the rule of three for 0 of 30
    assert interval.lower == pytest.approx(0.3 - below) and interval.upper == pytest.approx(
        own.upper
    )


def test_the_point_shown_is_the_one_that_separates_bits(tmp_path):
    trials = [
        outcome(p, i, 0, 50, 40) | {"n_faults": n}
        for p, n in ((0, 1), (1, 20), (2, 500))
        for i in (0, 1)
    ]
    trials[0]["n_faults"] = 2
    points = tuple(("binomial", ber, 2) for ber in (1e-7, 1e-6, 1e-5))
    sample = Sample(models=("unprotected",), points=points, trials=trials)
    with Result(sample.write(tmp_path / "points.h5")) as result:
        assert summaries.chosen_point(result) == 1


def test_running_estimates_end_at_the_estimate(paired):
    with Result(paired) as result:
        running = summaries.running_estimates(result, 0, 0)
        final = summaries.accuracy_table(result).iloc[0]
    assert list(running["trials"])[0] == 2
    assert running["estimate"].iloc[0] == pytest.approx(0.6)
    assert running["lower"].iloc[-1] == pytest.approx(final["lower"])


def test_stratified_rows_are_refused_not_averaged(paired):
    with h5py.File(paired, "a") as file:
        rows = file["trials"][()]
        rows["stratum"] = 2
        file["trials"][...] = rows
    with Result(paired) as result, pytest.raises(ResultError, match="stratified"):
        summaries.accuracy_table(result)


SHARE = -np.log(0.05) / 4  # what the rule of three allows of the range after 4 trials


def bounds(interval):
    return [interval.lower, interval.estimate, interval.upper]


def test_equal_outcomes_have_an_interval_of_some_width():
    for value in (0.0, 0.4, 1.0):
        interval = summaries.t_interval(np.full(4, value), 0.95)
        expected = [value * (1 - SHARE), value, value + SHARE * (1 - value)]
        assert bounds(interval) == pytest.approx(expected)
        assert (interval.method, interval.trials) == ("rule of three", 4)
    assert bounds(summaries.t_interval(np.full(2, 0.4), 0.95)) == [0, 0.4, 1]  # 3/2 > 1: all of it


def test_equal_differences_and_equal_groups_have_one_too():
    expected = [0.1 - SHARE * 1.1, 0.1, 0.1 + SHARE * 0.9]
    # the same difference of 10 images, but for the rounding of the shares
    differences = np.array([0.9 - 0.8, 0.5 - 0.4, 0.3 - 0.2, 0.1])
    assert np.ptp(differences) > 0
    paired = summaries.paired_interval(differences, 0.95)
    assert bounds(paired) == pytest.approx(expected) and paired.method == "paired rule of three"
    welch = summaries.welch_interval(np.full(4, 0.5), np.full(9, 0.4), 0.95)
    assert bounds(welch) == pytest.approx(expected)
    assert (welch.method, welch.trials) == ("rule of three", 13)
    mover = summaries.difference_interval(np.full(4, 0.5), np.full(4, 0.4), 0.95)
    assert mover.lower == pytest.approx(0.1 - np.hypot(SHARE * 0.5, SHARE * 0.6))


def test_one_trial_tells_nothing():
    one = np.array([0.3])
    assert bounds(summaries.t_interval(one, 0.95)) == [0, 0.3, 1]
    assert bounds(summaries.paired_interval(one, 0.95)) == [-1, 0.3, 1]
    assert bounds(summaries.welch_interval(one, np.zeros(5), 0.95)) == [-1, 0.3, 1]


def test_failing_is_computed_or_the_stored_one(paired):
    # critical + due of 100: 45 25 5 25: mean 25, s = sqrt(800/3)
    with Result(paired) as result:
        row = summaries.outcome_table(result).iloc[0]
    assert row["failing"] == pytest.approx(0.25)
    assert row["upper"] == pytest.approx(0.25 + 3.182446 * (800 / 3) ** 0.5 / 200, abs=1e-6)
    stored = {"point": 0, "model": 0, "against": -1, "quantity": "failing", "estimate": 0.42}
    with h5py.File(paired, "a") as file:
        del file["estimates"]
        file["estimates"] = _rows(ESTIMATE, [stored | {"lower": 0.4, "upper": 0.44}])
    with Result(paired) as result:
        row = summaries.outcome_table(result).iloc[0]
    assert [row["lower"], row["failing"], row["upper"]] == [0.4, 0.42, 0.44]


def test_a_rate_of_zero_is_named_and_a_fixed_number_is_not_a_rate(tmp_path):
    def labels(*points):
        with Result(Sample(points=points).write(tmp_path / "labels.h5")) as result:
            return list(summaries.point_labels(result).values())

    assert labels(("binomial", 0.0, 4), ("binomial", 1e-6, 4)) == ["BER 0", "BER 1e-6"]
    assert labels(("per-layer-floor", 0.0, 4)) == ["BER 0"]
    assert labels(("exact:8", 0.0, 4)) == ["exact:8"]


def test_ber_labels():
    assert [summaries.number(x) for x in (1e-6, 5e-5, 2.5e-3)] == ["1e-6", "5e-5", "2.5e-3"]
