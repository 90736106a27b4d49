"""failures.py against numbers worked out by hand."""

from __future__ import annotations

import failures
import numpy as np
import pytest
import report
from conftest import Sample, outcome
from hdf5 import ResultError
from intervals import Group, difference_interval, images_interval, mover
from rankings import sources_of
from results import Result
from scipy.stats import beta


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


def own_faults(path, sites: list, fault_model: str):
    """One model, one point, trials of 100 images; `sites`: (tensor, element, bit, image, outcome)
    of every trial. Outcomes: 0 masked, 1 other logits, 2 critical, 3 DUE."""
    trials = []
    for i, trial in enumerate(sites):
        of_image = {site[3]: site[4] for site in trial}
        critical, due = (list(of_image.values()).count(kind) for kind in (2, 3))
        trials.append(outcome(0, i, 0, 50, critical, due))
    sample = Sample(
        models=("unprotected",), points=((fault_model, 1e-5, len(trials)),), trials=trials,
        faults=sites, kind_of_fault={"target": "activation", "lifetime": "image"},
    )  # fmt: skip
    return sample.write(path)


def test_single_faults_of_images_count_by_image(tmp_path):
    # bit 30 in images 0 ... 39 of both trials: 30 + 10 of 80 fail; bit 3 in the others: none
    sites = [
        [
            (0, 1, 30 if i < 40 else 3, i, (2 if i % 2 else 3) if i < failing else 1)
            for i in range(100)
        ]
        for failing in (30, 10)
    ]
    with Result(own_faults(tmp_path / "own.h5", sites, "exact:1")) as result:
        assert failures.chosen_point(result) == 0 and failures.has_one_fault(result, 0)
        table = failures.failures_by(result, "bit", 0, 0).set_index("bit")
    assert table["estimate"][30] == 0.5 and table["with_it"][30] == 80
    assert table["lower"][30] == pytest.approx(beta.ppf(0.025, 40, 41))
    assert table["upper"][30] == pytest.approx(beta.ppf(0.975, 41, 40))
    assert table["estimate"][3] == 0 and table["with_it"][3] == 120
    assert table["upper"][3] == pytest.approx(1 - 0.025 ** (1 / 120))


def test_several_faults_of_images_are_compared_with_images_without(tmp_path):
    # of 20 images with bit 30 12 fail, of 30 others with a fault 3; 150 have none
    hit = [(0, 1, 30, i, 2 if i < 6 else 0) for i in range(10)]
    hit += [(1, 1, 5, i, 2 if i < 6 else 0) for i in range(10)]  # the same images
    first = hit + [(0, 1, 4, i, 3 if i < 13 else 1) for i in range(10, 40)]
    second = [site for site in hit if site[0] == 0]
    with Result(own_faults(tmp_path / "own.h5", [first, second], "binomial")) as result:
        assert not failures.has_one_fault(result, 0)
        table = failures.failures_by(result, "bit", 0, 0).set_index("bit")
        page = report.render(sources_of(result))
    assert "Images with a fault there" in page and "Images without" in page
    assert table["with_it"][30] == 20 and table["without"][30] == 180
    assert table["estimate"][30] == pytest.approx(12 / 20 - 3 / 180)
    mine, other = images_interval(12, 20, 0.95), images_interval(3, 180, 0.95)
    assert table["lower"][30] == pytest.approx(mover(mine, other, "").lower)
    assert table["method"][30] == "MOVER of Clopper-Pearson over images"


def test_outcomes_that_an_earlier_version_did_not_tell(tmp_path):
    sites = [[(0, 1, 30, i, 255) for i in range(100)]]
    with Result(own_faults(tmp_path / "old.h5", sites, "exact:1")) as result:
        assert not failures.tells_places(result, 0)
        with pytest.raises(ResultError, match="outcomes of images of point 0 are not stored"):
            failures.failures_by(result, "bit", 0, 0)


def test_shares_over_images_cover_what_they_estimate():
    """Images fail with different chances, each trial sees a random block of them, and a fault is in
    the place or not by chance."""
    rng = np.random.default_rng(1)
    chances = rng.beta(0.15, 1.5, 48)
    blocks = rng.permutation(48).reshape(6, 8)
    covered = 0
    for _ in range(2000):
        seen = blocks[rng.integers(0, 6, 40)].ravel()
        hit = rng.random(len(seen)) < 0.3
        failing = rng.random(len(seen)) < chances[seen]
        interval = images_interval(int(failing[hit].sum()), int(hit.sum()), 0.95)
        covered += interval.lower <= chances.mean() <= interval.upper
    assert covered / 2000 > 0.935
