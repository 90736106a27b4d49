"""Results of schema 1, made by the version before schema 2 (tests/golden/schema1.md)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import Outcome

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))

import schema1  # noqa: E402

JOB = [*("--model", "schema1.pt", "--dataset", "synthetic", "--data", "data", "--images", "12")]
JOB += [*("--ber", "1e-3", "--repeat", "40", "--seed", "7", "--audit", "0.2")]
NEW = ("faults_masked", "words_wrong", "words_flagged", "faults_stored")


@pytest.fixture(scope="module")
def made(sentinelnn, tmp_path_factory) -> Path:
    folder = schema1.unpack(tmp_path_factory.mktemp("schema1"))
    synth = ["synth", "--output", folder / "data", "--train", "10", "--test", "20"]
    assert sentinelnn.run(synth).code == 0
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def tables(path: Path) -> dict[str, tuple[str, ...]]:
    with h5py.File(path) as file:
        found = {name: file[name].dtype.names for name in ("trials", "faults/sites", "points")}
        return found | {"version": int(file.attrs["schema_version"])}


def check_refused(outcome: Outcome, code: int, sentence: str) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.messages == [f"sentinelnn: {sentence}"], outcome.err


def begun_earlier(name: str, layout: str = "schema 1") -> str:
    return (
        f"{name} was begun by an earlier version of sentinelnn ({layout}); finish it with that "
        "version, or give --fresh to start over, or another --output"
    )


def test_it_is_summarized_as_before(sentinelnn, made):
    outcome = sentinelnn.run(["summarize", "--json", "schema1.h5"], cwd=made)
    assert outcome.code == 0, outcome.err
    assert outcome.out == (made / "schema1.json").read_text()


def test_parts_are_merged_as_before(sentinelnn, folder):
    merge = ["merge", "schema1_rest.h5", "schema1.h5", "-o", "all.h5"]
    outcome = sentinelnn.run(merge, cwd=folder)
    assert outcome.code == 0 and "40 trials from 2 results (complete)" in outcome.out, outcome.err
    outcome = sentinelnn.run(["summarize", "--json", "all.h5"], cwd=folder)
    assert outcome.out == (folder / "merged.json").read_text()
    assert tables(folder / "all.h5") == tables(folder / "schema1.h5")
    assert tables(folder / "all.h5")["version"] == 1


def test_its_trials_are_replayed(sentinelnn, made):
    replay = ["replay", "schema1.h5", "--trials", "0-24"]
    outcome = sentinelnn.run(replay, cwd=made)
    assert outcome.code == 0, outcome.err + outcome.out
    assert "25 of 25 trials identical" in outcome.out
    other = sentinelnn.run(["synth", "--output", made / "other", "--train", "10", "--seed", "9"])
    assert other.code == 0
    outcome = sentinelnn.run([*replay, "--data", "other"], cwd=made)
    assert outcome.code == 64 and "schema1.h5 belongs to another job (images: " in outcome.err


def test_its_faults_become_a_list(sentinelnn, folder):
    words = ["summarize", "schema1.h5", "--point", "0", "--faults", "list.csv"]
    outcome = sentinelnn.run(words, cwd=folder)
    assert outcome.code == 0, outcome.err
    with h5py.File(folder / "schema1.h5") as file:
        trials, offsets = file["trials"][:], file["faults/offsets"][:].astype(int)
        mine = (trials["point"] == 0) & (trials["model"] == 0)
        faults = np.diff(offsets)[mine].sum()
    lines = (folder / "list.csv").read_text().splitlines()
    assert len(lines) == 2 + faults and lines[2].endswith(",-1,flip,1")


def test_it_is_not_continued(sentinelnn, folder):
    path = folder / "schema1.h5"
    before = path.read_bytes()
    run = ["inject", *JOB, "--output", "schema1.h5"]
    check_refused(sentinelnn.run(run, cwd=folder), 64, begun_earlier("schema1.h5"))
    assert path.read_bytes() == before
    assert not list(folder.glob("schema1.h5.*"))
    outcome = sentinelnn.run([*run, "--fresh"], cwd=folder)
    assert outcome.code == 0, outcome.err
    now = tables(path)
    assert now["version"] == 2 and set(NEW) <= set(now["trials"])
    outcome = sentinelnn.run(["merge", "schema1.h5", "schema1_rest.h5", "-o", "all.h5"], cwd=folder)
    sentence = "schema1_rest.h5 has schema 1 and schema1.h5 has schema 2"
    check_refused(outcome, 64, f"{sentence}; only parts of the same schema can be merged")
    assert not (folder / "all.h5").exists()


@pytest.mark.parametrize("published", [True, False])
def test_its_journal_is_kept_and_not_read(sentinelnn, folder, published):
    if not published:
        (folder / "killed.h5").unlink()
    files = sorted(folder.glob("killed.h5*"))
    before = [path.read_bytes() for path in files]
    run = ["inject", *JOB, "--output", "killed.h5"]
    layout = "schema 1" if published else "journal version 1"
    check_refused(sentinelnn.run(run, cwd=folder), 64, begun_earlier("killed.h5", layout))
    assert sorted(folder.glob("killed.h5*")) == files
    assert [path.read_bytes() for path in files] == before
    outcome = sentinelnn.run([*run, "--fresh"], cwd=folder)
    assert outcome.code == 0, outcome.err
    assert sorted(folder.glob("killed.h5*")) == [folder / "killed.h5"]
    with h5py.File(folder / "killed.h5") as file:
        assert len(file["trials"]) == 40 and set(file["trials"]["session"]) == {0}


def test_the_new_version_gives_the_same_rows(sentinelnn, folder):
    """And what schema 1 does not tell is as documented: every flip makes its word wrong."""
    outcome = sentinelnn.run(["inject", *JOB, "--output", "now.h5"], cwd=folder)
    assert outcome.code == 0, outcome.err
    sentinelnn.run(["merge", "schema1_rest.h5", "schema1.h5", "-o", "all.h5"], cwd=folder)
    with h5py.File(folder / "now.h5") as now, h5py.File(folder / "all.h5") as before:
        for name in ("point", "id", "n_faults", "correct", "sdc_critical", "due"):
            assert now["trials"][name].tolist() == before["trials"][name].tolist(), name
        assert now["faults/offsets"][:].tolist() == before["faults/offsets"][:].tolist()
        old, new = before["faults/sites"][:], now["faults/sites"][:]
        for name in old.dtype.names:
            assert old[name].tolist() == new[name].tolist(), name
        trials, offsets = now["trials"][:], now["faults/offsets"][:]
        for row, trial in enumerate(trials):
            sites = new[int(offsets[row]) : int(offsets[row + 1])]
            words = {(int(s["tensor"]), int(s["element"])) for s in sites}
            assert trial["words_wrong"] == len(words)
        assert set(trials["faults_masked"]) | set(trials["words_flagged"]) == {0}
        assert set(trials["faults_stored"]) == {1}
        assert set(new["image"]) == {-1} and set(new["effect"]) == {0} and set(new["length"]) == {1}
        assert now["points"][0].tolist()[-4:] == (b"flip", b"bit", b"weight", b"")
        assert set(now["models/schema1/tensors"]["layout"]) == {b"fp32"}


def test_inspect_shows_what_is_there(sentinelnn, folder):
    outcome = sentinelnn.run(["inject", *JOB, "--output", "now.h5"], cwd=folder)
    assert outcome.code == 0, outcome.err
    shown = {}
    for name in ("schema1.h5", "now.h5"):
        outcome = sentinelnn.run(["inspect", name], cwd=folder)
        assert outcome.code == 0, outcome.err
        lines = outcome.out.splitlines()
        shown[name] = next(line for line in lines if line.startswith("/trials  ["))
        assert f"/ @schema_version = {1 + (name == 'now.h5')}" in lines
    for column in NEW:
        assert column not in shown["schema1.h5"] and column in shown["now.h5"]
