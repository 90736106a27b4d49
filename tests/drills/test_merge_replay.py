"""Parts of a campaign joined are the campaign; trials run again are the trials that are stored."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import Outcome, Result


def check_refused(outcome: Outcome, code: int, *names: object) -> None:
    assert outcome.code == code, outcome.err + outcome.out
    assert len(outcome.messages) == 1, outcome.err
    for name in names:
        assert str(name) in outcome.messages[0], f"{name} is not named in:\n{outcome.err}"
    assert outcome.out == ""


def keep_trials(source: Path, target: Path, first: int, end: int) -> Path:
    """A copy that holds only the trials first ... end-1, as if no others had been run yet."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        trials, offsets = file["trials"][()], file["faults/offsets"][()]
        kept = np.flatnonzero((trials["id"] >= first) & (trials["id"] < end))
        counts = (offsets[1:] - offsets[:-1])[kept]
        spans = [np.arange(offsets[row], offsets[row + 1]) for row in kept]
        sites = file["faults/sites"][()][np.concatenate(spans).astype(int)]
        audit = file["audit"][()]
        del file["trials"], file["faults/offsets"], file["faults/sites"], file["audit"]
        file["audit"] = audit[(audit["id"] >= first) & (audit["id"] < end)]
        file["trials"] = trials[kept]
        file["faults/offsets"] = np.concatenate([[0], np.cumsum(counts)]).astype("u8")
        file["faults/sites"] = sites
        file.attrs["complete"] = np.uint8(len(kept) == len(trials))
    return target


def change(path: Path, dataset: str, row: int, column: str, by: int) -> None:
    with h5py.File(path, "r+") as file:
        rows = file[dataset][()]
        rows[column][row] ^= np.array(by, rows.dtype[column])
        file[dataset][...] = rows


OUTCOMES = ("masked", "sdc_noncritical", "sdc_critical", "due")


def move_image(path: Path, row: int, to: str, outcomes: tuple[str, ...] = OUTCOMES) -> None:
    """One image has the outcome `to` instead of another one, or the other way round."""
    with h5py.File(path, "r+") as file:
        rows = file["trials"][()]
        others = [name for name in outcomes if name != to]
        other = max(others, key=lambda name: rows[name][row])
        taken, given = (other, to) if rows[other][row] > 0 else (to, other)
        rows[taken][row] -= 1
        rows[given][row] += 1
        file["trials"][...] = rows


@pytest.fixture(scope="module")
def whole(undisturbed, scratch) -> Path:
    return scratch / "undisturbed.h5"


# ---- merge ---------------------------------------------------------------------------------------

RANGES = [(0, 7), (7, 8), (8, 21), (21, 30)]


def test_ranges_of_trials_join_to_the_campaign(sentinelnn, campaign, undisturbed, tmp_path):
    parts = [tmp_path / f"part{first}.h5" for first, _ in RANGES]
    for part, (first, end) in zip(parts, RANGES):
        outcome = sentinelnn.run(campaign.args(part, "--trial-range", f"{first}:{end}"))
        assert outcome.code == 0, outcome.err
        assert set(Result.read(part).trials["id"]) == set(range(first, end))
    outcome = sentinelnn.run(["merge", *parts, "-o", tmp_path / "all.h5"])
    assert outcome.code == 0, outcome.err
    joined = Result.read(tmp_path / "all.h5")
    joined.check_same(undisturbed.result)
    assert len(joined.sessions) == len(RANGES)
    # The networks that the parts made are found where the job kept them.
    outcome = sentinelnn.run(["replay", tmp_path / "all.h5", "--trials", "0,29"])
    assert outcome.code == 0, outcome.err + outcome.out


@pytest.mark.parametrize("ranks", [0, 2])
def test_parts_join_to_the_campaign(sentinelnn, undisturbed, whole, tmp_path, ranks):
    parts = [keep_trials(whole, tmp_path / f"{first}.h5", first, end) for first, end in RANGES]
    args = ["merge", *reversed(parts), "--output", tmp_path / "all.h5"]
    outcome = sentinelnn.run(args, ranks)
    assert outcome.code == 0, outcome.err
    assert "60 trials from 4 results (complete)" in outcome.out
    Result.read(tmp_path / "all.h5").check_same(undisturbed.result)
    assert {p.name for p in tmp_path.iterdir()} == {"all.h5", *(p.name for p in parts)}


def test_a_part_is_missing(sentinelnn, undisturbed, whole, tmp_path):
    parts = [keep_trials(whole, tmp_path / f"{first}.h5", first, end) for first, end in RANGES]
    output = tmp_path / "all.h5"
    outcome = sentinelnn.run(["merge", *parts[:2], parts[3], "-o", output])
    assert outcome.code == 0, outcome.err
    assert "not complete: 60 are planned" in outcome.out
    some = Result.read(output)
    some.check_whole()
    some.check_part_of(undisturbed.result)
    assert not some.complete
    assert set(some.trials["id"]) == set(range(8)) | set(range(21, 30))
    assert set(some.estimates["trials"]) <= {17, 34}
    # The missing part comes later; what the output holds is kept.
    outcome = sentinelnn.run(["merge", parts[2], "-o", output])
    assert outcome.code == 0, outcome.err
    Result.read(output).check_same(undisturbed.result)


def test_a_shorter_campaign_adds_nothing(sentinelnn, campaign, undisturbed, whole, tmp_path):
    """Overlapping parts, one of them made on other ranks; then the campaign goes on with it."""
    short, output = tmp_path / "short.h5", tmp_path / "all.h5"
    outcome = sentinelnn.run(campaign.args(short, trials=5), 2)
    assert outcome.code == 0, outcome.err
    rest = keep_trials(whole, tmp_path / "rest.h5", 3, 30)
    outcome = sentinelnn.run(["merge", short, rest, "-o", output])
    assert outcome.code == 0, outcome.err
    assert "8 rows were there more than once" in outcome.out
    Result.read(output).check_same(undisturbed.result)
    shutil.copy(f"{short}.hardened.pth", f"{output}.hardened.pth")
    outcome = sentinelnn.run(campaign.args(output))
    assert outcome.code == 0, outcome.err
    assert outcome.stored_already == 60
    Result.read(output).check_same(undisturbed.result)


def test_parts_that_disagree(sentinelnn, whole, tmp_path):
    part = keep_trials(whole, tmp_path / "part.h5", 0, 10)
    change(part, "trials", 7, "correct", 1)  # point 0, trial 3, model 1
    outcome = sentinelnn.run(["merge", whole, part, "-o", tmp_path / "all.h5"])
    check_refused(outcome, 65, part, "trial 3 of point 0, model 1", whole)
    assert [p.name for p in tmp_path.iterdir()] == ["part.h5"]


def test_another_job(sentinelnn, campaign, whole, tmp_path):
    other = tmp_path / "other.h5"
    args = campaign.args(other, trials=2)
    args[args.index("--seed") + 1] = "8"
    assert sentinelnn.run(args).code == 0
    outcome = sentinelnn.run(["merge", whole, other, "-o", tmp_path / "all.h5"])
    check_refused(outcome, 64, other, "seed: 8 -> 7")
    assert not (tmp_path / "all.h5").exists()


def test_bad_files(sentinelnn, whole, tmp_path):
    before = whole.read_bytes()
    cut, text, output = tmp_path / "cut.h5", tmp_path / "text.h5", tmp_path / "all.h5"
    cut.write_bytes(before[: len(before) // 2])
    text.write_text("no result")
    for bad in (cut, text, tmp_path / "missing.h5"):
        check_refused(sentinelnn.run(["merge", whole, bad, "-o", output]), 65, bad)
    check_refused(sentinelnn.run(["merge", whole, "-o", text]), 64, text)
    check_refused(sentinelnn.run(["merge", whole, "-o", whole]), 64, whole)
    check_refused(sentinelnn.run(["merge", whole]), 64, "--output")
    check_refused(sentinelnn.run(["merge", "-o", output]), 64, "merge")
    check_refused(sentinelnn.run(["merge", whole, "-o", tmp_path / "no/all.h5"]), 71, "no/all.h5")
    assert whole.read_bytes() == before
    assert text.read_text() == "no result"
    assert {p.name for p in tmp_path.iterdir()} == {"cut.h5", "text.h5"}


# ---- replay --------------------------------------------------------------------------------------


@pytest.fixture
def moved(whole, tmp_path) -> Path:
    """The result with the network it made, somewhere else, to be spoilt."""
    path = tmp_path / "moved.h5"
    shutil.copy(whole, path)
    shutil.copy(f"{whole}.hardened.pth", f"{path}.hardened.pth")
    return path


@pytest.mark.parametrize("ranks", [0, 1, 2])
def test_random_trials_are_the_stored_ones(sentinelnn, whole, ranks):
    files = {p.name for p in whole.parent.iterdir()}
    outcome = sentinelnn.run(["replay", whole, "--trials", "random:20", "--seed", "3"], ranks)
    assert outcome.code == 0, outcome.err + outcome.out
    assert outcome.out.splitlines()[-1] == "20 of 20 trials identical"
    assert "not compared" not in outcome.out
    rows = re.findall(r"^(\d+) +(\d+) +(?:unprotected|hardened) ", outcome.out, re.MULTILINE)
    keys = [(int(point), int(trial)) for point, trial in rows]
    assert keys == sorted(keys) and len(keys) == 2 * len(set(keys)) == 40
    assert {p.name for p in whole.parent.iterdir()} == files


def test_trials_of_other_ranks(sentinelnn, campaign, tmp_path):
    path = tmp_path / "result.h5"
    assert sentinelnn.run(campaign.args(path, trials=6), 3).code == 0
    for ranks in (0, 2):
        outcome = sentinelnn.run(["replay", path, "--trials", "0,2-5", "--point", "1"], ranks)
        assert outcome.code == 0, outcome.err + outcome.out
        assert outcome.out.splitlines()[-1] == "5 of 5 trials identical"


def test_the_reference_engine_replays_the_outcomes(sentinelnn, whole):
    outcome = sentinelnn.run(["replay", whole, "--trials", "0-9", "--engine", "reference"])
    assert outcome.code == 0, outcome.err + outcome.out
    assert "40 rows came from another device, instruction set or engine" in outcome.out
    assert outcome.out.splitlines()[-1] == "20 of 20 trials identical"


@pytest.mark.parametrize("fault_model", [["--single-bit"], ["--fault-count", "exact:5"]])
def test_inject(sentinelnn, campaign, tmp_path, fault_model):
    path = tmp_path / "result.h5"
    args = ["inject", "--checkpoint", campaign.checkpoint, "--data", campaign.data]
    args += ["--output", path, "--images", "10", "--repeat", "12", "--seed", "5", *fault_model]
    assert sentinelnn.run(args).code == 0
    outcome = sentinelnn.run(["replay", path, "--trials", "0-11"])
    assert outcome.code == 0, outcome.err + outcome.out
    assert outcome.out.splitlines()[-1] == "12 of 12 trials identical"


@pytest.mark.parametrize("column", ["correct", "first_node", *OUTCOMES])
def test_a_changed_row_is_found(sentinelnn, moved, column):
    row = 2 * 30 + 11  # point 1, trial 5, model 1
    if column in OUTCOMES:
        move_image(moved, row, column)
    else:
        change(moved, "trials", row, column, 1)
    outcome = sentinelnn.run(["replay", moved, "--trials", "4-6"])
    assert outcome.code == 1, outcome.err + outcome.out
    (line,) = (
        line for line in outcome.out.splitlines() if line.startswith("point 1, trial 5, hardened: ")
    )
    assert f" {column}: " in line
    assert outcome.out.splitlines()[-1] == "5 of 6 trials identical"


@pytest.mark.parametrize("column", ["before", "after", "element"])
def test_a_changed_fault_is_found(sentinelnn, moved, column):
    result = Result.read(moved)
    row = int(np.flatnonzero((result.trials["point"] == 1) & (result.trials["model"] == 0))[3])
    change(moved, "faults/sites", int(result.offsets[row]), column, 1)
    outcome = sentinelnn.run(["replay", moved, "--trials", "2-4", "--point", "1"], 2)
    assert outcome.code == 1, outcome.err + outcome.out
    assert f"point 1, trial 3, unprotected: fault 0 {column}: " in outcome.out
    assert outcome.out.splitlines()[-1] == "2 of 3 trials identical"


def test_another_instruction_set(sentinelnn, moved):
    """What may differ there is not compared; the rest is."""
    with h5py.File(moved, "r+") as file:
        sessions = file["provenance/sessions"][()]
        info = json.loads(sessions["info"][0])
        changed = json.dumps(info | {"instruction_set": "?"}, separators=(",", ":"))
        sessions["info"][0] = changed.encode()
        assert json.loads(sessions["info"][0])["instruction_set"] == "?", "did not fit"
        file["provenance/sessions"][...] = sessions
    move_image(moved, 0, "sdc_noncritical", ("masked", "sdc_noncritical"))
    outcome = sentinelnn.run(["replay", moved, "--trials", "0-2", "--point", "0"])
    assert outcome.code == 0, outcome.err + outcome.out
    assert "6 rows came from another device, instruction set or engine (cpu ?" in outcome.out
    move_image(moved, 0, "sdc_critical")
    outcome = sentinelnn.run(["replay", moved, "--trials", "0-2", "--point", "0"])
    assert outcome.code == 1, outcome.err + outcome.out
    assert "point 0, trial 0, unprotected: sdc_critical: " in outcome.out
    assert "masked:" not in outcome.out


def test_files_that_do_not_fit(sentinelnn, campaign, moved, tmp_path):
    trials = ["replay", moved, "--trials", "1"]
    other = tmp_path / "other.pth"
    args = ["train", "--model", "resnet20", "--dataset", "synthetic", "--data", campaign.data]
    args += ["--epochs", "1", "--seed", "4", "--output", other]
    assert sentinelnn.run(args).code == 0
    check_refused(sentinelnn.run([*trials, "--checkpoint", other]), 64, moved, "model 0")
    check_refused(sentinelnn.run([*trials, "--checkpoint", moved]), 65, moved)
    missing = tmp_path / "missing.pth"
    check_refused(sentinelnn.run([*trials, "--checkpoint", missing], 2), 65, missing)
    check_refused(sentinelnn.run([*trials, "--data", tmp_path]), 65, tmp_path)
    images = tmp_path / "images"
    synth = ["synth", "--output", images, "--train", "200", "--test", "100", "--seed", "9"]
    assert sentinelnn.run(synth).code == 0
    check_refused(sentinelnn.run([*trials, "--data", images]), 64, moved, "images")
    shutil.copy(campaign.checkpoint, tmp_path / "copy.pth")
    assert sentinelnn.run([*trials, "--checkpoint", tmp_path / "copy.pth"]).code == 0
    Path(f"{moved}.hardened.pth").write_bytes(b"no network")
    check_refused(sentinelnn.run(trials), 65, f"{moved}.hardened.pth")


def test_bad_requests(sentinelnn, campaign, whole, tmp_path):
    def replay(*more: str) -> Outcome:
        return sentinelnn.run(["replay", whole, *more])

    check_refused(replay(), 64, "--trials", "random:20")
    check_refused(replay("--trials", "3,30"), 64, "trial 30")
    check_refused(replay("--trials", "3-"), 64, "--trials")
    check_refused(replay("--trials", "3", "--point", "2"), 64, "--point 2")
    check_refused(replay("--trials", "random:61"), 64, "random:61")
    check_refused(replay("--trials", "3", "--engine", "warp"), 64, "warp")
    check_refused(sentinelnn.run(["replay", "--trials", "3"]), 64, "replay")
    missing = tmp_path / "missing.h5"
    check_refused(sentinelnn.run(["replay", missing, "--trials", "3"]), 65, missing)
    assert sentinelnn.run(campaign.rank_args(tmp_path, 2)).code == 0
    channels = tmp_path / "ranking.h5.trials.h5"
    check_refused(sentinelnn.run(["replay", channels, "--trials", "0"]), 64, "channel-FI")
