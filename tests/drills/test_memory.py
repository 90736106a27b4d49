"""Faults in every stored tensor, in every layout, by every model: the same rows on any number of
ranks and by either engine; what cannot be is one sentence."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import Result

STORED = {
    "int8": ["--store", "weight=int8"],
    "bch": ["--store", "weight=int5+bch:16,5", "--store", "bias,bn,bound,scale=fp16+repeat:3"],
    "fixed": ["--store", "parameters=fixed:15.16,trunc"],
    "secded": ["--store", "weight=int8+secded:64,zero", "--store", "bn=bf16"],
}
PLAIN = ["--hardening-ratio", "0", "--clipping", "none", "--calibration-images", "8"]
HARDENED = ["--hardening-ratio", "0.2", "--calibration-images", "16", "--weight-bounds", "channel"]


@pytest.fixture(scope="session")
def stored(campaign, sentinelnn, scratch) -> dict[str, Path]:
    """A hardened network in several layouts."""
    files = {}
    for name, options in STORED.items():
        files[name] = scratch / f"stored_{name}.pth"
        outcome = sentinelnn.run(
            ["harden", "--checkpoint", campaign.checkpoint, "--data", campaign.data, *HARDENED]
            + [*options, "--output", files[name]]
        )
        assert outcome.code == 0, outcome.err
        assert "bits per weight" in outcome.out
    return files


def inject(campaign, network: Path, output: Path, *options: str) -> list[str | Path]:
    return [
        *("inject", "--checkpoint", network, "--data", campaign.data, "--images", "8"),
        *("--audit", "1", "--threads", "1", "--output", output, *options),
    ]


CASES = [
    ("int8", "--fault-target parameters --ber 1e-4 --repeat 8"),
    ("int8", "--fault-target scale --fault-count exact:2 --repeat 8"),
    ("int8", "--fault-model random-word --ber 1e-4 --repeat 6"),
    ("bch", "--fault-target parameters --ber 2e-2 --repeat 5"),
    ("bch", "--fault-shape burst:4 --event-rate 1e-3 --repeat 6"),
    ("fixed", "--fault-target bias,bn,bound --ber 1e-3 --repeat 8"),
    ("fixed", "--fault-model stuck-at-1 --bits sign --layers layer1.* --ber 1e-3 --repeat 6"),
    ("secded", "--fault-target weight,check --fault-shape mbu:0.5,0.3,0.2 --event-rate 1e-3 --repeat 6"),
    ("secded", "--fault-model value:0.5 --channels layer1.0.conv1=0-3,7 --ber 0.1 --repeat 6"),
]


@pytest.mark.parametrize(("layout", "options"), CASES)
def test_engine_and_ranks_agree(sentinelnn, campaign, stored, tmp_path, layout, options):
    results = []
    for ranks in (0, 3):
        path = tmp_path / f"{ranks}.h5"
        outcome = sentinelnn.run(inject(campaign, stored[layout], path, *options.split()), ranks)
        assert outcome.code == 0, outcome.err  # 1: the audit found a mismatch
        results.append(Result.read(path))
    results[1].check_same(results[0])
    rows = results[0].trials
    assert rows["n_faults"].sum() > 0
    assert np.all(rows["faults_masked"] <= rows["n_faults"])
    assert np.all(rows["words_flagged"] <= rows["words_wrong"])


def test_a_stored_network_is_the_same_wherever_it_is_read(sentinelnn, campaign, stored, tmp_path):
    for network in stored.values():
        outcome = sentinelnn.run(["inspect", network])
        assert outcome.code == 0, outcome.err
        first, second = tmp_path / "1.h5", tmp_path / "2.h5"
        shutil.copy(network, tmp_path / "again.pth")
        for path, file in ((first, network), (second, tmp_path / "again.pth")):
            options = ("--ber", "1e-3", "--repeat", "2", "--fresh")
            outcome = sentinelnn.run(inject(campaign, file, path, *options))
            assert outcome.code == 0, outcome.err
        Result.read(second).check_same(Result.read(first))


def test_inspect_lists_what_is_stored(sentinelnn, stored):
    outcome = sentinelnn.run(["inspect", stored["bch"]])
    memory = outcome.out.split("stored in memory:\n")[1].split("\n\n")[0].splitlines()
    assert memory[0].split() == ["class", "stored", "as", "tensors", "stored", "words", "bits"]
    layouts = {line.split()[0]: line.split()[1] for line in memory[1:-2]}
    copies = "fp16+repeat:3"
    assert layouts == {
        "weight": "int5:channel+bch:16,5", "bias": copies, "bn": copies, "bound": copies,
        "scale": copies,
    }  # fmt: skip
    assert memory[-1] == "bits per weight, check bits included: 16.00"
    secded = sentinelnn.run(["inspect", stored["secded"]]).out
    assert re.search(r"^check +int8:channel\+secded:64,zero ", secded, re.MULTILINE)
    assert "check bits included: 9.0" in secded  # 72/64, and incomplete blocks


def test_a_result_says_how_many_faults_are_shared(sentinelnn, campaign, tmp_path):
    path = tmp_path / "result.h5"
    args = [*campaign.args(path), "--store", "weight@layer1.*=int8"]
    outcome = sentinelnn.run(args)
    assert outcome.code == 0, outcome.err
    with h5py.File(path) as file:
        pairing = file["design/pairing"][:]
        tensors = file["models/unprotected/tensors"][:]
        networks = list(file["models"])
    kept = [row["elements"] for row in tensors if not row["name"].startswith(b"layer1.")]
    expected = sum(kept) / tensors["elements"].sum()
    assert set(pairing["model"]) == {1} and len(networks) == 2
    assert pairing["shared"] == pytest.approx(expected)
    printed = f"shares the faults of {100 * expected:.4g} % of the sites of unprotected"
    assert printed in outcome.out
    told = json.loads(sentinelnn.run(["summarize", path, "--json"]).out)["pairing"]
    assert told[0]["shared"] == pytest.approx(expected)


def test_a_campaign_stores_what_it_makes(sentinelnn, campaign, tmp_path):
    path = tmp_path / "result.h5"
    args = [*campaign.args(path), "--store", "weight=int4+bch:8,4", "--audit", "1"]
    outcome = sentinelnn.run(args)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "result.h5.hardened+stored.pth").exists()
    assert sentinelnn.run(args, 2).code == 0  # complete already
    replay = sentinelnn.run(["replay", path, "--trials", "random:4"])
    assert replay.code == 0, replay.err + replay.out


def test_layers_may_be_those_of_one_network(sentinelnn, campaign, tmp_path):
    """Only the hardened network has bounds."""
    args = ["campaign", "--checkpoint", campaign.checkpoint, "--data", campaign.data]
    args += ["--images", "8", "--calibration-images", "8", "--hardening-ratio", "0.2"]
    args += ["--fault-target", "bound", "--ber", "1e-2", "--repeat", "4"]
    path = tmp_path / "c.h5"
    outcome = sentinelnn.run([*args, "--layers", "*relu*", "--output", path])
    assert outcome.code == 0, outcome.err
    trials = Result.read(path).trials
    assert trials["n_faults"][trials["model"] == 0].sum() == 0
    assert trials["n_faults"][trials["model"] == 1].sum() > 0
    refused = sentinelnn.run([*args, "--layers", "layer9.*", "--output", tmp_path / "d.h5"])
    assert refused.code == 64 and "--layers layer9.*" in refused.err


@pytest.mark.parametrize(
    ("first", "again"),
    [(["--layers", "*"], []), (["--layers", "layer1**"], ["--layers", "layer1*"]),
     (["--bits", "check,message"], [])],
)  # fmt: skip
def test_one_selection_goes_on_in_another_spelling(sentinelnn, campaign, tmp_path, first, again):
    base = ("--ber", "1e-4", "--repeat")
    path = tmp_path / "r.h5"
    outcome = sentinelnn.run(inject(campaign, campaign.checkpoint, path, *base, "4", *first))
    assert outcome.code == 0, outcome.err
    outcome = sentinelnn.run(inject(campaign, campaign.checkpoint, path, *base, "6", *again))
    assert outcome.code == 0 and outcome.stored_already == 4, outcome.err
    other = ["--layers", "layer1.*"]  # in this network the same, and yet another pattern
    outcome = sentinelnn.run(inject(campaign, campaign.checkpoint, path, *base, "6", *other))
    assert outcome.code == 64 and "layer1.*" in outcome.err, outcome.err


def test_every_pattern_must_match_even_beside_all(sentinelnn, campaign, tmp_path):
    options = ("--ber", "1e-4", "--repeat", "4", "--layers", "*,layer9.*")
    path = tmp_path / "r.h5"
    outcome = sentinelnn.run(inject(campaign, campaign.checkpoint, path, *options))
    assert outcome.code == 64 and "--layers layer9.*" in outcome.err, outcome.err


def test_faults_may_be_left_out(sentinelnn, campaign, tmp_path):
    base = ("--ber", "1e-4", "--repeat", "4")
    all_of, none = tmp_path / "all.h5", tmp_path / "none.h5"
    for path, word in ((all_of, "yes"), (none, "no")):
        args = inject(campaign, campaign.checkpoint, path, *base, "--faults-stored", word)
        assert sentinelnn.run(args).code == 0
    with_faults, without = Result.read(all_of), Result.read(none)
    assert np.array_equal(with_faults.trials["n_faults"], without.trials["n_faults"])
    assert with_faults.trials["faults_stored"].all() and not without.trials["faults_stored"].any()
    assert len(without.sites) == 0 and len(with_faults.sites) > 0
    replay = sentinelnn.run(["replay", none, "--trials", "random:2"])
    assert replay.code == 0, replay.err + replay.out


def test_plan_says_how_many_bits_events_hit(sentinelnn, campaign):
    args = ["plan", "--checkpoint", campaign.checkpoint, "--data", campaign.data, "--images", "8"]
    args += ["--fault-shape", "burst:4", "--event-rate", "1e-3", "--json"]
    outcome = sentinelnn.run(args)
    assert outcome.code == 0, outcome.err
    # Events of the three highest bits of 32 end with their word.
    (point,) = json.loads(outcome.out)["points"]
    assert point["bits_hit_per_bit"] == pytest.approx(1e-3 * (29 * 4 + 3 + 2 + 1) / 32)


REFUSED = {
    "--fault-target weights --ber 1e-4": "--fault-target takes",
    "--layers nothing* --ber 1e-4": "--layers nothing*",
    "--layers , --ber 1e-4": "--layers ,: the list is empty",
    "--channels conv1=99 --ber 1e-4": "channels 0 to",
    "--channels conv1 --ber 1e-4": "--channels takes",
    "--channels conv1=1 --channels conv1=2 --ber 1e-4": "twice",
    "--bits 32 --ber 1e-4": "bits 0 to 31",
    "--bits check --fault-count exact:1": "--fault-target weight with bits check",
    "--fault-model flop --ber 1e-4": "--fault-model takes",
    "--fault-model value:x --ber 1e-4": "--fault-model takes",
    "--fault-model random-word --bits 3 --ber 1e-4": "whole word",
    "--fault-model random-word --fault-shape burst:2 --event-rate 1e-4": "whole word",
    "--fault-shape burst:0 --event-rate 1e-4": "--fault-shape takes",
    "--fault-shape burst:3 --ber 1e-4": "--event-rate",
    "--fault-shape burst:3": "--event-rate is missing",
    "--event-rate 1e-4": "--event-rate",
    "--fault-shape burst:3 --event-rate 2": "between 0 and 1",
    "--faults-stored maybe --ber 1e-4": "--faults-stored",
    "--fault-target bound --ber 1e-4": "nothing of it that may fail",
    "--fault-model stuck-at-0 --sampling stratified --ber 1e-6 --repeat 500": "strata",
}


@pytest.mark.parametrize("options", REFUSED)
def test_what_cannot_be_is_one_sentence(sentinelnn, campaign, tmp_path, options):
    path = tmp_path / "result.h5"
    outcome = sentinelnn.run(inject(campaign, campaign.checkpoint, path, *options.split()))
    assert outcome.code == 64, outcome.err + outcome.out
    assert len(outcome.messages) == 1 and REFUSED[options] in outcome.messages[0]
    assert not path.exists()


NOT_STORED = {
    "weight": "CLASS",
    "weight=int9": "int9",
    "weights=int8": "classes",
    "check=fp16": "check bits",
    "scale=int8": "scales need",
    "bound=int8": "bounds need",
    "bias=int4+bch:8,4": "only weights",
    "weight@nothing=int8": "no such tensors",
    "bound=fp16": "no such tensors",
}


@pytest.mark.parametrize("rule", NOT_STORED)
def test_a_store_rule_that_is_none(sentinelnn, campaign, tmp_path, rule):
    outcome = sentinelnn.run(
        ["harden", "--checkpoint", campaign.checkpoint, "--data", campaign.data, *PLAIN]
        + ["--store", rule, "--output", tmp_path / "x.pth"]
    )
    assert outcome.code == 64, outcome.err
    assert len(outcome.messages) == 1 and NOT_STORED[rule] in outcome.messages[0]
    assert not (tmp_path / "x.pth").exists()


def test_what_is_stored_is_not_changed_any_more(sentinelnn, campaign, stored, tmp_path):
    for command in (["harden", *HARDENED], ["prune", "--pruning-ratio", "0.1"]):
        outcome = sentinelnn.run(
            [*command, "--checkpoint", stored["int8"], "--data", campaign.data]
            + ["--output", tmp_path / "x.pth"]
        )
        assert outcome.code == 64, outcome.err
        assert len(outcome.messages) == 1, outcome.err


def changed_record(source: Path, target: Path, change) -> None:
    """The checkpoint with another record sentinelnn.json."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("sentinelnn.json"):
                record = json.loads(data)
                change(record)
                data = json.dumps(record).encode()
            new.writestr(item, data)


def set_layout(entry: str, layout: str):
    def change(record) -> None:
        record["storage"][entry] = layout

    return change


def drop_layout(record) -> None:
    del record["storage"]["conv1.weight"]


DAMAGED = {
    "no layout": set_layout("conv1.weight", "int99"),
    "another width": set_layout("conv1.weight", "int4:channel"),
    "one scale": set_layout("conv1.weight", "int8:tensor"),
    "no scales wanted": set_layout("conv1.weight", "fp16"),
    "no tensor": set_layout("conv9.weight", "fp16"),
    "values of another": set_layout("fc.bias", "int4:tensor"),
    "values that do not fit": set_layout("bn1.weight", "fixed:0.2"),
    "scales of nothing": drop_layout,
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_record_that_does_not_fit_is_refused(sentinelnn, campaign, stored, tmp_path, damage):
    broken = tmp_path / "broken.pth"
    changed_record(stored["int8"], broken, DAMAGED[damage])
    outcome = sentinelnn.run(["evaluate", "--checkpoint", broken, "--data", campaign.data])
    assert outcome.code == 65, outcome.err + outcome.out
    assert len(outcome.messages) == 1 and "broken.pth" in outcome.messages[0]
