"""summaries.py against numbers worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import report_design
import summaries
from conftest import Sample, _rows, outcome, plan, strata_of
from intervals import betting_interval
from results import Result
from schema import ESTIMATE

ACCURACIES = np.array([0.5, 0.7, 0.9, 0.7])  # of the first model in `paired`
BISECTED = 1e-9  # ends of betting intervals, found by halving


def test_accuracy_with_its_interval(paired):
    with Result(paired) as result:
        before = summaries.accuracy_table(result).iloc[0]
    expected = betting_interval(ACCURACIES, 0.95)
    assert before["estimate"] == pytest.approx(0.7)
    assert before["lower"] == pytest.approx(expected.lower, abs=BISECTED)
    assert before["upper"] == pytest.approx(expected.upper, abs=BISECTED)
    assert (before["trials"], before["planned"], before["flips"]) == (4, 4, 2)
    assert (before["fault_free"], before["method"]) == (0.9, "betting")


def test_paired_gain(paired):
    # 0.3 0.2 0.0 0.1; of the differences to the fault-free 0.9 and 0.89: 0.01 more
    with Result(paired) as result:
        gain = summaries.gain_table(result).iloc[0]
    expected = betting_interval(np.array([0.31, 0.21, 0.01, 0.11]), 0.95, -0.99, 1.01)
    assert gain["estimate"] == pytest.approx(0.15)
    assert gain["upper"] == pytest.approx(expected.upper - 0.01, abs=BISECTED)
    assert gain["method"] == "paired betting"


@pytest.mark.parametrize(("n", "method"), [(3, "two-sample betting"), (600, "Welch")])
def test_independent_faults_are_compared_as_two_samples(tmp_path, n, method):
    trials = [
        outcome(0, i, m, c, 90 - c) for i in range(n) for m, c in ((0, 50 + i % 3), (1, 80 + i % 3))
    ]
    sample = Sample(points=(("exact:8", 0.0, n),), trials=trials)
    with Result(sample.write(tmp_path / "two.h5")) as result:
        gain = summaries.gain_table(result).iloc[0]
    assert gain["method"] == method and gain["estimate"] == pytest.approx(0.3)
    assert gain["lower"] < 0.3 < gain["upper"]


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


def test_running_estimates_end_at_the_estimate(paired):
    with Result(paired) as result:
        running = summaries.running_estimates(result, 0, 0)
        final = summaries.accuracy_table(result).iloc[0]
    assert list(running["trials"])[0] == 2
    assert running["estimate"].iloc[0] == pytest.approx(0.6)
    assert running["lower"].iloc[-1] == pytest.approx(final["lower"])


def test_failing_is_computed_or_the_stored_one(paired):
    # critical + due of 100: 45 25 5 25
    with Result(paired) as result:
        row = summaries.outcome_table(result).iloc[0]
    assert row["failing"] == pytest.approx(0.25)
    expected = betting_interval(np.array([0.45, 0.25, 0.05, 0.25]), 0.95)
    assert row["failing_upper"] == pytest.approx(expected.upper, abs=BISECTED)
    stored = {"point": 0, "model": 0, "against": -1, "quantity": "failing", "estimate": 0.42}
    with h5py.File(paired, "a") as file:
        del file["estimates"]
        file["estimates"] = _rows(ESTIMATE, [stored | {"lower": 0.4, "upper": 0.44}])
    with Result(paired) as result:
        row = summaries.outcome_table(result).iloc[0]
    assert [row["failing_lower"], row["failing"], row["failing_upper"]] == [0.4, 0.42, 0.44]


def test_a_rate_of_zero_is_named_and_a_fixed_number_is_not_a_rate(tmp_path):
    def labels(*points):
        with Result(Sample(points=points).write(tmp_path / "labels.h5")) as result:
            return list(summaries.point_labels(result).values())

    assert labels(("binomial", 0.0, 4), ("binomial", 1e-6, 4)) == ["BER 0", "BER 1e-6"]
    assert labels(("per-layer-floor", 0.0, 4)) == ["BER 0"]
    assert labels(("exact:8", 0.0, 4)) == ["exact:8"]


def test_ber_labels():
    assert [summaries.number(x) for x in (1e-6, 5e-5, 2.5e-3)] == ["1e-6", "5e-5", "2.5e-3"]


def test_a_gain_without_stored_interval_is_that_of_the_weighted_means(tmp_path):
    trials = [
        outcome(0, i, m, c, 90 - c) | {"stratum": h}
        for i, h in enumerate((0, 1, 2))
        for m, c in ((0, (10, 40, 90)[h]), (1, (60, 80, 90)[h]))
    ]
    sample = Sample(trials=trials, strata=strata_of(0), plans=[plan(0, "stratified")])
    with Result(sample.write(tmp_path / "gain.h5")) as result:
        gain = summaries.gain_table(result).iloc[0]
    assert gain["estimate"] == pytest.approx(0.03125 * 0.5 + 0.09375 * 0.4)
    assert np.isnan(gain["lower"]) and gain["method"] == "weighted mean"


# ---- what failed -------------------------------------------------------------------------------


def _point(**other: object) -> SimpleNamespace:
    usual = {"id": 0, "estimand": "T2", "fault_model": "binomial", "ber": 1e-3}
    kinds = {"effect": "flip", "shape": "bit", "target": "weight", "selection": ""}
    kinds["lifetime"] = ""
    return SimpleNamespace(**(usual | kinds | other))


def test_points_say_what_fails_and_how() -> None:
    words = report_design.estimand_words
    assert "when each stored weight bit flips with" in words(_point())
    stuck = _point(effect="stuck-at-1", target="bias,scale", selection="bits exponent")
    assert "each bit of stored bias, scale (bits exponent) is stuck-at-1" in words(stuck)
    assert "each bit of the outputs of convolutions and linear layers flips" in words(
        _point(target="activation", lifetime="image")
    )
    assert "each word of stored weight is replaced (random-word)" in words(
        _point(effect="random-word")
    )
    assert "an event (flip, burst:3) starts at each bit" in words(_point(shape="burst:3"))
    single = {"estimand": "T1", "fault_model": "exact:1", "ber": 0.0}
    assert "one uniform bit flip makes" in words(_point(**single))
    assert "one uniform fault (random-word) makes" in words(_point(effect="random-word", **single))
    assert "5 bits flip (exact:5)" in words(_point(estimand="", fault_model="exact:5", ber=0.0))
    listed = _point(estimand="listed", fault_model="listed", effect="listed", shape="listed", ber=0.0)
    assert "a list of faults" in words(listed)


def test_rates_are_per_image_where_images_have_faults_of_their_own() -> None:
    units = {
        ("flip", "bit", ""): "flips per bit and trial",
        ("flip", "bit", "permanent"): "flips per bit and trial",
        ("flip", "bit", "image"): "flips per bit, image and trial",
        ("stuck-at-1", "bit", "image"): "faults per bit, image and trial",
        ("random-word", "bit", "image"): "faults per word, image and trial",
        ("flip", "burst:2", "image"): "events per bit, image and trial",
    }
    for (effect, shape, lifetime), unit in units.items():
        point = _point(effect=effect, shape=shape, lifetime=lifetime)
        assert summaries.rate_words(point)[1] == unit


def test_the_unit_of_strata_counts_where_only_they_count_images() -> None:
    whole, strata = ({"method": [word]} for word in ("stratified t", "Clopper-Pearson over images"))
    result = SimpleNamespace(
        points=pd.DataFrame([vars(_point(target="activation", lifetime="image"))]),
        estimates=pd.DataFrame(whole),
        stratum_estimates=pd.DataFrame(whole),
    )
    assert "The unit is the trial." in report_design.unit_words(result)
    result.stratum_estimates = pd.DataFrame(strata)
    assert "the unit is the image where the method says so" in report_design.unit_words(result)


def test_faults_that_are_no_flips_are_not_counted_as_flips() -> None:
    def table(**other: object) -> SimpleNamespace:
        return SimpleNamespace(points=pd.DataFrame([vars(_point(**other))]))

    assert summaries.count_words(table()) == "Flips"
    assert summaries.count_words(table(effect="random-word")) == "Faults"
    assert summaries.count_words(table(shape="burst:2")) == "Faults"
    assert summaries.fault_words(table()) == "weight faults"
    assert summaries.fault_words(table(target="scale", effect="stuck-at-0")) == (
        "faults in scale (stuck-at-0)"
    )
    assert summaries.point_labels(table(shape="burst:2")) == {0: "event rate 1e-3"}
