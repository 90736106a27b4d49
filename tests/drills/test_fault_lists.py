"""Lists of faults: what a campaign drew and a list says again is the same campaign."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import Outcome, Result

COUNTS = ("id", "images", "n_faults", "first_node", "correct", "top5", "masked", "sdc_noncritical")
COUNTS += ("sdc_critical", "due", "correct_argmax", "faults_masked", "words_wrong")
COUNTS += ("words_flagged", "block")
SITE = ("kind", "element", "word_bits", "bit", "before", "after", "image", "effect", "length")

FAULTS = {
    "single": "--single-bit",
    "ber": "--ber 1e-4 --fault-target parameters",
    "exact": "--fault-count exact:40",
    "floor": "--ber 5e-6 --fault-count per-layer-floor",
    "blocks": "--single-bit --images-per-trial 3",
    "strata": "--single-bit --sampling stratified --repeat 72",
    "stuck": "--ber 1e-4 --fault-model stuck-at-1",
    "burst": "--event-rate 1e-4 --fault-shape burst:5",
    "mbu": "--event-rate 1e-4 --fault-shape mbu:0.5,0.3,0.2 --fault-model stuck-at-0",
    "random_word": "--ber 1e-3 --fault-model random-word",
    "value": "--ber 1e-3 --fault-model value:-0.3",
}
STORED = {"int8": "weight=int8:channel", "bch": "weight=int5:channel+bch:16,5"}
CELLS = [("plain", faults) for faults in FAULTS]
CELLS += [(s, f) for s in STORED for f in ("ber", "burst", "random_word", "value")]

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def run(sentinelnn) -> Run:
    def succeed(*words: str | Path) -> Outcome:
        outcome = sentinelnn.run(list(words))
        assert outcome.code == 0, outcome.err
        return outcome

    return succeed


@pytest.fixture(scope="module")
def networks(run, campaign, scratch) -> dict[str, Path]:
    made = {"plain": campaign.checkpoint}
    start = ["harden", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
    for name, store in STORED.items():
        made[name] = scratch / f"list_{name}.pth"
        plain = ["--hardening-ratio", "0", "--clipping", "none", "--store", store]
        run(*start, *plain, "--output", made[name])
    made["hardened"] = scratch / "list_hardened.pth"
    run(*start, "--calibration-images", "16", "--output", made["hardened"])
    return made


def inject(campaign, network: Path, output: Path, *more: str | Path) -> list[str | Path]:
    """The command; its list, where it has one, is the last word."""
    start = ["inject", "--data", campaign.data, "--checkpoint", network, "--images", "8"]
    return [*start, "--audit", "0", "--output", output, *more]


def rows(path: Path, model: int = 0) -> tuple[list[tuple], list[list[tuple]]]:
    """Counters and faults of a network's trials, tensors by name."""
    result = Result.read(path)
    with h5py.File(path) as file:
        (network,) = [m for m in file["models"].values() if m.attrs["index"] == model]
        names = [row["name"].decode() for row in network["tensors"][:]]
    mine = np.flatnonzero(result.trials["model"] == model)
    counts = [tuple(result.trials[row][name] for name in COUNTS) for row in mine]
    faults = [
        [(names[s["tensor"]], *(int(s[name]) for name in SITE)) for s in result.faults(int(row))]
        for row in mine
    ]
    return counts, faults


def method(path: Path) -> set[bytes]:
    with h5py.File(path) as file:
        found = file["estimates"][:]
        assert np.isnan(found["lower"]).all() and np.isnan(found["upper"]).all()
        assert file["points"]["estimand"].tolist() == [b"listed"]
        return set(found["method"])


# ---- round trip ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "faults"), CELLS)
def test_a_campaign_listed_is_the_campaign(run, campaign, networks, tmp_path, network, faults):
    drawn, again, listed = tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "list.csv"
    words = FAULTS[faults].split()
    repeat = [] if "--repeat" in words else ["--repeat", "4"]
    run(*inject(campaign, networks[network], drawn, *words, *repeat, "--faults-stored", "yes"))
    run("summarize", drawn, "--faults", listed)
    blocks = words[-2:] if "--images-per-trial" in words else []
    run(*inject(campaign, networks[network], again, *blocks, "--faults", listed))
    before, now = rows(drawn), rows(again)
    assert sum(map(len, before[1])) > 0
    assert before == now
    assert method(again) == {b"listed"}
    twice = tmp_path / "twice.csv"
    run("summarize", again, "--faults", twice)
    assert twice.read_text() == listed.read_text() or faults == "value"
    third = tmp_path / "c.h5"
    if faults == "value":  # of a list, a value in another format than fp32 is told as its word
        run(*inject(campaign, networks[network], third, "--faults", twice))
        after = [[fault[6] for fault in trial] for trial in now[1]]
        assert [[fault[6] for fault in trial] for trial in rows(third)[1]] == after


def test_copies_of_a_hardened_network_too(run, campaign, networks, tmp_path):
    drawn, again, listed = tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "list.csv"
    hardened = networks["hardened"]
    start = ["campaign", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
    faults = ["--ber", "1e-4", "--fault-target", "parameters", "--repeat", "4", "--images", "8"]
    plan = ["--hardening-ratio", "0", "--clipping", "none", "--also", f"mine={hardened}"]
    run(*start, *faults, *plan, "--output", drawn)
    run("summarize", drawn, "--faults", listed, "--network", "mine")
    run(*inject(campaign, hardened, again, "--faults", listed))
    assert rows(drawn, model=1) == rows(again)


def test_faults_that_were_not_stored_are_drawn_again(run, sentinelnn, campaign, tmp_path):
    drawn, listed = tmp_path / "a.h5", tmp_path / "list.csv"
    words = ["--ber", "1e-4", "1e-5", "--repeat", "3", "--faults-stored", "no"]
    run(*inject(campaign, campaign.checkpoint, drawn, *words))
    refused = sentinelnn.run(["summarize", drawn, "--faults", listed, "--point", "1"])
    assert refused.code == 64
    assert f"{drawn} has no faults of trial 0; `sentinelnn replay" in refused.messages[0]
    assert not listed.exists()
    run("replay", drawn, "--trials", "0-2", "--point", "1", "--faults", listed)
    again = tmp_path / "b.h5"
    run(*inject(campaign, campaign.checkpoint, again, "--faults", listed))
    counts = rows(drawn)[0]
    assert len(counts) == 6
    assert rows(again)[0] == counts[3:]


# ---- campaigns -----------------------------------------------------------------------------------


LIST = """trial,tensor,element,bit,effect
0,conv1.weight,0,30,
0,layer1.0.conv1.weight,17,30,stuck-at-1
2,bn1.running_var,1,3,random-word
2,layer3.2.conv2.weight,1000,22,value:0.5
""".replace(",22,value", ",,value").replace(",3,random", ",0,random")


@pytest.fixture
def listed(tmp_path) -> Path:
    path = tmp_path / "list.csv"
    path.write_text(LIST)
    return path


def test_a_list_hits_the_same_words_of_every_network(run, campaign, listed, tmp_path):
    start = ["campaign", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
    plan = ["--pruning-ratio", "0.3", "--finetune-epochs", "0", "--calibration-images", "16"]
    output = tmp_path / "r.h5"
    more = ["--all-combinations", "--images", "8", "--faults", listed, "--output", output]
    outcome = run(*start, *plan, *more)
    with h5py.File(output) as file:
        numbers = {name: int(m.attrs["index"]) for name, m in file["models"].items()}
    _, original = rows(output, numbers["unprotected"])
    assert [len(faults) for faults in original] == [2, 0, 2]
    assert rows(output, numbers["hardened"])[1] == original
    _, pruned = rows(output, numbers["pruned"])
    gone = 4 - sum(map(len, pruned))
    assert gone > 0
    assert f"{gone} of 4 listed faults are not in the network 'pruned'" in outcome.err
    words = {fault[5:7] for trial in original for fault in trial}
    assert {fault[5:7] for trial in pruned for fault in trial} <= words
    assert method(output) == {b"listed"}
    assert "A list is no sample" in outcome.out and "[interval]" not in outcome.out


def test_ranks_share_the_list(run, sentinelnn, campaign, listed, tmp_path):
    one, two = tmp_path / "one.h5", tmp_path / "two.h5"
    run(*inject(campaign, campaign.checkpoint, one, "--faults", listed))
    words = inject(campaign, campaign.checkpoint, two, "--faults", listed)
    outcome = sentinelnn.run(words, ranks=2)
    assert outcome.code == 0, outcome.err
    assert rows(one) == rows(two)


def test_a_campaign_goes_on_and_parts_merge(run, sentinelnn, campaign, listed, tmp_path):
    parts = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for part, span in zip(parts, ("0:1", "1:3")):
        more = ["--trial-range", span, "--faults", listed]
        run(*inject(campaign, campaign.checkpoint, part, *more))
    joined, whole = tmp_path / "joined.h5", tmp_path / "whole.h5"
    run("merge", *parts, "--output", joined)
    command = inject(campaign, campaign.checkpoint, whole, "--faults", listed)
    run(*command)
    assert rows(joined) == rows(whole)
    listed.write_text(LIST.replace("0,conv1.weight,0,30", "0,conv1.weight,0,29"))
    refused = sentinelnn.run(command)
    assert refused.code == 64
    assert "belongs to another job (list: " in refused.messages[0]
    beyond = inject(campaign, campaign.checkpoint, tmp_path / "c.h5", "--trial-range", "0:9")
    refused = sentinelnn.run([*beyond, "--faults", listed])
    assert refused.code == 64
    assert "--trial-range 0:9 reaches beyond the 3 trials of" in refused.messages[0]


def test_plan_tells_the_faults_of_a_list(run, campaign, listed):
    words = ["plan", "--data", campaign.data, "--checkpoint", campaign.checkpoint]
    outcome = run(*words, "--images", "8", "--faults", listed)
    assert "listed" in outcome.out and "alf-width after" not in outcome.out


# ---- replay --------------------------------------------------------------------------------------


def test_replay_wants_the_same_list(run, sentinelnn, campaign, listed, tmp_path):
    output = tmp_path / "r.h5"
    run(*inject(campaign, campaign.checkpoint, output, "--faults", listed))
    command = ["replay", output, "--trials", "0-2"]
    run(*command)
    listed.write_text(LIST.replace(",30,", ",29,"))
    refused = sentinelnn.run(command)
    assert refused.code == 65
    assert f"{listed}: has changed since: the list of faults of {output}" in refused.messages[0]
    listed.unlink()
    refused = sentinelnn.run(command)
    assert refused.code == 65
    assert f"{listed}: is missing" in refused.messages[0]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(output, elsewhere)
    (elsewhere / "list.csv").write_text(LIST)
    run("replay", elsewhere / "r.h5", "--trials", "0-2")


# ---- refusals ------------------------------------------------------------------------------------

OTHERS = {
    "--fault-target": "bias",
    "--layers": "conv1",
    "--channels": "conv1=0",
    "--bits": "30",
    "--fault-model": "stuck-at-1",
    "--fault-shape": "burst:2",
    "--event-rate": "1e-4",
    "--ber": "1e-4",
    "--fault-count": "exact:3",
    "--repeat": "3",
    "--half-width": "0.1",
    "--sampling": "stratified",
}


@pytest.mark.parametrize("option", OTHERS)
def test_a_list_says_all_of_the_faults(sentinelnn, campaign, listed, tmp_path, option):
    more = [option, OTHERS[option], "--faults", listed]
    refused = sentinelnn.run(inject(campaign, campaign.checkpoint, tmp_path / "r.h5", *more))
    assert refused.code == 64
    assert f"{listed} says which faults each trial has; leave out" in refused.messages[0]
    assert option in refused.messages[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty"),
        (LIST + "3,conv1.weight,432,0,\n", ":6: element 432 lies outside conv1.weight"),
        (LIST + "3,conv1.weight,0,32,\n", ":6: bit 32 lies outside the words of conv1.weight"),
        (LIST + "3,relu,0,0,\n", ":6: the network stores no tensor 'relu'"),
        (LIST.replace("bit", "Bit"), ":1: the column 'Bit' is unknown"),
    ],
)
def test_a_wrong_list_is_refused_before_anything_is_made(
    sentinelnn, campaign, listed, tmp_path, text, message
):
    listed.write_text(text)
    output = tmp_path / "r.h5"
    for ranks in (0, 2):
        words = inject(campaign, campaign.checkpoint, output, "--faults", listed)
        refused = sentinelnn.run(words, ranks=ranks)
        assert refused.code == 65, refused.err
        assert len(refused.messages) == 1
        assert f"{listed}{message}" in refused.messages[0]
    assert not output.exists()


def test_lists_that_are_not_there_or_are_outputs(sentinelnn, campaign, listed, tmp_path):
    output = tmp_path / "r.h5"
    gone = inject(campaign, campaign.checkpoint, output, "--faults", tmp_path / "gone.csv")
    refused = sentinelnn.run(gone)
    assert refused.code == 65
    assert str(tmp_path / "gone.csv") in refused.messages[0]
    same = inject(campaign, campaign.checkpoint, listed, "--faults", listed)
    refused = sentinelnn.run(same)
    assert refused.code == 64
    assert "is named twice" in refused.messages[0]
    assert listed.read_text() == LIST


def test_summarize_chooses_one_point_and_network(sentinelnn, undisturbed, scratch, tmp_path):
    result, out = scratch / "undisturbed.h5", tmp_path / "out.csv"
    for words, message in (
        (["--faults", out], "has 2 points, and a list is of one; give --point 0 to 1"),
        (["--faults", out, "--point", "2"], "--point 2: "),
        (["--faults", out, "--point", "0", "--network", "x"], "--network x: "),
        (["--point", "0"], "--point and --network choose what --faults OUT.csv writes"),
    ):
        refused = sentinelnn.run(["summarize", result, *words])
        assert refused.code == 64
        assert message in refused.messages[0]
    out.write_text("mine\n")
    refused = sentinelnn.run(["summarize", result, "--faults", out, "--point", "0"])
    assert refused.code == 64
    assert "is a file that sentinelnn did not write" in refused.messages[0]
    assert out.read_text() == "mine\n"
