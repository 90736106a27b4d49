"""--sampling per-layer, per-class, per-bit with the whole program: ranks, stops, extension, ranges,
several networks, tables, the analysis."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import ITERATED, ROUNDING, Result, ended, stored_rows, wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))

import failures  # noqa: E402
from results import Result as Analysed  # noqa: E402

PLANS = {
    "per-layer": ["--repeat", "110"],
    "per-class": ["--fault-target", "parameters", "--repeat", "90"],
    "per-bit": ["--repeat", "96"],
    "per-layer:allocated": ["--layers", "layer1.*", "--repeat", "150"],
}
PLACE = ("session", "wall_us", "rank", "audited")
STRATA = ("failing", "sdc_critical", "due", "masked", "sdc_noncritical", "accuracy")


def args(campaign, output: Path, sampling: str, *more: str) -> list[str | Path]:
    return [
        *("inject", "--data", campaign.data, "--checkpoint", campaign.checkpoint),
        *("--images", "10", "--seed", "5", "--publish", "0", "--single-bit"),
        *("--sampling", sampling, "--output", output, *more),
    ]


def rows_of(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["trials"][:]


def check_same(one: Path, other: Path) -> None:
    a, b = rows_of(one), rows_of(other)
    for name in a.dtype.names:
        if name not in PLACE:
            assert np.array_equal(a[name], b[name]), name
    with h5py.File(one) as first, h5py.File(other) as second:
        for table in ("estimates", "design/plans", "design/strata", "points"):
            assert np.array_equal(first[table][:], second[table][:]), table


@pytest.mark.parametrize("sampling", PLANS)
def test_ranks_and_stops_change_nothing(sentinelnn, campaign, tmp_path, sampling):
    one, three, stopped = (tmp_path / f"{name}.h5" for name in ("one", "three", "stopped"))
    plan = PLANS[sampling]
    done = sentinelnn.run(args(campaign, one, sampling, *plan))
    assert done.code == 0, done.err
    assert sentinelnn.run(args(campaign, three, sampling, *plan), 3).code == 0
    process = sentinelnn.start(args(campaign, stopped, sampling, *plan), 2)
    assert wait_until(lambda: process.poll() is not None or stored_rows(stopped) > 20)
    process.send_signal(signal.SIGUSR1)
    assert ended(process, 60).code in (0, 75)
    assert sentinelnn.run(args(campaign, stopped, sampling, *plan), 2).code == 0
    for path in (three, stopped):
        check_same(one, path)
        Result.read(path).check_whole()
    replay = sentinelnn.run(["replay", one, "--trials", "0-30"])
    assert replay.code == 0, replay.err


def test_more_trials_extend_and_ranges_join(sentinelnn, campaign, tmp_path):
    grown, whole, joined = (tmp_path / f"{name}.h5" for name in ("grown", "whole", "joined"))
    assert sentinelnn.run(args(campaign, whole, "per-layer", "--repeat", "110")).code == 0
    assert sentinelnn.run(args(campaign, grown, "per-layer", "--repeat", "50")).code == 0
    before = rows_of(grown)
    again = sentinelnn.run(args(campaign, grown, "per-layer", "--repeat", "110"))
    assert again.code == 0 and again.stored_already == 50
    check_same(whole, grown)
    assert np.array_equal(before["stratum"], rows_of(whole)["stratum"][:50])
    parts = [tmp_path / f"{first}.h5" for first in (0, 13)]
    for part, span in zip(parts, ("0:13", "13:110")):
        assert sentinelnn.run(args(campaign, part, "per-layer", "--trial-range", span)).code == 0
    assert sentinelnn.run(["merge", *parts, "-o", joined]).code == 0
    check_same(whole, joined)
    other = sentinelnn.run(args(campaign, grown, "per-bit", "--repeat", "110"))
    assert other.code == 64 and "point 0" in other.messages[0]


def test_ranges_that_are_too_few_say_so(sentinelnn, campaign, tmp_path):
    path, joined = tmp_path / "part.h5", tmp_path / "joined.h5"
    done = sentinelnn.run(args(campaign, path, "per-layer", "--trial-range", "0:3"))
    assert done.code == 0 and "3 trials are fewer than 2 of each of the " in done.err
    merged = sentinelnn.run(["merge", path, "-o", joined])
    assert merged.code == 0 and "have fewer than 2 trials, too few for an interval" in merged.err


def test_a_job_file_says_it_too(sentinelnn, campaign, tmp_path):
    path, same, job = tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "job.toml"
    assert sentinelnn.run(args(campaign, path, "per-class", *PLANS["per-class"])).code == 0
    job.write_text(
        f'[inject]\ndata = "{campaign.data}"\ncheckpoint = "{campaign.checkpoint}"\nimages = 10\n'
        'seed = 5\nsingle-bit = true\nsampling = "per-class"\nfault-target = ["parameters"]\n'
        f'repeat = 90\noutput = "{same}"\n'
    )
    done = sentinelnn.run(["inject", "--job", job])
    assert done.code == 0, done.err
    check_same(path, same)


@pytest.fixture(scope="module")
def hardened(sentinelnn, campaign, tmp_path_factory) -> Path:
    """Copies, bounds and ranges: shares of its own, and strata that the original lacks."""
    path = tmp_path_factory.mktemp("divided") / "hardened.h5"
    done = sentinelnn.run(
        ["campaign", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
        + ["--images", "10", "--calibration-images", "32", "--seed", "5", "--single-bit"]
        + ["--fault-target", "weight,bias,bound", "--layers", "layer1.*", "fc"]
        + ["--sampling", "per-layer", "--repeat", "200", "--output", path]
    )
    assert done.code == 0, done.err
    return path


def test_networks_have_shares_of_their_own(hardened):
    with h5py.File(hardened) as file:
        strata, shares = file["design/strata"][:], file["design/shares"][:]
        tensors = {
            row["name"]: int(row["elements"]) * int(row["word_bits"])
            for row in file["models/hardened/tensors"][:]
        }
        rows, estimates = file["trials"][:], file["estimates"][:]
    names = strata["name"].tolist()
    total = sum(tensors.values())
    for share in shares:
        wanted = tensors.get(names[share["stratum"]], 0) / total
        assert share["weight"] == pytest.approx(wanted, abs=ROUNDING)
    assert strata["weight"].sum() == pytest.approx(1) and shares["weight"].sum() == pytest.approx(1)
    assert (strata["weight"] == 0).any(), "the original has no bounds"
    lacking = np.flatnonzero(strata["weight"] == 0)
    first = rows[rows["model"] == 0]
    assert (first["n_faults"] == ~np.isin(first["stratum"], lacking)).all()
    own = estimates[(estimates["model"] == 0) & (estimates["stratum"] >= 0)]
    assert len(own) > 0 and not np.isin(own["stratum"], lacking).any()


def test_the_analysis_reads_what_the_program_estimates(hardened):
    with Analysed(hardened) as result:
        assert (result.estimates["stratum"] < 0).all()
        for row in result.estimates.itertuples():
            quantity = "accuracy" if row.against >= 0 else row.quantity
            against = row.against_name if row.against >= 0 else None
            found = result.mean(quantity, row.point, row.model_name, against)
            assert found == pytest.approx(row.estimate, abs=ROUNDING), (row.quantity, row.model_name)
        strata = result.stratum_estimates
        assert set(STRATA) <= set(strata["quantity"])
        failing = strata[(strata["quantity"] == "failing") & (strata["model"] == 0)]
        assert failing["share"].sum() == pytest.approx(1)
        layers = failures.failures_by(result, "layer", 0, 0).set_index("layer")
        convolutions = failing[failing["stratum_name"].str.contains("conv")]  # they have no bias
        for row in convolutions.itertuples():
            here = layers.loc[row.stratum_name.removesuffix(".weight")]
            assert here["with_it"] == row.trials
            for name in ("estimate", "lower", "upper"):
                assert here[name] == pytest.approx(getattr(row, name), abs=ITERATED)
        assert len(convolutions) == 6


def test_tables_say_each_stratum(sentinelnn, hardened):
    text = sentinelnn.run(["summarize", hardened])
    assert text.code == 0
    assert "hardened, per-layer: faults in each part" in text.out
    told = json.loads(sentinelnn.run(["summarize", hardened, "--json"]).out)
    with h5py.File(hardened) as file:
        names = [name.decode() for name in file["design/strata"]["name"]]
        estimates = file["estimates"][:]
    assert {row["name"] for row in told["strata"]} == set(names)
    for row in told["strata"]:
        assert names[row["stratum"]] == row["name"] and row["name"] in text.out
        for quantity, found in row["estimates"].items():
            (stored,) = estimates[
                (estimates["stratum"] == row["stratum"])
                & (estimates["quantity"] == quantity.encode())
                & (estimates["model"] == (row["model"] == "hardened"))
            ]
            assert found["estimate"] == stored["estimate"] and found["lower"] == stored["lower"]
    whole = {(row["model"], row["quantity"]) for row in told["estimates"]}
    assert len(whole) == len(told["estimates"]), "of the whole, each once"


def test_plan_says_the_trials_of_each_stratum(sentinelnn, campaign, tmp_path):
    plan = ["plan", *args(campaign, tmp_path / "x.h5", "per-layer", "--repeat", "110")[1:]]
    told = json.loads(sentinelnn.run([*plan, "--json"]).out)
    (point,) = told["points"]
    assert point["division"] == "per-layer"
    assert sum(stratum["trials"] for stratum in point["strata"]) == 110
    assert all(0.1 < stratum["half_width"] <= 0.5 for stratum in point["strata"])
    assert "half-width at most" in sentinelnn.run(plan).out


REFUSED = {
    "rates": (["--ber", "1e-6"], "needs --single-bit"),
    "several": (["--fault-count", "exact:3"], "needs --single-bit"),
    "floor": (["--fault-count", "per-layer-floor", "--ber", "1e-5"], "by --layers"),
    "half-width": (["--single-bit", "--half-width", "0.02"], "about 2401 trials for each stratum"),
    "few": (["--single-bit", "--repeat", "20"], "strata need at least 4"),
    "few, a range": (
        ["--single-bit", "--repeat", "20", "--trial-range", "0:9"],
        "strata need at least 4",
    ),
    "unknown": (["--single-bit", "--sampling", "per-channel"], "--sampling per-channel is unknown"),
    "words": (
        ["--single-bit", "--sampling", "per-bit", "--fault-model", "random-word"],
        "a fault hits a whole word",
    ),
    "few, allocated": (
        ["--single-bit", "--sampling", "per-layer:allocated", "--repeat", "50"],
        "needs at least",
    ),
    "range": (
        ["--single-bit", "--sampling", "per-layer:allocated", "--trial-range", "0:9"],
        "leave out --half-width and --sampling per-layer:allocated",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused(sentinelnn, campaign, tmp_path, case):
    options, message = REFUSED[case]
    sampling = [] if "--sampling" in options else ["--sampling", "per-layer"]
    done = sentinelnn.run(
        ["inject", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
        + ["--images", "10", "--output", tmp_path / "r.h5", *sampling, *options]
    )
    assert done.code == 64 and len(done.messages) == 1
    assert message in done.messages[0]
    assert not (tmp_path / "r.h5").exists()


def test_plain_results_have_no_column_of_strata(sentinelnn, campaign, tmp_path):
    path = tmp_path / "plain.h5"
    assert sentinelnn.run(campaign.args(path, trials=2)).code == 0
    with h5py.File(path) as file:
        assert "stratum" not in file["estimates"].dtype.names
        assert "shares" not in file["design"]
