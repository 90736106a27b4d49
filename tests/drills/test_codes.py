"""Statistics of coded words, with the whole program: what needs no trials, and strata by the words
that are read wrongly."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import ROUNDING


@pytest.fixture(scope="module")
def stored(sentinelnn, campaign, tmp_path_factory):
    """The network of the drills with its weights stored as a layout says."""
    folder = tmp_path_factory.mktemp("stored")

    def make(layout: str) -> Path:
        output = folder / f"{layout.replace(':', '-')}.pth"
        if not output.exists():
            outcome = sentinelnn.run(
                ["harden", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
                + ["--hardening-ratio", "0", "--clipping", "none", "--importance", "l2-norm"]
                + ["--store", f"weight={layout}", "--output", output]
            )
            assert outcome.code == 0, outcome.err
        return output

    return make


def args(campaign, checkpoint: Path, output: Path, *more: str) -> list[str | Path]:
    return [
        *("inject", "--data", campaign.data, "--checkpoint", checkpoint, "--images", "10"),
        *("--seed", "5", "--output", output, *more),
    ]


def test_harden_says_what_its_network_loses_without_faults(sentinelnn, campaign, tmp_path):
    job = ["harden", "--checkpoint", campaign.checkpoint, "--hardening-ratio", "0"]
    job += ["--clipping", "none", "--output", tmp_path / "stored.pth"]
    store, data = ["--store", "weight=int4:channel"], ["--data", campaign.data]
    told = "% as given, "
    assert told in sentinelnn.run(job + store + data).out
    assert told in sentinelnn.run(job + store).out  # the built-in images
    bare = tmp_path / "bare"  # no training images there: the network is written all the same
    bare.mkdir()
    other = sentinelnn.run(job + store + ["--data", bare])
    assert other.code == 0 and "the accuracy as written was not measured: " in other.out
    assert str(bare) in other.out
    assert told not in sentinelnn.run(job + data + ["--weight-bounds", "layer"]).out


@pytest.mark.parametrize(
    "layout", ["int6:channel+bch:32,6", "int8:channel+repeat:3", "int8:channel+secded:64"]
)
def test_single_flips_that_are_corrected_are_refused(
    sentinelnn, campaign, stored, tmp_path, layout
):
    outcome = sentinelnn.run(args(campaign, stored(layout), tmp_path / "r.h5", "--single-bit"))
    assert outcome.code == 64
    assert "every single flip is corrected; use --ber, exact:K or a burst" in outcome.err
    assert layout in outcome.err
    assert not (tmp_path / "r.h5").exists()


def test_channel_fi_refuses_these_codes(sentinelnn, campaign, stored, tmp_path):
    for layout in ("int6:channel+bch:32,6", "int8:channel+secded:64"):
        outcome = sentinelnn.run(
            ["rank", "--data", campaign.data, "--checkpoint", stored(layout)]
            + ["--importance", "channel-FI", "--output", tmp_path / "ranking.h5"]
        )
        assert outcome.code == 64
        assert f"is stored as {layout}" in outcome.err


@pytest.mark.parametrize("more", [[], ["--half-width", "0.01"]])
def test_words_that_are_read_right_bound_the_accuracy(
    sentinelnn, campaign, stored, tmp_path, more
):
    output = tmp_path / "bound.h5"
    job = args(campaign, stored("int6:channel+bch:32,6"), output, "--ber", "1e-2", *more)
    outcome = sentinelnn.run(job)
    assert outcome.code == 0, outcome.err
    assert "no trial is needed. P(any word read wrongly) = 1.98e-05" in outcome.out
    with h5py.File(output) as file:
        assert file.attrs["complete"]
        assert len(file["trials"]) == 0
        rows = {row["quantity"].decode(): row for row in file["estimates"][:]}
    accuracy, failing, masked = rows["accuracy"], rows["failing"], rows["masked"]
    assert all(row["method"] == b"bound: P(any word read wrongly)" for row in rows.values())
    bound = failing["upper"]
    assert failing["estimate"] == failing["lower"] == 0 and 1.97e-5 < bound < 1.99e-5
    assert masked["estimate"] == masked["upper"] == 1
    assert accuracy["lower"] == pytest.approx(accuracy["estimate"] - bound, abs=ROUNDING)
    assert sentinelnn.run(job).code == 0
    assert sentinelnn.run(["summarize", output]).code == 0


def test_merge_keeps_what_a_bound_answers(sentinelnn, campaign, stored, tmp_path):
    """Parts of a campaign with a point that needs no trials; one part ran some all the same."""
    checkpoint = stored("int6:channel+bch:32,6")

    def part(name: str, *more: str) -> Path:
        output = tmp_path / f"{name}.h5"
        job = args(campaign, checkpoint, output, "--ber", "1e-2", "1e-1", *more)
        outcome = sentinelnn.run(job)
        assert outcome.code == 0, outcome.err
        return output

    def estimates(path: Path) -> np.ndarray:
        with h5py.File(path) as file:
            rows = file["estimates"][:]
        return rows[rows["point"] == 0]

    whole, first, ranged = part("whole", "--repeat", "3"), part("first", "--repeat", "2"), part(
        "ranged", "--trial-range", "2:4"
    )
    two, three = tmp_path / "two.h5", tmp_path / "three.h5"
    assert sentinelnn.run(["merge", whole, first, "--output", two]).code == 0
    assert sentinelnn.run(["merge", ranged, first, "--output", three]).code == 0
    for merged in (two, three):
        assert np.array_equal(estimates(merged), estimates(whole))
        outcome = sentinelnn.run(["summarize", merged])
        assert outcome.code == 0 and "bound: P(any word read wrongly)" in outcome.out
    with h5py.File(two) as file:
        assert file.attrs["complete"] and set(file["trials"]["point"]) == {1}
        assert file["design/plans"]["used"].tolist() == [0, 3]
    with h5py.File(three) as file:
        assert (file["trials"]["point"] == 0).sum() == 2
    replayed = sentinelnn.run(["replay", two, "--trials", "random:2"])
    assert replayed.code == 0, replayed.err
    assert "2 of 2 trials identical" in replayed.out
    none = sentinelnn.run(["replay", two, "--point", "0", "--trials", "0"])
    assert none.code == 64 and "holds no trial of it" in none.err
    start, ranges = part("start", "--trial-range", "0:2"), tmp_path / "ranges.h5"
    assert sentinelnn.run(["merge", ranged, start, "--output", ranges]).code == 0
    for path in (ranged, ranges):
        assert np.array_equal(estimates(path), estimates(whole))
    with h5py.File(ranges) as file:
        assert file.attrs["complete"]
        assert file["design/plans"]["used"].tolist() == [0, 4]


def test_a_campaign_keeps_the_bound_of_its_coded_network(sentinelnn, campaign, tmp_path):
    """The plain network needs trials, the coded one does not; ranges of them say the same."""

    def run(name: str, *more: str) -> Path:
        output = tmp_path / f"{name}.h5"
        outcome = sentinelnn.run(
            ["campaign", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
            + ["--hardening-ratio", "0", "--clipping", "none", "--images", "10", "--seed", "5"]
            + ["--store", "weight=int6:channel+bch:32,6", "--ber", "1e-2", *more]
            + ["--hardened-output", tmp_path / f"{name}.pth", "--output", output]
        )
        assert outcome.code == 0, outcome.err
        assert "its trials are not needed. P(any word read wrongly) = 1.98e-05" in outcome.out
        return output

    def rows(path: Path) -> np.ndarray:
        with h5py.File(path) as file:
            return file["estimates"][:]

    whole = run("whole", "--repeat", "6")
    parts = [run("a", "--trial-range", "0:2"), run("b", "--trial-range", "2:6")]
    joined = tmp_path / "joined.h5"
    assert sentinelnn.run(["merge", *parts, "--output", joined]).code == 0
    assert np.array_equal(rows(whole), rows(joined))
    found = {(row["model"], row["quantity"].decode()): row for row in rows(whole)}
    plain, coded, gain = (
        found[0, "accuracy"],
        found[1, "accuracy"],
        found[1, "accuracy_difference"],
    )
    assert plain["method"] == b"betting" and plain["trials"] == 6
    assert coded["method"] == b"bound: P(any word read wrongly)"
    assert coded["upper"] - coded["estimate"] == pytest.approx(1.98e-5, abs=5e-8)
    assert found[1, "failing"]["upper"] == pytest.approx(1.98e-5, abs=5e-8)
    assert gain["method"] == b"betting and bound" and gain["trials"] == 6
    assert gain["lower"] == pytest.approx(coded["lower"] - plain["upper"], abs=ROUNDING)
    with h5py.File(whole) as file:
        assert file["design/plans"]["used"].tolist() == [6] and len(file["trials"]) == 12
    summary = sentinelnn.run(["summarize", joined, "--json"])
    assert summary.code == 0, summary.err


def test_strata_hold_their_words_and_the_known_one_no_trial(
    sentinelnn, campaign, stored, tmp_path
):
    one, three = tmp_path / "one.h5", tmp_path / "three.h5"
    more = ["--ber", "2e-4", "--sampling", "stratified", "--repeat", "200"]
    checkpoint = stored("int4:channel+bch:8,4")
    assert sentinelnn.run(args(campaign, checkpoint, one, *more)).code == 0
    assert sentinelnn.run(args(campaign, checkpoint, three, *more), 3).code == 0
    with h5py.File(one) as file, h5py.File(three) as other:
        rows, strata = file["trials"][:], file["design/strata"][:]
        assert np.array_equal(file["estimates"][:], other["estimates"][:])
        for column in ("stratum", "n_faults", "words_wrong", "correct"):
            assert np.array_equal(rows[column], other["trials"][column])
    assert len(rows) == 200
    assert strata["weight"].sum() == pytest.approx(1)
    assert strata["cost"][-1] == 0 and strata["cost"][:-1].min() > 0
    assert set(rows["stratum"]) == set(range(len(strata) - 1))
    for stratum, name in enumerate(strata["name"][:-1]):
        first, last = numbers_of(name.decode())
        wrong = rows["words_wrong"][rows["stratum"] == stratum]
        assert wrong.min() >= first and wrong.max() <= last


def numbers_of(stratum: str) -> tuple[int, float]:
    """The first and last of "2 words read wrongly", "3 to 4 words ...", "5 or more words ..."."""
    words = stratum.split()
    if words[1] == "or":
        return int(words[0]), float("inf")
    return int(words[0]), int(words[2] if words[1] == "to" else words[0])


def test_single_flips_in_several_layouts_have_strata(sentinelnn, campaign, stored, tmp_path):
    """The bits that codes correct are known; every other stratum names its layout and holds its bits."""
    output = tmp_path / "mixed.h5"
    more = ["--fault-target", "weight,bias,check", "--single-bit", "--faults-stored", "yes"]
    job = args(campaign, stored("int8:channel+secded:64"), output, *more)
    assert sentinelnn.run([*job, "--sampling", "stratified", "--repeat", "80"]).code == 0
    with h5py.File(output) as file:
        strata, rows = file["design/strata"][:], file["trials"][:]
        sites = file["faults/sites"][:]
        layouts = file["models/stored/tensors"]["layout"][:]
    names = [name.decode() for name in strata["name"]]
    assert names[0] == "fp32: bit 30" and names[-1] == "bits that a code corrects"
    assert strata["weight"][-1] > 0.99 and strata["cost"][-1] == 0
    assert set(rows["stratum"]) == set(range(len(names) - 1))
    assert set(layouts[sites["tensor"]]) == {b"fp32"}
    assert set(sites["bit"][rows["stratum"] == 0]) == {30}


def test_half_width_counts_what_is_known(sentinelnn, campaign, stored, tmp_path):
    """A network that loses nothing in most trials is soon narrow enough."""
    output = tmp_path / "narrow.h5"
    more = ["--ber", "2e-4", "--half-width", "0.03"]
    outcome = sentinelnn.run(args(campaign, stored("int4:channel+bch:8,4"), output, *more))
    assert outcome.code == 0, outcome.err
    with h5py.File(output) as file:
        assert file["design/plans"]["reached"][0] == 1
        rows, weights = file["trials"][:], file["design/strata"]["weight"][:]
        last = {row["quantity"].decode(): row for row in file["estimates"][:]}
    assert rows["words_wrong"].min() >= 1
    assert last["masked"]["estimate"] >= weights[-1]
    assert last["failing"]["upper"] <= 1 - weights[-1] + 1e-12
    shares = [last[name]["estimate"] for name in ("masked", "sdc_noncritical", "sdc_critical")]
    assert sum(shares) + last["due"]["estimate"] == pytest.approx(1)
