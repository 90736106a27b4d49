"""Faults in outputs of nodes, with the whole program: campaigns, lists, ranks, refusals."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import PLACE_AND_TIME, Result
from scipy.stats import beta
from test_fault_lists import inject, rows

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))

from plot_faults import places_of  # noqa: E402
from results import Result as Analysed  # noqa: E402

FAULTS = {
    "single": "--fault-target activation --single-bit",
    "ber": "--fault-target activation --ber 1e-4",
    "post": "--fault-target post --ber 1e-4",
    "permanent": "--fault-target post --fault-lifetime permanent --ber 1e-4",
    "floor": "--fault-target activation --ber 1e-3 --fault-count per-layer-floor --layers conv1",
    "stuck": "--fault-target activation --ber 1e-4 --fault-model stuck-at-1",
    "word": "--fault-target post --ber 1e-3 --fault-model random-word",
    "value": "--fault-target activation --ber 1e-3 --fault-model value:2.5",
    "burst": "--fault-target activation --event-rate 1e-4 --fault-shape burst:5",
    "blocks": "--fault-target activation --single-bit --images-per-trial 3",
    "layers": "--fault-target activation --single-bit --sampling per-layer --repeat 50",
    "bits": "--fault-target post --single-bit --sampling per-bit --repeat 64 --bits 0-30",
}


@pytest.fixture(scope="module")
def run(sentinelnn):
    def succeed(*words: str | Path, ranks: int = 0):
        outcome = sentinelnn.run(list(words), ranks=ranks)
        assert outcome.code == 0, outcome.err
        return outcome

    return succeed


@pytest.fixture(scope="module")
def hardened(run, campaign, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("hardened") / "hardened.pth"
    start = ["harden", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
    run(*start, "--calibration-images", "16", "--hardening-ratio", "0.3", "--output", path)
    return path


@pytest.mark.parametrize("faults", FAULTS)
def test_a_campaign_listed_is_the_campaign(run, campaign, hardened, tmp_path, faults):
    drawn, again, listed = tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "list.csv"
    words = FAULTS[faults].split()
    repeat = [] if "--repeat" in words else ["--repeat", "4"]
    run(*inject(campaign, hardened, drawn, *words, *repeat, "--faults-stored", "yes"))
    run("summarize", drawn, "--faults", listed)
    blocks = words[-2:] if "--images-per-trial" in words else []
    run(*inject(campaign, hardened, again, *blocks, "--faults", listed))
    before, now = rows(drawn), rows(again)
    assert sum(map(len, before[1])) > 0

    def told(found):  # a list is of nodes, whatever the target was
        return found[0], [[(site[0], *site[2:]) for site in trial] for trial in found[1]]

    assert told(before) == told(now)


@pytest.mark.parametrize("faults", ["single", "permanent", "blocks"])
def test_rows_do_not_depend_on_ranks_engine_or_resume(run, campaign, hardened, tmp_path, faults):
    def result(name: str, *more: str, ranks: int = 0, engine: str = "fast") -> np.ndarray:
        words = [*FAULTS[faults].split(), "--engine", engine, *more]
        command = inject(campaign, hardened, tmp_path / name, *words)
        command[command.index("--audit") + 1] = "1" if engine == "fast" else "0"
        run(*command, ranks=ranks)
        trials = Result.read(tmp_path / name).trials
        with h5py.File(tmp_path / name) as file:
            if engine == "fast":
                assert file["audit"]["mismatches"].sum() == 0
        return trials

    kept = [n for n in result("a.h5", "--repeat", "12").dtype.names if n not in PLACE_AND_TIME]
    alone = result("a.h5", "--repeat", "12")
    assert (alone[kept] == result("b.h5", "--repeat", "12", ranks=2)[kept]).all()
    shutil.copy(tmp_path / "a.h5", tmp_path / "c.h5")
    assert (alone[kept] == result("c.h5", "--repeat", "12")[kept]).all()
    result("d.h5", "--repeat", "5")
    assert (alone[kept] == result("d.h5", "--repeat", "12", ranks=3)[kept]).all()
    reference = result("e.h5", "--repeat", "12", engine="reference")
    for name in ("images", "n_faults", "first_node", "due", "sdc_critical", "correct"):
        assert (alone[name] == reference[name]).all(), name
    run("replay", tmp_path / "a.h5", "--trials", "0-11")
    again = run("replay", tmp_path / "a.h5", "--trials", "0-11", "--engine", "reference")
    assert "words of outputs are not compared" in again.out + again.err


def test_the_faults_of_an_image_are_its_own(run, campaign, tmp_path):
    """Fewer images leave those of the others as they are."""
    words = ["--fault-target", "activation", "--ber", "1e-4", "--repeat", "5"]
    found = []
    for images in ("8", "3"):
        path = tmp_path / f"{images}.h5"
        command = inject(campaign, campaign.checkpoint, path, *words)
        command[command.index("--images") + 1] = images
        run(*command)
        found.append([[s for s in trial if s[7] < 3] for trial in rows(path)[1]])
    assert found[0] == found[1]
    assert Counter(site[7] for trial in found[0] for site in trial).keys() == {0, 1, 2}


@pytest.mark.parametrize("faults", ["single", "ber", "post", "burst", "blocks", "permanent"])
def test_each_fault_of_an_image_tells_its_outcome(run, campaign, hardened, tmp_path, faults):
    """Counted by image these are the outcomes of the trial; images without a fault are masked."""
    path = tmp_path / "r.h5"
    words = [*FAULTS[faults].split(), "--repeat", "6", "--faults-stored", "yes"]
    run(*inject(campaign, hardened, path, *words))
    with h5py.File(path) as file:
        trials, offsets = file["trials"][:], file["faults/offsets"][:]
        sites = [file["faults/sites"][a:b] for a, b in zip(offsets[:-1], offsets[1:])]
    for trial, own in zip(trials, sites):
        if faults == "permanent":
            assert (own["outcome"] == 255).all()
            continue
        of_image = dict(zip(own["image"], own["outcome"]))
        assert all(of_image[site["image"]] == site["outcome"] for site in own)
        counts = Counter(of_image.values())
        counts[0] += trial["images"] - len(of_image)
        kinds = ("masked", "sdc_noncritical", "sdc_critical", "due")
        assert [counts[kind] for kind in range(4)] == [trial[kind] for kind in kinds]


def test_intervals_count_images_where_each_has_faults_of_its_own(run, campaign, tmp_path):
    path = tmp_path / "r.h5"
    words = ["--fault-target", "activation", "--fault-count", "exact:50", "--repeat", "30"]
    run(*inject(campaign, campaign.checkpoint, path, *words))
    result = Result.read(path)
    with h5py.File(path) as file:
        estimates = file["estimates"][:]
        assert file["points"]["lifetime"].tolist() == [b"image"]
        assert file["points"].attrs["unit_ber"] == "flip/bit/image/trial"
    n = int(result.trials["images"].sum())
    for row in estimates:
        assert row["method"] == b"Clopper-Pearson over images", row["quantity"]
        names = {"accuracy": ["correct"], "failing": ["sdc_critical", "due"]}
        columns = names.get(row["quantity"].decode(), [row["quantity"].decode()])
        if columns == ["accuracy_argmax"]:
            columns = ["correct_argmax"]
        k = sum(int(result.trials[name].sum()) for name in columns)
        assert row["estimate"] == pytest.approx(k / n)
        assert row["lower"] == pytest.approx(beta.ppf(0.025, k, n - k + 1) if k else 0)
        assert row["upper"] == pytest.approx(beta.ppf(0.975, k + 1, n - k) if k < n else 1)


def test_plan_counts_the_faults_that_a_trial_holds(run, campaign):
    def held(*words: str) -> tuple[float, float]:
        start = ["plan", "--data", campaign.data, "--checkpoint", campaign.checkpoint, "--json"]
        how = ["--images", "8", "--fault-target", "activation", "--repeat", "1"]
        plan = json.loads(run(*start, *how, "--faults-stored", "no", *words).out)
        parts = ("program_bytes", "network_bytes", "image_bytes", "cache_bytes", "fault_bytes")
        assert plan["peak_bytes"] == sum(plan[part] for part in parts)
        return plan["fault_bytes"], plan["points"][0]["faults"]

    memory, faults = held("--ber", "1e-2")
    assert memory == pytest.approx(100 * faults, rel=1e-3)
    memory_of_some, fewer = held("--ber", "1e-2", "--images-per-trial", "2")
    assert fewer == pytest.approx(faults / 4)
    assert memory_of_some == pytest.approx(memory / 4, rel=1e-3)
    assert held("--ber", "1e-3", "1e-2")[0] == memory  # of the point that has most


@pytest.mark.parametrize(("images", "repeat"), [(8, 60), (3, 150), (1, 400)])
def test_trials_tell_where_flips_hurt(run, campaign, tmp_path, images, repeat):
    """By layer and by bit, as single flips of weights do, with an image as the unit."""
    path = tmp_path / "r.h5"
    words = ["--fault-target", "activation", "--single-bit", "--repeat", str(repeat)]
    blocks = [] if images == 8 else ["--images-per-trial", str(images)]
    run(*inject(campaign, campaign.checkpoint, path, *words, *blocks))
    with Analysed(path) as result:
        seen = int(result.trials["images"].sum())  # the last of 3 blocks has 2 images
        assert seen == images * repeat or images == 3
        failed = result.faults["outcome"] >= 2
        assert failed.sum() > 2
        assert failed.sum() == (result.trials["sdc_critical"] + result.trials["due"]).sum()
        for column in ("layer", "bit"):
            (panel,) = places_of(result, column).panels
            assert panel.table["with_it"].sum() == seen
            for row in panel.table.itertuples():
                hit = result.faults[column] == getattr(row, column)
                if hit.sum() >= 2:
                    assert row.estimate == pytest.approx(failed[hit].mean())


@pytest.mark.parametrize("faults", ["--single-bit", "--ber 1e-4", "--ber 1e-4 --half-width 0.1"])
def test_networks_are_compared(run, campaign, hardened, tmp_path, faults):
    path = tmp_path / "r.h5"
    start = ["campaign", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
    plan = ["--hardening-ratio", "0", "--clipping", "none", "--also", f"mine={hardened}"]
    words = ["--fault-target", "activation", *faults.split(), "--images", "8"]
    repeat = ["--repeat", "300"] if "half" in faults else ["--repeat", "20"]
    outcome = run(*start, *plan, *words, *repeat, "--output", path)
    images = "trials x images where the method says so"
    assert (images in outcome.out) == ("half" not in faults)
    with h5py.File(path) as file:
        rows = file["estimates"][:]
    differences = rows[rows["against"] == 0]
    assert len(differences) > 0
    assert (differences["method"] != b"Clopper-Pearson over images").all()
    for row in rows:
        assert row["lower"] <= row["estimate"] <= row["upper"]


def test_a_list_with_a_byte_order_mark_and_a_head(run, campaign, tmp_path):
    listed, path = tmp_path / "list.csv", tmp_path / "r.h5"
    text = "# sentinelnn-faults 1 trials=2\ntrial,tensor,element,bit,image\n0,conv1,5,30,3\n"
    listed.write_bytes(b"\xef\xbb\xbf" + text.encode())
    run(*inject(campaign, campaign.checkpoint, path, "--faults", listed))
    assert Result.read(path).trials["n_faults"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--fault-target activation,weight --single-bit", "is no one population with others"),
        ("--fault-target activation,post --single-bit", "is no one population with others"),
        ("--fault-target post --single-bit --sampling per-class", "are one class"),
        ("--fault-lifetime image --single-bit", "--fault-lifetime image is for --fault-target"),
        ("--fault-target post --fault-lifetime ever --single-bit", "choose image or permanent"),
        ("--fault-target activation --layers nothing --single-bit", "--layers nothing"),
        ("--fault-target activation --bits 32 --single-bit", "--bits 32"),
        ("--fault-target activation --channels conv1=99 --single-bit", "--channels conv1"),
        ("--fault-target activation --ber 1e-4 --sampling stratified", "have no strata"),
    ],
)
def test_bad_input_is_one_sentence(sentinelnn, campaign, tmp_path, words, part):
    output = tmp_path / "r.h5"
    outcome = sentinelnn.run(inject(campaign, campaign.checkpoint, output, *words.split()))
    assert outcome.code == 64, outcome.err
    assert len(outcome.messages) == 1 and part in outcome.messages[0]
    assert not output.exists()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("0,conv1,5,3,8", "image 8 is none of the 8 images, 0 to 7"),
        ("0,conv1,5,3,0\n0,nothing,5,3,0", "the network has no node 'nothing'"),
        ("0,nothing,5,3,0", "the network stores no tensor 'nothing'"),
        ("0,conv1,99999999,3,0", "element 99999999 lies outside conv1"),
        ("0,conv1,5,32,0", "bit 32 lies outside"),
        ("0,conv1,5,3,0\n0,conv1.weight,5,3,-1", "no node 'conv1.weight'"),
        ("0,conv1,5,3,0\n0,conv1,5,3,0", "two faults at bit 3 of element 5 of conv1"),
    ],
)
def test_bad_lists_are_refused_with_their_line(sentinelnn, campaign, tmp_path, line, part):
    listed = tmp_path / "list.csv"
    listed.write_text(f"trial,tensor,element,bit,image\n{line}\n")
    output = tmp_path / "r.h5"
    command = inject(campaign, campaign.checkpoint, output, "--faults", listed)
    outcome = sentinelnn.run(command)
    assert outcome.code == 65, outcome.err
    assert part in outcome.messages[0] and f"{listed}:{2 + line.count(chr(10))}" in outcome.err
    assert not output.exists()
