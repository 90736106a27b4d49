"""Adaptive plans and image blocks, with the whole program: ranks, stops, extension, estimates."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import Result, ended, stored_rows, wait_until

PLANS = {
    "sequential T1": ["--single-bit", "--half-width", "0.04", "--repeat", "1500"],
    "sequential T2": ["--ber", "3e-6", "--half-width", "0.06", "--repeat", "1500"],
    "guaranteed": ["--single-bit", "--half-width", "0.2", "--guaranteed", "--repeat", "1500"],
    "stratified T1": ["--single-bit", "--sampling", "stratified", "--repeat", "300"],
    "stratified T2": ["--ber", "4e-7", "--sampling", "stratified", "--repeat", "300"],
    "blocks": ["--ber", "1e-6", "--repeat", "100"],
}


def args(campaign, output: Path, *more: str) -> list[str | Path]:
    return [
        *("inject", "--data", campaign.data, "--checkpoint", campaign.checkpoint),
        *("--images", "10", "--images-per-trial", "4", "--seed", "5", "--publish", "0"),
        *("--output", output, *more),
    ]


def design_of(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        names = ["plans", "strata", "rounds", "blocks"]
        names += ["centres"] if "centres" in file["design"] else []
        tables = {name: file["design"][name][:] for name in names}
        return {**tables, "estimates": file["estimates"][:], "points": file["points"][:]}


def check_same_design(one: Path, other: Path) -> None:
    a, b = design_of(one), design_of(other)
    for name, table in a.items():
        assert np.array_equal(table, b[name]), name


def used_rows(path: Path) -> np.ndarray:
    """Rows that are in the estimates."""
    with h5py.File(path) as file:
        rows, trials = file["trials"][:], int(file["points"]["trials"][0])
    return rows[(rows["id"] < trials) & (rows["stage"] == 0)]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_ranks_and_stops_change_nothing(sentinelnn, campaign, tmp_path, plan):
    """Rows of trials that the stop rule made needless may differ in number, never in content."""
    one, three, stopped = (tmp_path / f"{name}.h5" for name in ("one", "three", "stopped"))
    assert sentinelnn.run(args(campaign, one, *plan)).code == 0
    assert sentinelnn.run(args(campaign, three, *plan), 3).code == 0
    process = sentinelnn.start(args(campaign, stopped, *plan), 2)
    assert wait_until(lambda: process.poll() is not None or stored_rows(stopped) > 20)
    process.send_signal(signal.SIGUSR1)
    assert ended(process, 60).code in (0, 75)
    assert sentinelnn.run(args(campaign, stopped, *plan), 2).code == 0
    for path in (three, stopped):
        check_same_design(one, path)
        a, b = used_rows(one), used_rows(path)
        for name in a.dtype.names:
            if name not in ("session", "wall_us", "rank"):
                assert np.array_equal(a[name], b[name]), name
        Result.read(path).check_whole()


@pytest.mark.parametrize(
    ("plan", "narrower"), [("sequential T1", "0.003"), ("sequential T2", "0.015")]
)
def test_a_narrower_half_width_goes_on(sentinelnn, campaign, tmp_path, plan, narrower):
    path, whole = tmp_path / "result.h5", tmp_path / "whole.h5"
    options = [*PLANS[plan]]
    assert sentinelnn.run(args(campaign, path, *options)).code == 0
    before = len(Result.read(path).trials)
    options[options.index("--half-width") + 1] = narrower
    assert sentinelnn.run(args(campaign, path, *options)).code == 0
    assert sentinelnn.run(args(campaign, whole, *options)).code == 0
    assert len(Result.read(path).trials) > before
    check_same_design(path, whole)


SHARES = {
    name: [name] for name in ("masked", "sdc_noncritical", "sdc_critical", "due")
} | {"failing": ["sdc_critical", "due"]}


def estimated(rows: np.ndarray, design: dict[str, np.ndarray], outcomes: list[str]) -> float:
    """The mean share of the outcomes together, as the schema says."""
    shares = sum(rows[outcome] for outcome in outcomes) / rows["images"]
    weights = design["strata"]["weight"]
    if "centres" not in design:
        strata = [shares[rows["stratum"] == h] for h in range(len(weights))]
        return sum(w * y.mean() for w, y in zip(weights, strata))
    centres = sum(design["centres"][outcome] for outcome in outcomes)
    first = design["rounds"]["first"][design["rounds"]["stratum"] == 0]
    centre = centres[np.searchsorted(first, rows["id"], side="right") - 1]
    return np.mean(centre + weights[rows["stratum"]] / rows["probability"] * (shares - centre))


@pytest.mark.parametrize("plan", ["sequential T1", "stratified T1"])
def test_the_estimates_follow_from_the_rows(sentinelnn, campaign, tmp_path, plan):
    """In another language: the weighted mean that the schema says. All images have one outcome."""
    path = tmp_path / "result.h5"
    assert sentinelnn.run(args(campaign, path, *PLANS[plan])).code == 0
    rows, design = used_rows(path), design_of(path)
    assert ("centres" in design) == (plan == "sequential T1")
    last = {e["quantity"].decode(): e for e in design["estimates"]}
    for quantity, outcomes in SHARES.items():
        stored, mean = last[quantity], estimated(rows, design, outcomes)
        assert stored["trials"] == len(rows) == design["plans"]["used"][0]
        assert abs(stored["estimate"] - mean) < 1e-12, quantity
        assert stored["lower"] <= mean <= stored["upper"]
    sum_of_shares = sum(last[name]["estimate"] for name in SHARES if name != "failing")
    assert abs(sum_of_shares - 1) < 1e-12


def test_blocks_partition_the_images(sentinelnn, campaign, tmp_path):
    path = tmp_path / "blocks.h5"
    assert sentinelnn.run(args(campaign, path, *PLANS["blocks"])).code == 0
    rows, blocks = used_rows(path), design_of(path)["blocks"]
    assert sorted(np.bincount(blocks)) == [2, 4, 4]
    assert all(rows["images"] == np.bincount(blocks)[rows["block"]])
    # Drawn in proportion to their size: five standard deviations of a binomial count.
    drawn, expected = np.bincount(rows["block"], minlength=3), 10 * np.bincount(blocks)
    assert all(abs(drawn - expected) < 5 * np.sqrt(expected))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--ber", "1e-3", "--sampling", "stratified"], "strata"),
        (["--single-bit", "--sampling", "stratified", "--repeat", "20"], "at least"),
        (["--single-bit", "--half-width", "0.01", "--sampling", "stratified"], "--half-width"),
        (["--single-bit", "--half-width", "0.01", "--trial-range", "0:9"], "--trial-range"),
        (["--single-bit", "--trial-range", "9"], "--trial-range 9"),
        (["--single-bit", "--guaranteed"], "--guaranteed"),
        (["--single-bit", "--images-per-trial", "0"], "--images-per-trial"),
    ],
)
def test_what_does_not_go_together_is_refused(sentinelnn, campaign, tmp_path, options, word):
    base = [*("inject", "--data", campaign.data, "--checkpoint", campaign.checkpoint)]
    outcome = sentinelnn.run([*base, "--output", tmp_path / "r.h5", *options])
    assert outcome.code == 64
    assert len(outcome.messages) == 1 and word in outcome.messages[0]


def test_a_stratified_plan_of_other_size_is_another_job(sentinelnn, campaign, tmp_path):
    path = tmp_path / "result.h5"
    plan = ["--single-bit", "--sampling", "stratified", "--repeat"]
    assert sentinelnn.run(args(campaign, path, *plan, "120")).code == 0
    outcome = sentinelnn.run(args(campaign, path, *plan, "150"))
    assert outcome.code == 64
    assert "a stratified plan of 120 trials" in outcome.messages[0]


def test_plan_runs_nothing_and_says_what_would_run(sentinelnn, campaign, tmp_path):
    outcome = sentinelnn.run(
        ["plan", "--data", campaign.data, "--checkpoint", campaign.checkpoint, "--ber", "1e-6"]
        + ["--half-width", "0.01"],
        cwd=tmp_path,
    )
    assert outcome.code == 0, outcome.err
    for text in ("faults/trial", "0 critical bits", "at most 1000000", "Memory at the peak"):
        assert text in outcome.out
    assert not list(tmp_path.iterdir())


def planned(sentinelnn, campaign, *options: str | Path) -> dict:
    base = ["plan", "--json", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
    outcome = sentinelnn.run([*base, "--images", "10", *options])
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_plan_says_how_many_trials_a_run_takes(sentinelnn, campaign, tmp_path):
    """The run ends in the range of the supposed populations around what it found."""
    for name in ("sequential T1", "sequential T2"):
        blocks = ["--images-per-trial", "4", "--seed", "5"]
        said = planned(sentinelnn, campaign, *PLANS[name], *blocks)["points"][0]
        path = tmp_path / "run.h5"
        assert sentinelnn.run(args(campaign, path, *PLANS[name], "--fresh")).code == 0
        design = design_of(path)
        failing = [row["estimate"] for row in design["estimates"] if row["quantity"] == b"failing"]
        nearest = sorted(said["outlooks"], key=lambda row: abs(row["failing"] - failing[-1]))[:2]
        # Where the simulation did not end either, nothing is promised.
        low = min(row["trials"]["low"] or row["most"] for row in nearest)
        high = max(row["trials"]["high"] or row["most"] for row in nearest)
        assert low - 256 <= design["plans"]["used"][0] <= high + 256


def test_plan_counts_every_network(sentinelnn, campaign, tmp_path):
    other = tmp_path / "other.pth"
    other.write_bytes(Path(campaign.checkpoint).read_bytes())
    how = ["--single-bit", "--half-width", "0.05"]
    one, two = (planned(sentinelnn, campaign, *how, *also) for also in ([], ["--also", other]))
    assert [network["name"] for network in two["networks"]] == ["unprotected", "other"]
    for part in ("network_bytes", "image_bytes", "cache_bytes", "result_bytes"):
        assert two[part] > one[part], part
    a, b = one["points"][0], two["points"][0]
    for part in ("result_bytes_per_trial", "journal_bytes_per_trial"):
        assert b[part] == 2 * a[part]
    # The last network to be narrow enough ends the run. Of many trials there are fewer simulations.
    for first, both in zip(a["outlooks"], b["outlooks"], strict=True):
        assert both["simulations"] < 21 or both["trials"]["median"] >= first["trials"]["median"]


@pytest.mark.parametrize(
    "options",
    [["--ber", "1e-3"], ["--single-bit", "--repeat", "20"]],
    ids=["no strata", "no pilot"],
)
def test_plan_refuses_what_inject_refuses(sentinelnn, campaign, options):
    base = ["plan", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
    outcome = sentinelnn.run([*base, "--sampling", "stratified", *options])
    assert outcome.code == 64 and len(outcome.messages) == 1


def test_a_plan_is_refused_before_anything_is_made(sentinelnn, campaign, tmp_path):
    outcome = sentinelnn.run(
        ["campaign", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
        + ["--single-bit", "--sampling", "stratified", "--repeat", "20"]
        + ["--pruning-ratio", "0.1", "--output", "late.h5"],
        cwd=tmp_path,
    )
    assert outcome.code == 64
    assert not list(tmp_path.iterdir())
