"""intervals.py against numbers worked out by hand."""

from __future__ import annotations

import intervals
import numpy as np
import pytest

SHARE = -np.log(0.05) / 4  # what the rule of three allows of the range after 4 trials


def bounds(interval):
    return [interval.lower, interval.estimate, interval.upper]


def test_t_quantiles_of_the_printed_tables():
    assert intervals.t_quantile(3, 0.95) == pytest.approx(3.182446, abs=1e-6)
    assert intervals.t_quantile(1, 0.95) == pytest.approx(12.706205, abs=1e-6)


def test_equal_outcomes_have_an_interval_of_some_width():
    for value in (0.0, 0.4, 1.0):
        interval = intervals.t_interval(np.full(4, value), 0.95)
        expected = [value * (1 - SHARE), value, value + SHARE * (1 - value)]
        assert bounds(interval) == pytest.approx(expected)
        assert (interval.method, interval.trials) == ("rule of three", 4)
    assert bounds(intervals.t_interval(np.full(2, 0.4), 0.95)) == [0, 0.4, 1]  # 3/2 > 1: all of it


def test_equal_differences_and_equal_groups_have_one_too():
    expected = [0.1 - SHARE * 1.1, 0.1, 0.1 + SHARE * 0.9]
    # the same difference of 10 images, but for the rounding of the shares
    differences = np.array([0.9 - 0.8, 0.5 - 0.4, 0.3 - 0.2, 0.1])
    assert np.ptp(differences) > 0
    paired = intervals.paired_interval(differences, 0.95)
    assert bounds(paired) == pytest.approx(expected) and paired.method == "paired rule of three"
    welch = intervals.welch_interval(np.full(4, 0.5), np.full(9, 0.4), 0.95)
    assert bounds(welch) == pytest.approx(expected)
    assert (welch.method, welch.trials) == ("rule of three", 13)
    groups = (intervals.t_interval(np.full(4, share), 0.95) for share in (0.5, 0.4))
    mover = intervals.difference_interval(*groups)
    assert mover.lower == pytest.approx(0.1 - np.hypot(SHARE * 0.5, SHARE * 0.6))


def test_one_trial_tells_nothing():
    one = np.array([0.3])
    assert bounds(intervals.t_interval(one, 0.95)) == [0, 0.3, 1]
    assert bounds(intervals.paired_interval(one, 0.95)) == [-1, 0.3, 1]
    assert bounds(intervals.welch_interval(one, np.zeros(5), 0.95)) == [-1, 0.3, 1]


def test_a_group_without_failures_still_bounds_the_difference():
    hit, other = np.array([0.2, 0.4] * 10), np.zeros(30)
    own = intervals.t_interval(hit, 0.95)
    interval = intervals.difference_interval(own, intervals.t_interval(other, 0.95))
    assert interval.estimate == pytest.approx(0.3)
    below = np.hypot(0.3 - own.lower, -np.log(0.05) / 30)  # the rule of three for 0 of 30
    assert interval.lower == pytest.approx(0.3 - below) and interval.upper == pytest.approx(
        own.upper
    )


def test_equal_weights_give_the_t_interval():
    values = np.array([0.5, 0.7, 0.9, 0.7])
    weighted = intervals.weighted_interval(values, np.full(4, 0.125), 0.95)
    assert bounds(weighted) == pytest.approx(bounds(intervals.t_interval(values, 0.95)))
    assert weighted.method == "t over trials"


def test_weights_shift_the_mean_and_cost_trials():
    # weights 3:1:1:1 of 1 0 0 0: mean 1/2; share^2 (x - mean)^2: 1/16 + 3/144, times 4/3
    values, weights = np.array([1.0, 0, 0, 0]), np.array([3.0, 1, 1, 1])
    interval = intervals.weighted_interval(values, weights, 0.95, -10, 10)
    effective = 36 / 12
    half = intervals.t_quantile(effective - 1, 0.95) * ((1 / 16 + 3 / 144) * 4 / 3) ** 0.5
    assert bounds(interval) == pytest.approx([0.5 - half, 0.5, 0.5 + half])
    # no failure at all: the rule of three, of the effective number of trials
    none = intervals.weighted_interval(np.zeros(4), weights, 0.95)
    assert none.upper == pytest.approx(-np.log(0.05) / effective)
