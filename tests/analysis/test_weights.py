"""weights.py and what is made with it: stratified and sequential rows stand for the population."""

from __future__ import annotations

from pathlib import Path

import failures
import h5py
import numpy as np
import pandas as pd
import pytest
import summaries
from conftest import STRATA, Sample, outcome, plan, strata_of
from hdf5 import ResultError
from results import Result
from weights import weights_of

SHARES = np.array([weight for _, weight in STRATA])
FAILING = np.array([0.6, 0.1, 0.004])  # of the population's strata: P(a trial fails)
TRUTH = float(SHARES @ FAILING)
REPLICATES, SEED = 2000, 20260102


def simulated(strata: np.ndarray, probability: np.ndarray, failed: np.ndarray) -> pd.DataFrame:
    """Rows of many points, one per replicate, from arrays [replicates, trials]."""
    replicates, trials = strata.shape
    place = np.repeat(np.arange(replicates), trials), np.tile(np.arange(trials), replicates)
    rows = pd.DataFrame({"point": place[0], "id": place[1], "model": 0, "stage": 0})
    columns = {"stratum": strata, "probability": probability, "failure": failed}
    return rows.assign(**{name: values.ravel() for name, values in columns.items()})


def estimates(rows: pd.DataFrame, sampling: str) -> pd.Series:
    points = rows["point"].unique()
    plans = pd.DataFrame({"sampling": sampling, "used": 0}, index=points)
    strata = pd.concat([pd.DataFrame(strata_of(point)) for point in points[:1]])
    strata = strata.merge(pd.DataFrame({"replicate": points}), how="cross")
    strata["point"] = strata["replicate"]
    weight = weights_of(Path("x.h5"), rows, plans, strata)["weight"]
    return (rows["failure"] * weight).groupby(rows["point"]).sum()


def deviation(values: pd.Series) -> float:
    """From the truth, in standard errors."""
    return float((values.mean() - TRUTH) / (values.std(ddof=1) / len(values) ** 0.5))


def test_stratified_rows_estimate_the_population_and_plain_means_do_not():
    random = np.random.default_rng(SEED)
    strata = np.tile(np.repeat([0, 1, 2], [20, 10, 10]), (REPLICATES, 1))
    failed = (random.random(strata.shape) < FAILING[strata]).astype(float)
    rows = simulated(strata, np.ones(strata.shape), failed)
    # 4 standard errors: a right estimator fails once in 16 000 seeds, and the seed is fixed
    for sampling in ("stratified", "allocated"):
        assert abs(deviation(estimates(rows, sampling))) < 4
    assert deviation(rows.groupby("point")["failure"].mean()) > 20


def test_sequential_rows_do_too_though_earlier_rounds_decide_how_later_ones_are_drawn():
    random = np.random.default_rng(SEED)
    rounds, size = 3, 32
    drawn, probability, failed = [], [], []
    for _ in range(REPLICATES):
        q, mine = SHARES, ([], [], [])
        for _ in range(rounds):
            stratum = random.choice(3, size, p=q)
            fail = (random.random(size) < FAILING[stratum]).astype(float)
            for column, values in zip(mine, (stratum, q[stratum], fail)):
                column.append(values)
            seen, hits = (np.concatenate(mine[column]) for column in (0, 2))
            spread = SHARES * [((hits[seen == h].sum() + 0.5) / ((seen == h).sum() + 1)) ** 0.5
                               for h in range(3)]  # fmt: skip
            q = 0.2 * SHARES + 0.8 * spread / spread.sum()
        for table, column in zip((drawn, probability, failed), mine):
            table.append(np.concatenate(column))
    rows = simulated(np.array(drawn), np.array(probability), np.array(failed))
    assert abs(deviation(estimates(rows, "sequential"))) < 4
    assert deviation(rows.groupby("point")["failure"].mean()) > 20


def test_simple_rows_count_alike(paired):
    with Result(paired) as result:
        assert list(result.trials["weight"]) == [0.25] * 8
        assert list(result.plans["sampling"]) == ["simple"]


def test_stratified_rows_count_by_their_stratum_and_the_pilot_not(stratified):
    with Result(stratified) as result:
        weight = result.trials["weight"].to_numpy()
        assert list(weight[:3]) == [0, 0, 0]
        expected = np.repeat(SHARES / [4, 2, 2], [4, 2, 2])
        assert weight[3:] == pytest.approx(expected) and weight.sum() == pytest.approx(1)
        row = summaries.outcome_table(result).iloc[0]
        # 0.03125 * 0.6 + 0.09375 * 0.1; of the rest half is masked: stratum by stratum 20 45 50 %
        assert row["failing"] == pytest.approx(0.028125) and row["trials"] == 8
        assert row["masked"] == pytest.approx(float(SHARES @ [0.20, 0.45, 0.50]))
        assert np.isnan(row["failing_lower"])  # no stored estimate: no interval is made up
        assert summaries.accuracy_table(result).iloc[0]["flips"] == 1


def test_failures_by_layer_are_weighted_and_by_bit_are_those_of_the_stratum(stratified):
    with Result(stratified) as result:
        layers = failures.failures_by(result, "layer", 0, 0).set_index("layer")
        bits = failures.failures_by(result, "bit", 0, 0).set_index("bit")
    assert layers["estimate"]["stem"] == pytest.approx(0.028125)
    assert bits["estimate"][30] == pytest.approx(0.6) and bits["with_it"][30] == 4
    assert bits["estimate"][28] == pytest.approx(0.1) and bits["estimate"][5] == 0


def test_strata_table_counts_pilot_and_main_sample(stratified):
    with Result(stratified) as result:
        table = summaries.strata_table(result)
    assert list(table["pilot"]) == [1, 1, 1] and list(table["trials"]) == [4, 2, 2]
    assert table["failing"].to_numpy() == pytest.approx([0.6, 0.1, 0])
    assert list(table["name"]) == [name for name, _ in STRATA]


def test_a_stratified_plan_that_runs_estimates_nothing_before_every_stratum_has_trials(tmp_path):
    trials = [outcome(0, i, 0, 50, 40) | {"stratum": i % 2} for i in range(4)]
    sample = Sample(
        models=("unprotected",), points=(("exact:1", 0.0, 8),), trials=trials, complete=False,
        strata=strata_of(0), plans=[plan(0, "stratified")],
    )  # fmt: skip
    with Result(sample.write(tmp_path / "part.h5")) as result:
        assert np.isnan(summaries.outcome_table(result)["failing"][0])
        assert result.trials["weight"].sum() == pytest.approx(SHARES[:2].sum())


def test_sequential_rows_count_inversely_to_their_probability(sequential):
    with Result(sequential) as result:
        trials = result.trials
        assert len(trials) == 8 and result.rows_beyond_plan == 4
        expected = (SHARES / [0.5, 0.25, 0.25] / 8)[trials["stratum"]]
        assert trials["weight"].to_numpy() == pytest.approx(expected)


def test_rows_that_the_last_look_did_not_use_count_nothing(sequential):
    with h5py.File(sequential, "a") as file:
        points = file["points"][()]
        points["trials"] = 12
        file["points"][...] = points
    with Result(sequential) as result:
        assert list(result.trials["weight"] > 0) == [True] * 8 + [False] * 4
        assert len(summaries.main_trials(result)) == 8


def test_looks_make_the_convergence_and_the_last_is_the_estimate(sequential):
    with Result(sequential) as result:
        assert list(result.looks["trials"]) == [4, 6, 8] and len(result.estimates) == 1
        running = summaries.running_estimates(result, 0, 0)
        row = summaries.outcome_table(result).iloc[0]
        labels = result.plans.loc[0]
    assert list(running["estimate"]) == [0.04, 0.02, 0.01] and list(running["trials"]) == [4, 6, 8]
    assert (row["failing"], row["failing_upper"]) == (0.01, 0.02)
    assert row["failing_method"] == "asymptotic confidence sequence"
    assert labels["reached"] and labels["half_width"] == 0.01


def test_blocks_are_read_and_absent_where_all_images_are_used(sequential, paired):
    with Result(sequential) as result:
        assert len(result.blocks) == 100 and set(result.trials["block"]) == {0, 1}
    with Result(paired) as result:
        assert len(result.blocks) == 0


def test_trials_on_blocks_of_different_size_count_by_their_share(tmp_path):
    # Blocks are drawn in proportion to their size: a trial's own share is what is averaged.
    trials = [outcome(0, 0, 0, 50, 40), outcome(0, 1, 0, 50, 40)]
    trials[1] |= {"images": 80, "masked": 20, "sdc_noncritical": 20, "top5": 80}
    sample = Sample(models=("unprotected",), points=(("exact:1", 0.0, 2),), trials=trials)
    with Result(sample.write(tmp_path / "blocks.h5")) as result:
        assert summaries.outcome_table(result)["failing"][0] == pytest.approx((0.4 + 0.5) / 2)


def test_rows_of_unknown_strata_are_refused_not_averaged(paired):
    with h5py.File(paired, "a") as file:
        rows = file["trials"][()]
        rows["stratum"] = 2
        file["trials"][...] = rows
    with Result(paired) as result, pytest.raises(ResultError, match="stratum 2 of point 0"):
        summaries.accuracy_table(result)


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("plans", plan(0, "haphazard"), "sampling haphazard is unknown"),
        ("plans", plan(0, "stratified"), "plans holds a point twice"),
        ("strata", strata_of(0)[0], "strata holds a stratum twice"),
    ],
)
def test_broken_designs_are_named(tmp_path, table, row, message):
    rows = [row] if "haphazard" in str(row) else [row, row]
    sample = Sample(trials=[outcome(0, 0, 0, 50, 40)], **{table: rows})
    with Result(sample.write(tmp_path / "x.h5")) as result, pytest.raises(ResultError) as error:
        result.trials  # noqa: B018
    assert message in str(error.value)
