"""Networks that arrive in other formats than fp32 keep them in every command; trained ones keep their
words."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import pytest
from drill import network, text

torch = pytest.importorskip("torch", reason="python3-torch makes the files")
nn = torch.nn
State = dict[str, "torch.Tensor"]


def record_of(path: Path) -> dict:
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("sentinelnn.json"))
        return json.loads(archive.read(name))


def in_type(state: State, dtype: torch.dtype) -> State:
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}


def test_doubles_become_fp32_as_is_said_everywhere(sentinelnn, campaign, state, tmp_path):
    path, result = tmp_path / "net.pth", tmp_path / "r.h5"
    torch.save(in_type(state, torch.float64), path)
    images = [*network(path), "--data", campaign.data, "--images", "4"]
    faults = [*images, "--ber", "1e-5", "--repeat", "3"]
    injected = sentinelnn.run(["inject", *faults, "--output", result], ranks=2)
    for outcome in (sentinelnn.run(["evaluate", *images]), injected):
        assert outcome.code == 0, outcome.err
        warnings = outcome.logged("warning")
        assert len(warnings) == 1 and "stored as fp64. They are converted" in warnings[0]
        assert "32-bit words of these fp32 values" in warnings[0]
    plan = sentinelnn.run(["plan", *faults])
    assert "32-bit fp32 words, converted from the file's fp64" in plan.out
    with h5py.File(result) as file:
        assert text(file["provenance"].attrs["stored_types"]) == "fp64"
    inspected = sentinelnn.run(["inspect", path])
    assert "floats stored as: fp64 (107 tensors)" in inspected.out
    assert "computed with: fp32" in inspected.out


@pytest.mark.parametrize(("type", "name"), [("bfloat16", "bf16"), ("float16", "fp16")])
def test_halves_stay_halves(sentinelnn, campaign, state, plain, tmp_path, type, name):
    path, result, made = tmp_path / "net.pth", tmp_path / "r.h5", tmp_path / "made.pth"
    halves = in_type(state, getattr(torch, type))
    torch.save(halves, path)
    images = ["--data", campaign.data, "--images", "4"]
    evaluated = {}
    for file in (path, plain):
        outcome = sentinelnn.run(["evaluate", *network(file), *images, "--json"])
        assert outcome.code == 0 and not outcome.logged("warning"), outcome.err
        evaluated[file] = json.loads(outcome.out)["memory_bytes"]
    counters = 21 * 8  # of batches, 64 bits each
    assert 2 * (evaluated[path] - counters) == evaluated[plain] - counters
    outcome = sentinelnn.run(["evaluate", *network(path), *images])
    assert f"107 of 107 tensors are stored as {name} and stay so" in outcome.err
    faults = ["--fault-target", "parameters", "--ber", "1e-4", "--repeat", "3", "--audit", "1"]
    outcome = sentinelnn.run(["inject", *network(path), *images, *faults, "--output", result])
    assert outcome.code == 0, outcome.err
    with h5py.File(result) as file:
        assert "stored_types" not in file["provenance"].attrs
        assert set(file["faults/sites"]["bit"]) <= set(range(16))
    nothing = ["--hardening-ratio", "0", "--clipping", "none"]
    for options, layouts in (
        ([*nothing, "--store", "weight=int8"], {name, "int8:channel"}),
        (["--hardening-ratio", "0.2", "--calibration-images", "8"], {name}),
        ([*nothing, "--store", "weight,bias,bn=fp32"], set()),
    ):
        outcome = sentinelnn.run(
            ["harden", *network(path), *images[:2], *options, "--output", made]
        )
        assert outcome.code == 0, outcome.err
        assert set(record_of(made).get("storage", {}).values()) == layouts
    assert all(torch.equal(v, halves[k].to(v.dtype)) for k, v in torch.load(made).items())


def test_halves_go_through_every_command(sentinelnn, campaign, state, tmp_path):
    path, made = tmp_path / "net.pth", tmp_path / "made.pth"
    torch.save(in_type(state, torch.float16), path)
    net = [*network(path), "--data", campaign.data]
    few = ["--finetune-epochs", "1", "--finetune-batch-size", "64"]
    for words in (
        ["prune", *net, "--pruning-ratio", "0.2", *few],
        ["prune", *net, "--pruning-ratio", "0.2", "--finetune-epochs", "0"],
        ["train", *net, "--epochs", "1", "--batch-size", "64", "--lr", "0.01"],
    ):
        outcome = sentinelnn.run([*words, "--output", made])
        assert outcome.code == 0, outcome.err
        assert set(record_of(made)["storage"].values()) == {"fp16"}
    outcome = sentinelnn.run(["export", *net, "--output", tmp_path / "net.ts"])
    assert outcome.code == 0, outcome.err
    channels = ["--importance", "channel-FI", "--channel-layers", "conv1", "--channel-cap", "8"]
    ranking = ["--ranking-images", "8", "--output", tmp_path / "ranking.h5"]
    outcome = sentinelnn.run(["rank", *net, *channels, *ranking])
    assert outcome.code == 0, outcome.err
    paired = ["campaign", *net, "--images", "4", "--ber", "1e-4", "--repeat", "2"]
    paired += ["--hardening-ratio", "0", "--clipping", "none", "--store", "weight=int4+bch:8,4"]
    outcome = sentinelnn.run([*paired, "--output", tmp_path / "r.h5"])
    assert outcome.code == 0, outcome.err
    with h5py.File(tmp_path / "r.h5") as file:
        assert set(file["models"]) == {"unprotected", "stored"}


def quantised(state: State, by_channel: bool) -> State:
    """Weights as PyTorch's qint8 with zero points 0."""
    result = dict(state)
    for name, value in state.items():
        if not name.endswith("weight") or value.dim() < 2:
            continue
        scales = value.abs().flatten(1).amax(1) / 127
        zeros = torch.zeros(len(scales), dtype=torch.long)
        result[name] = (
            torch.quantize_per_channel(value, scales, zeros, 0, torch.qint8)
            if by_channel
            else torch.quantize_per_tensor(value, float(scales.max()), 0, torch.qint8)
        )
    return result


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("by_channel", [False, True])
def test_qint8_keeps_words_and_scales(sentinelnn, campaign, state, tmp_path, by_channel, legacy):
    path, made = tmp_path / "net.pth", tmp_path / "made.pth"
    theirs = quantised(state, by_channel)
    torch.save(theirs, path, _use_new_zipfile_serialization=not legacy)
    words = ["harden", *network(path), "--data", campaign.data, "--hardening-ratio", "0"]
    words += ["--clipping", "none", "--store", "bias=fp16", "--output", made]
    outcome = sentinelnn.run(words)
    assert outcome.code == 0 and not outcome.logged("warning"), outcome.err
    layout = "int8:channel" if by_channel else "int8:tensor"
    assert f"22 of 107 tensors are stored as {layout} and stay so" in outcome.err
    ours, storage = torch.load(made), record_of(made)["storage"]
    for name, value in theirs.items():
        if not value.is_quantized:
            continue
        assert storage[name] == layout
        assert torch.equal(ours[name], value.dequantize()), name
        scales = value.q_per_channel_scales() if by_channel else torch.tensor([value.q_scale()])
        assert torch.equal(ours[name + "_scale"], scales.float()), name
    outcome = sentinelnn.run(["inspect", path])
    assert "qint8 (22 tensors)" in outcome.out


def test_the_word_that_int8_lacks_is_counted(sentinelnn, campaign, state, tmp_path):
    theirs = quantised(state, True)
    value = state["conv1.weight"]
    scales = value.abs().flatten(1).amax(1) / 127.5
    theirs["conv1.weight"] = torch.quantize_per_channel(
        value, scales, torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8
    )
    lowest = int((theirs["conv1.weight"].int_repr() == -128).sum())
    torch.save(theirs, tmp_path / "net.pth")
    words = ["evaluate", *network(tmp_path / "net.pth"), "--data", campaign.data, "--images", "4"]
    outcome = sentinelnn.run(words)
    assert outcome.code == 0, outcome.err
    assert f"{lowest} words of int8 are -128, which is stored as -127 here" in outcome.err


def test_other_quantised_tensors_are_refused_by_name(sentinelnn, campaign, state, tmp_path):
    value, zeros = state["conv1.weight"], torch.zeros(3, dtype=torch.long)
    for wrong, why in (
        (torch.quantize_per_tensor(value, 0.1, 0, torch.quint8), "quint8"),
        (torch.quantize_per_tensor(value, 0.1, 0, torch.qint32), "qint32"),
        (torch.quantize_per_tensor(value, 0.1, 5, torch.qint8), "zero point"),
        (torch.quantize_per_tensor(value, float("nan"), 0, torch.qint8), "scale"),
        (torch.quantize_per_tensor(value, -0.1, 0, torch.qint8), "scale"),
        (torch.quantize_per_channel(value, torch.ones(3), zeros, 1, torch.qint8), "dimension"),
    ):
        torch.save({**state, "conv1.weight": wrong}, tmp_path / "net.pth")
        words = ["evaluate", *network(tmp_path / "net.pth"), "--data", campaign.data]
        outcome = sentinelnn.run([*words, "--images", "4"])
        assert outcome.code == 65, outcome.err
        assert "conv1.weight" in outcome.err and why in outcome.err
        assert "dequantize()" in outcome.err


def test_half_traced_networks_stay_so_too(sentinelnn, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
    torch.jit.script(net.to(torch.bfloat16).eval()).save(str(tmp_path / "net.ts"))
    words = ["evaluate", "--model", tmp_path / "net.ts", "--dataset", "synthetic", "--images", "4"]
    outcome = sentinelnn.run(words)
    assert outcome.code == 0, outcome.err
    assert len(outcome.logged("4 of 4 tensors are stored as bf16 and stay so")) == 1


def words_of(path: Path) -> dict[str, torch.Tensor]:
    """The words of all weights that have scales."""
    tensors, words = torch.load(path), {}
    for name, scale in tensors.items():
        if name.endswith(".weight_scale"):
            values = tensors[name.removesuffix("_scale")]
            rows = scale.reshape(-1, *[1] * (values.dim() - 1))
            words[name] = torch.round(torch.where(rows == 0, values, values / rows))
    return words


def test_trained_words_survive_folding(sentinelnn, campaign, tmp_path):
    trained, folded = tmp_path / "trained.pth", tmp_path / "folded.pth"
    words = ["train", "--checkpoint", campaign.checkpoint, "--data", campaign.data]
    words += ["--store", "weight=int4", "--epochs", "1", "--lr", "1e-3", "--output", trained]
    outcome = sentinelnn.run(words)
    assert outcome.code == 0, outcome.err
    assert "before training: " in outcome.out and "; stored: " in outcome.out
    layouts = record_of(trained)["storage"]
    assert len(layouts) == 22 and set(layouts.values()) == {"int4:channel"}
    words = ["harden", "--checkpoint", trained, "--data", campaign.data, "--fold-batch-norm"]
    words += ["--hardening-ratio", "0", "--clipping", "none", "--store", "weight=int4+bch:8,4"]
    outcome = sentinelnn.run([*words, "--store", "bias,scale=fp16+repeat:7", "--output", folded])
    assert outcome.code == 0, outcome.err
    before, after = words_of(trained), words_of(folded)
    assert before.keys() == after.keys() and len(before) == 22
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(value.abs().max() == 7 for value in before.values())


@pytest.mark.parametrize("epochs", ["0", "1"])
def test_pruned_networks_are_stored(sentinelnn, campaign, tmp_path, epochs):
    pruned = tmp_path / "pruned.pth"
    words = ["prune", "--checkpoint", campaign.checkpoint, "--data", campaign.data]
    words += ["--pruning-ratio", "0.2", "--finetune-epochs", epochs, "--output", pruned]
    outcome = sentinelnn.run([*words, "--store", "weight=int4+bch:8,4", "--store", "bn=bf16"])
    assert outcome.code == 0, outcome.err
    assert set(record_of(pruned)["storage"].values()) == {"int4:channel+bch:8,4", "bf16"}
    said = outcome.out.split("after fine-tuning: " if epochs == "1" else "after pruning: ")[1]
    outcome = sentinelnn.run(["evaluate", "--checkpoint", pruned, "--data", campaign.data])
    assert outcome.out.split(" on synthetic: ")[1].split(" right")[0] == said.split(" right")[0]
