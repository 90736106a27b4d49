"""analysis/ against the program: what it estimates under every plan, intervals by the same rule,
places of faults in a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))

import failures  # noqa: E402
import rankings  # noqa: E402
import summaries  # noqa: E402
from drill import ITERATED, ROUNDING, Launcher  # noqa: E402
from results import Result  # noqa: E402

BLOCKS = ["--images-per-trial", "4"]
PLANS = {
    "simple": ["--ber", "1e-6", "1e-5", "--repeat", "60"],
    "simple, blocks": ["--ber", "1e-6", "--repeat", "60", *BLOCKS],
    "simple, 500": ["--ber", "2e-6", "--repeat", "500"],
    "single flips": ["--single-bit", "--repeat", "60"],
    "independent": ["--fault-count", "exact:8", "--repeat", "40"],
    "sequential T1": ["--single-bit", "--half-width", "0.04", "--repeat", "800", *BLOCKS],
    "sequential T2": ["--ber", "3e-6", "--half-width", "0.06", "--repeat", "800", *BLOCKS],
    "guaranteed T1": ["--single-bit", "--half-width", "0.2", "--guaranteed", "--repeat", "800"],
    "stratified T1": ["--single-bit", "--sampling", "stratified", "--repeat", "200", *BLOCKS],
    "stratified T2": ["--ber", "4e-7", "--sampling", "stratified", "--repeat", "250", *BLOCKS],
}


@pytest.fixture(scope="module")
def results(sentinelnn: Launcher, campaign, tmp_path_factory) -> dict[str, Path]:
    """A small campaign of every plan, unprotected and hardened by the group's best channels."""
    folder = tmp_path_factory.mktemp("plans")
    paths = {}
    for number, (name, plan) in enumerate(PLANS.items()):
        paths[name] = folder / f"{number}.h5"
        done = sentinelnn.run(
            ["campaign", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
            + ["--images", "10", "--calibration-images", "32", "--selection", "group"]
            + ["--seed", "5", "--output", paths[name], *plan]
        )
        assert done.code == 0, done.err
    trials = folder / "ranking.h5.trials.h5"
    done = sentinelnn.run(campaign.half_width_args(folder))
    assert done.code == 0, done.err
    return paths | {"allocated": trials}


@pytest.mark.parametrize("plan", [*PLANS, "allocated"])
def test_the_mean_of_the_rows_is_what_the_program_estimates(results, plan):
    with Result(results[plan]) as result:
        assert len(result.estimates) > 0
        for row in result.estimates.itertuples():
            difference = row.against >= 0
            quantity = "accuracy" if difference else row.quantity
            against = row.against_name if difference else None
            found = result.mean(quantity, row.point, row.model_name, against)
            assert found == pytest.approx(row.estimate, abs=ROUNDING), (row.quantity, row.model_name)


@pytest.mark.parametrize("plan", [name for name in PLANS if "strat" not in name])
def test_outcomes_sum_to_one(results, plan):
    with Result(results[plan]) as result:
        table = summaries.outcome_table(result)
    total = table[["masked", "sdc_noncritical", "sdc_critical", "due"]].sum(axis=1)
    assert total.to_numpy() == pytest.approx(np.ones(len(table)), abs=ROUNDING)


SIMPLE = ("simple", "simple, blocks", "simple, 500", "single flips", "independent")


@pytest.mark.parametrize("plan", SIMPLE)
def test_intervals_of_simple_sampling_are_the_programs(results, plan):
    with Result(results[plan]) as result:
        for row in result.estimates.itertuples():
            if row.against >= 0:
                found = summaries.computed_gain(result, row.point, row.model)
            else:
                found = summaries.computed(result, row.point, row.model, row.quantity)
            assert found.method == row.method, row
            assert [found.lower, found.upper] == pytest.approx([row.lower, row.upper], abs=ITERATED)


@pytest.mark.parametrize("plan", ["sequential T1", "stratified T1"])
def test_a_stratum_of_one_bit_has_one_number(results, plan):
    with Result(results[plan]) as result:
        bits = failures.failures_by(result, "bit", 0, 0).set_index("bit")
        strata = summaries.strata_table(result).set_index("name")
        hit = result.faults.loc[(result.faults["bit"] == 30) & (result.faults["model"] == 0), "row"]
        where = pd.Series(result.trials.index.isin(hit), result.trials.index)
        mean = result.mean("failing", 0, 0, where=where)
        assert mean == pytest.approx(bits["estimate"][30], abs=ROUNDING)
        for name, column in (("estimate", "failing"), ("lower", "lower"), ("upper", "upper")):
            assert bits[name][30] == pytest.approx(strata[column]["bit 30"], abs=ROUNDING)


def test_a_fault_is_found_in_the_checkpoint_of_grouped_copies(results):
    torch = pytest.importorskip("torch")
    path = results["simple"]
    state = torch.load(f"{path}.hardened.pth", map_location="cpu")
    with Result(path) as result:
        faults = result.faults[result.faults["model"] == 1]
    # Where two flips hit one word, the second finds what the first left.
    faults = faults.drop_duplicates(["row", "tensor", "element"])
    words = {
        name: state[name].reshape(-1).numpy().view(np.uint32) for name in set(faults.tensor_name)
    }
    as_stored = [words[row.tensor_name][row.element] == row.before for row in faults.itertuples()]
    found = [
        words[row.tensor_name][row.checkpoint_element] == row.before for row in faults.itertuples()
    ]
    assert faults["copy"].any() and all(found) and not all(as_stored)


def test_a_ranking_of_another_network_is_refused(results, sentinelnn, campaign, tmp_path):
    other = tmp_path / "other.h5"
    hardened = f"{results['simple']}.hardened.pth"
    again = ["harden", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
    again += ["--hardening-ratio", "0", "--calibration-images", "32"]
    again += ["--output", tmp_path / "c.pth"]
    assert sentinelnn.run(again).code == 0
    for checkpoint, refused in ((hardened, False), (campaign.checkpoint, False), (again[-1], True)):
        rank = ["rank", "--data", campaign.data, "--checkpoint", checkpoint, "--output", other]
        assert sentinelnn.run([*rank, "--importance", "l2-norm"]).code == 0
        with Result(results["simple"]) as result:
            if not refused:
                assert rankings.sources_of(result, [other]).unnamed == []
                continue
            with pytest.raises(rankings.ResultError, match="ranks the network .* the result holds"):
                rankings.sources_of(result, [other])
