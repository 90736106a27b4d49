"""A network's normalisation through the whole program: it is an option, it is kept, it is printed, and
every network sees images by its own."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import ROOT

IMAGES = 40
NONE = "mean 0, 0, 0, std 1, 1, 1 (none)"
USUAL = "mean 0.5, 0.5, 0.5, std 0.186, 0.186, 0.186 (synthetic)"
# The version before --mean gave these for the network and the job of the last test.
HASH = "189c5cc521e7dcfc294d39ecc56960bb56c07be298c4c810ab11c7e3835851ce"
FINGERPRINT = "26d5545d478142cb93f8789bffaad4d4828a70304c185f6e1e5a412451bc256a"
DATA = Path(os.environ.get("SENTINELNN_TEST_DATA", ROOT / "../shared/data")).resolve()


def made(sentinelnn, *arguments: str | Path, code: int = 0) -> str:
    outcome = sentinelnn.run(arguments)
    assert outcome.code == code, outcome.err
    return outcome.out + outcome.err


def evaluated(sentinelnn, *arguments: str | Path) -> dict:
    outcome = sentinelnn.run(["evaluate", *arguments, "--images", str(IMAGES), "--json"])
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


@pytest.fixture(scope="module")
def raw(sentinelnn, campaign, scratch) -> Path:
    """A network trained on images in [0, 1]."""
    path = scratch / "raw.pth"
    text = made(sentinelnn, "train", "--model", "resnet20", "--dataset", "synthetic",
                "--data", campaign.data, "--mean", "none", "--epochs", "1", "--output", path)  # fmt: skip
    assert NONE in text
    return path


@pytest.fixture(scope="module")
def raw_result(sentinelnn, campaign, raw, scratch) -> Path:
    """A campaign that prunes, fine-tunes and hardens it, with a usual network beside."""
    path = scratch / "raw.h5"
    text = made(sentinelnn, "campaign", "--data", campaign.data, "--checkpoint", raw,
                "--images", str(IMAGES), "--calibration-images", "32", "--ber", "1e-5",
                "--repeat", "4", "--pruning-ratio", "0.1", "--finetune-epochs", "1",
                "--importance", "vul-gain", "--ranking-images", "16",
                "--also", campaign.checkpoint, "--output", path)  # fmt: skip
    # Once in the log, once in the summary.
    assert text.count(f"images of unprotected normalised by {NONE}") == 2
    assert text.count(f"images of net normalised by {USUAL}") == 2
    return path


def constants(result: Path) -> dict[str, list[float] | None]:
    with h5py.File(result) as file:
        return {
            name: [*group["mean"], *group["std"]] if "mean" in group else None
            for name, group in file["models"].items()
        }


def test_what_is_made_of_a_network_keeps_its_constants(sentinelnn, campaign, raw, scratch):
    pruned, hardened = scratch / "raw_pruned.pth", scratch / "raw_hardened.pth"
    made(sentinelnn, "prune", "--data", campaign.data, "--checkpoint", raw, "--pruning-ratio", "0.1",
         "--finetune-epochs", "1", "--output", pruned)  # fmt: skip
    text = made(sentinelnn, "harden", "--data", campaign.data, "--checkpoint", pruned,
                "--calibration-images", "32", "--output", hardened)  # fmt: skip
    assert f"calibration: 32 images normalised by {NONE}" in text
    for path in (raw, pruned, hardened):
        report = evaluated(sentinelnn, "--data", campaign.data, "--checkpoint", path)
        assert (report["mean"], report["std"]) == ([0, 0, 0], [1, 1, 1])
        assert f"images normalised by: {NONE}" in made(sentinelnn, "inspect", path)


def test_every_network_of_a_campaign_sees_images_by_its_own(sentinelnn, campaign, raw, raw_result):
    found = constants(raw_result)
    own = [0, 0, 0, 1, 1, 1]
    assert found.pop("net") is None
    assert len(found) == 3 and all(values == own for values in found.values())
    with h5py.File(raw_result) as file:
        right = {name: group.attrs["correct"] for name, group in file["models"].items()}
        parts = file["provenance/fingerprint"].attrs
        usual = f"normalisation of model {file['models/net'].attrs['index']}"
        said = {name: parts[name] for name in parts if name.startswith("normalisation of ")}
    assert len(said) == 4
    assert [name for name, text in said.items() if text == "the data set's"] == [usual]
    for name, path in (("unprotected", raw), ("net", campaign.checkpoint)):
        alone = evaluated(sentinelnn, "--data", campaign.data, "--checkpoint", path)
        assert alone["correct"] == right[name]
    made(sentinelnn, "replay", raw_result, "--trials", "0-1")
    summary = json.loads(made(sentinelnn, "summarize", raw_result, "--json"))
    assert [model["std"][0] for model in summary["models"]].count(1) == 3


def test_the_usual_constants_leave_no_trace(sentinelnn, campaign, tmp_path):
    """As results of earlier versions, also where the options name them."""
    fingerprints = []
    for more in ([], ["--mean", "synthetic"], ["--mean=0.5,0.5,0.5"]):
        result = tmp_path / f"{len(fingerprints)}.h5"
        text = made(sentinelnn, "inject", "--data", campaign.data, "--checkpoint",
                    campaign.checkpoint, "--images", "8", "--ber", "1e-6", "--repeat", "1",
                    *more, "--output", result)  # fmt: skip
        assert text.count(f"images normalised by {USUAL}") == 2
        assert constants(result) == {"unprotected": None}
        with h5py.File(result) as file:
            fingerprints.append(file.attrs["fingerprint"])
            structure = json.loads(file["models/unprotected"].attrs["structure"])
            assert "normalisation" not in structure and structure["schema_version"] == 1
            parts = file["provenance/fingerprint"].attrs
            assert parts["normalisation of model 0"] == "the data set's"
            assert more or "\nmean" not in file.attrs["job"]
    assert len(set(fingerprints)) == 1


def test_options_win_and_are_stored(sentinelnn, campaign, tmp_path):
    job, result = tmp_path / "job.toml", tmp_path / "r.h5"
    job.write_text(
        "[inject]\nmean = [0.25, 0.5, 0.75]\nstd = [0.25, 0.25, 0.125]\nber = [1e-6]\n"
        f'repeat = 2\nimages = 8\ndata = "{campaign.data}"\ncheckpoint = "{campaign.checkpoint}"\n'
    )
    text = made(sentinelnn, "inject", "--job", job, "--output", result)
    words = "mean 0.25, 0.5, 0.75, std 0.25, 0.25, 0.125"
    assert f"says that its images are normalised by {USUAL}; --mean and --std win: {words}" in text
    assert constants(result) == {"unprotected": [0.25, 0.5, 0.75, 0.25, 0.25, 0.125]}
    made(sentinelnn, "replay", result, "--trials", "0-1")
    # The same result with other constants is another job.
    text = made(sentinelnn, "inject", "--job", job, "--std", "0.5,0.5,0.5", "--output", result,
                code=64)  # fmt: skip
    assert "normalisation of model 0: mean 0.25, 0.5, 0.75, std 0.25, 0.25, 0.125 -> " in text
    # A name on the command line replaces both.
    text = made(sentinelnn, "inject", "--job", job, "--mean", "none", "--output", tmp_path / "n.h5")
    assert NONE in text
    plan = made(sentinelnn, "plan", "--data", campaign.data, "--checkpoint", campaign.checkpoint,
                "--ber", "1e-6", "--images", "2", "--std", "0.5", "0.25", "0.5")  # fmt: skip
    assert "images normalised by mean 0.5, 0.5, 0.5, std 0.5, 0.25, 0.5\n" in plan


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--mean", "cifar11"], "--mean cifar11 is unknown; choose cifar10, "),
        (["--mean", "0.5,0.5"], "--mean wants 3 numbers, one for each channel of the images, or a name; it has 2"),
        (["--std", "0.5", "0", "0.5"], "the std 0 is not a finite number above 0"),
        (["--mean", "124,116,104"], "the mean 124 is not from 0 to 1; it is of pixels / 255"),
    ],
)
def test_constants_that_cannot_be(sentinelnn, campaign, options, sentence):
    words = ["evaluate", "--data", campaign.data, "--checkpoint", campaign.checkpoint, *options]
    outcome = sentinelnn.run(words)
    assert outcome.code == 64 and len(outcome.messages) == 1, outcome.err
    assert sentence in outcome.messages[0]


# ---- with PyTorch ----


@pytest.fixture(scope="module")
def by_gray(scratch) -> list[str | Path]:
    """CIFAR-10's format with a gray for each class, and a network that tells them in [0, 1]."""
    torch = pytest.importorskip("torch", reason="python3-torch makes the file")
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(3, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10)
    )
    grays = torch.arange(10) * 25 / 255
    with torch.no_grad():
        net[0].weight.fill_(1 / 3)
        net[0].bias.zero_()
        net[4].weight.copy_((200 * grays)[:, None].expand(10, 10))  # largest where -(x - gray)^2 is
        net[4].bias.copy_(-1000 * grays**2)
    torch.jit.trace(net.eval(), torch.rand(1, 3, 32, 32)).save(str(scratch / "gray.ts"))
    folder = scratch / "grays"
    folder.mkdir()
    images = b"".join(bytes([n % 10]) + bytes([n % 10 * 25]) * 3072 for n in range(100))
    for name in ("test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        (folder / f"{name}.bin").write_bytes(images)
    return ["--model", scratch / "gray.ts", "--dataset", "cifar10", "--data", folder]


def test_guessing_warns(sentinelnn, by_gray, scratch):
    commands = {
        "evaluate": [],
        "inject": ["--ber", "1e-7", "--repeat", "1"],
        "harden": [],
        "campaign": ["--ber", "1e-7", "--repeat", "1", "--importance", "vul-gain"],
        "plan": ["--ber", "1e-7"],
        "rank": ["--importance", "vul-gain", "--ranking-images", "64"],
        "prune": ["--pruning-ratio", "0.1", "--finetune-epochs", "0"],
    }
    for command, more in commands.items():
        ending = ".pth" if command in ("harden", "prune") else ".h5"
        for mean in (["none"], ["none", "--std", "100,100,100"]):
            output = scratch / f"{command}{len(mean)}{ending}"
            words = [command, *by_gray, "--mean", *mean, *more]
            unwritten = command in ("evaluate", "plan")
            text = made(sentinelnn, *words, *([] if unwritten else ["--output", output]))
            warning = (
                "about chance (1 of 10 classes: 10.00 %), with images normalised by mean 0, 0, 0, "
                "std 100, 100, 100; check --mean and --std, --dataset and the order of the classes"
            )
            once = int(len(mean) > 1)  # whatever is ranked, calibrated and made on the way
            assert text.count(warning) == text.count("chance") == once, (command, text)
    few = ["--mean", "none", "--std", "100,100,100", "--images", "4"]
    assert "chance" not in made(sentinelnn, "evaluate", *by_gray, *few)


def test_an_export_says_what_it_expects(sentinelnn, campaign, raw, scratch):
    torch = pytest.importorskip("torch", reason="python3-torch reads the file")
    exported = scratch / "raw.ts"
    text = made(sentinelnn, "export", "--checkpoint", raw, "--output", exported)
    assert f"(pixel / 255 - mean) / std by {NONE}" in text
    assert f"(pixel / 255 - mean) / std with {NONE}" in torch.jit.load(str(exported)).description
    report = evaluated(sentinelnn, "--data", campaign.data, "--checkpoint", raw)
    again = evaluated(sentinelnn, "--model", exported, "--dataset", "synthetic",
                      "--data", campaign.data)  # fmt: skip
    assert again == report and report["mean"] == [0, 0, 0]
    assert f"images normalised by: {NONE}" in made(sentinelnn, "inspect", exported)


def test_an_export_without_weight_bounds_can_be_trained(sentinelnn, campaign, scratch):
    torch = pytest.importorskip("torch", reason="python3-torch reads the files")
    hardened, bounded, free = (scratch / name for name in ("wb.pth", "wb.ts", "free.ts"))
    made(sentinelnn, "harden", "--data", campaign.data, "--checkpoint", campaign.checkpoint,
         "--calibration-images", "32", "--weight-bounds", "layer", "--output", hardened)  # fmt: skip
    text = made(sentinelnn, "export", "--checkpoint", hardened, "--output", bounded)
    assert "training moves weights out of them" in text and "--no-weight-bounds" in text
    text = made(sentinelnn, "export", "--checkpoint", hardened, "--no-weight-bounds",
                "--output", free)  # fmt: skip
    assert "Its weight bounds are left out" in text
    nets = [torch.jit.load(str(path)) for path in (bounded, free)]
    assert "--no-weight-bounds" in nets[0].description
    assert "weight bounds" not in nets[1].description
    names = [set(net.state_dict()) for net in nets]
    dropped = names[0] - names[1]
    assert dropped and all(name.endswith(("weight_low", "weight_high")) for name in dropped)
    assert "relu.bound" in names[1] and "conv1.duplicated" in names[1]
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        fault_free = nets[0](images)
        assert torch.equal(fault_free, nets[1](images))
        logits = {}
        for value in (0.0, 1000.0):
            for net in nets:
                net.fc.weight[3, 5] = value
            logits[value] = [net(images) for net in nets]
    # Bounded, a weight out of range counts as 0; unbounded it is what it is.
    assert torch.equal(logits[1000.0][0], logits[0.0][0])
    assert (logits[1000.0][1] - logits[0.0][1]).abs().max() > 1


@pytest.fixture(scope="module")
def real(sentinelnn, scratch) -> Path:
    """The published ResNet-20 with its normalisation as its first layer: takes images in [0, 1]."""
    torch = pytest.importorskip("torch", reason="python3-torch makes the file")
    source = DATA / "make_reference.py"
    if not source.exists():
        pytest.skip(f"{source} is not here")
    text = source.read_text()
    names: dict = {"__file__": "x"}
    exec(text[: text.index("def images(")], names)
    net = names["ResNet"](3)
    net.load_state_dict(torch.load(DATA / "models/cifar10_resnet20.pth"))

    class Raw(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.register_buffer("mean", names["MEAN"])
            self.register_buffer("std", names["STD"])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net((x - self.mean) / self.std)

    path = scratch / "real.ts"
    torch.jit.trace(Raw().eval(), torch.rand(1, 3, 32, 32)).save(str(path))
    return path


def test_a_real_network_on_images_in_0_to_1(sentinelnn, real):
    words = ["evaluate", "--model", real, "--dataset", "cifar10", "--data", DATA / "cifar10"]
    text = made(sentinelnn, *words, "--images", "256", "--mean", "none")
    assert "227 of 256 test images right" in text and NONE in text
    text = made(sentinelnn, *words, "--images", "256")
    assert "68 of 256 test images right" in text and "0.26158768 (cifar10)" in text


def test_the_network_of_earlier_versions_is_the_same(sentinelnn, tmp_path):
    """Hashes that the version before this option gave: rankings and results name them."""
    checkpoint = DATA / "models/cifar10_resnet20.pth"
    if not checkpoint.exists():
        pytest.skip(f"{checkpoint} is not here")
    result = tmp_path / "r.h5"
    made(sentinelnn, "inject", "--model", "resnet20", "--dataset", "cifar10",
         "--data", DATA / "cifar10", "--checkpoint", checkpoint, "--images", "2", "--ber", "1e-6",
         "--repeat", "1", "--seed", "5", "--output", result)  # fmt: skip
    with h5py.File(result) as file:
        parts = dict(file["provenance/fingerprint"].attrs)
        assert parts["model 0 unprotected"] == HASH
        # What results of schema 1 did not say of themselves.
        for name in (*"target effect shape lifetime selection list".split(),
                     "layouts of model 0", "normalisation of model 0"):  # fmt: skip
            del parts[name]
        assert parts["schema"] == "2"
        parts["schema"] = "1"
        text = "".join(f"{name}={parts[name]}\n" for name in sorted(parts))
        assert hashlib.sha256(text.encode()).hexdigest() == FINGERPRINT
        assert np.isfinite(file["golden/unprotected/logits"]).all()
