"""failures.py against numbers worked out by hand."""

from __future__ import annotations

import failures
import numpy as np
import pytest
from conftest import Sample, outcome
from intervals import Group, difference_interval
from results import Result


def test_single_flips_by_bit(single):
    # bit 30: 0.4 and 0.6, two trials count as one: all of [0, 1]
    # bit 0: no failure in 3: -ln(0.05)/3
    with Result(single) as result:
        table = failures.failures_by(result, "bit", 0, 0).set_index("bit")
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
        table = failures.failures_by(result, "bit", 0, 0).set_index("bit")
        layers = failures.failures_by(result, "layer", 0, 0).set_index("layer")
    assert table["estimate"][30] == pytest.approx(0.4)
    hit, other = (np.tile([share, share + 0.02], 6) for share in (0.5, 0.1))
    groups = (Group(values, np.ones(12)) for values in (hit, other))
    expected = difference_interval(*groups, 0.95)
    assert table["upper"][30] == pytest.approx(expected.upper)
    assert table["method"][30] == "two-sample betting"
    assert np.isnan(table["estimate"][1])  # in every trial: nothing to compare with
    assert np.isnan(layers["estimate"]["stem"]) and layers["with_it"]["linear"] == 0


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
        assert failures.chosen_point(result) == 1
