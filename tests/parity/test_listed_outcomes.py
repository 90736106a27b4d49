"""Fault lists of an independent implementation: what `inject --faults` counts in every trial.

The shared data have lists of parameter faults, and for each trial the predicted class of 64 test
images. Without them the tests are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from program import DATA, h5py, needs, needs_packages, run, tensor_names, torch

REFERENCE = DATA / "reference"
CHECKPOINTS = {"resnet20": "cifar10_resnet20.pth", "vgg11": "cifar10_vgg11_bn.pth"}
MODELS = {"resnet20": "resnet20", "vgg11": "vgg11_bn"}
STORED = {"int8": "int8:channel", "bf16": "bf16", "bch32_6": "int6:channel+bch:32,6"}
OUTPUTS = ("activation", "post")  # of nodes, while the network runs
KINDS = ("bias", "bn", "int8", "bf16", "bch32_6", "stuck1", "burst3")
IMAGES = 64
NOT_ONE = -1  # class of an image with logits that are not finite

pytestmark = [needs_packages, needs(REFERENCE)]


@dataclass
class Workplace:
    """Networks and results, each made once."""

    folder: Path

    def network(self, net: str, kind: str) -> Path:
        checkpoint = DATA / "models" / CHECKPOINTS[net]
        if kind not in STORED:
            return checkpoint
        path = self.folder / f"{net}_{kind}.pth"
        if not path.exists():
            plain = ["--hardening-ratio", "0", "--clipping", "none"]
            store = ["--store", f"weight={STORED[kind]}", "--output", path]
            run("harden", "--checkpoint", checkpoint, *self._data(net), *plain, *store)
        return path

    def result(self, net: str, kind: str, suffix: str = "") -> Path:
        path = self.folder / f"{net}_{kind}{suffix}.h5"
        faults = REFERENCE / f"faults_{net}_{kind}{suffix}.csv"
        if not path.exists():
            options = ["--faults", faults, "--images", IMAGES, "--output", path, "--audit", 0.1]
            network = ["--checkpoint", self.network(net, kind)]
            run("inject", *network, *self._data(net), *options)
        return path

    def _data(self, net: str) -> list[str | Path]:
        return ["--model", MODELS[net], "--dataset", "cifar10", "--data", DATA / "cifar10"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("lists"))


def rows_of(path: Path, table: str = "trials") -> np.ndarray:
    with h5py.File(path) as file:
        return file[table][:]


def expected(net: str, kind: str, result: Path) -> dict[str, np.ndarray]:
    """Counts of each trial from the reference's classes."""
    with h5py.File(REFERENCE / f"memory_{net}.h5") as file:
        classes = file[f"faults/{kind}/predictions"][:].astype(int)
    with h5py.File(result) as file:
        (network,) = [name for name in file["golden"] if name != "labels"]
        golden, labels = file[f"golden/{network}/predictions"][:], file["golden/labels"][:]
    due = classes == NOT_ONE
    return {
        "due": due.sum(1),
        "correct": (classes == labels).sum(1),
        "sdc_critical": (~due & (classes != golden)).sum(1),
    }


def nearest_messages(words: np.ndarray) -> np.ndarray:
    """Of extended BCH (32,6), by trying all code words; -1 where several are equally near."""
    generator, codes = 0o313365047, []
    for message in range(64):
        rest = message << 25
        for bit in range(30, 24, -1):
            if rest >> bit & 1:
                rest ^= generator << (bit - 25)
        code = message << 25 | rest
        codes.append(code | (code.bit_count() & 1) << 31)
    apart = np.array([[(int(word) ^ code).bit_count() for code in codes] for word in words])
    alone = (apart == apart.min(1, keepdims=True)).sum(1) == 1
    return np.where(alone, apart.argmin(1), -1)


def read_alike(net: str, network: Path) -> np.ndarray:
    """Trials of bch32_6 whose words the nearest code word reads as the reference did."""
    lines = (REFERENCE / f"faults_{net}_bch32_6.csv").read_text().splitlines()[1:]
    fields = [line.split(",") for line in lines]
    with h5py.File(REFERENCE / f"memory_{net}.h5") as file:
        group = file["faults/bch32_6"]
        after, read = group["word_after"][:], group["read_after"][:]
    state = torch.load(network, weights_only=True)
    messages = nearest_messages(after)
    alike = np.ones(60, bool)
    for row, (trial, _, tensor, element, *_) in enumerate(fields):
        scales = state[f"{tensor}_scale"].numpy().reshape(-1)
        channel = int(element) // (state[tensor].numel() // scales.size)
        message = int(messages[row])
        signed = 0 if message < 0 else message - 64 * (message >= 32)
        alike[int(trial)] &= bool(np.float32(signed) * scales[channel] == read[row])
    return alike


@pytest.mark.parametrize("net", CHECKPOINTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_trial_has_the_outcomes_of_the_reference(place: Workplace, net: str, kind: str):
    result = place.result(net, kind)
    trials = rows_of(result)
    assert trials["id"].tolist() == list(range(60))
    assert (trials["images"] == IMAGES).all()
    compared = np.ones(60, bool)
    if kind == "bch32_6":
        compared = read_alike(net, place.network(net, kind))
        assert compared.sum() >= 10
    for column, counts in expected(net, kind, result).items():
        found = trials[column].astype(int)
        wrong = [
            f"trial {t}: {found[t]}, the reference has {counts[t]}"
            for t in np.flatnonzero(compared & (found != counts))
        ]
        assert not wrong, f"{net} {kind} {column}: {wrong}"
    print(f"{net} {kind}: {compared.sum()} trials alike")


@pytest.mark.parametrize("net", CHECKPOINTS)
@pytest.mark.parametrize("kind", OUTPUTS)
def test_faults_in_outputs_have_the_outcomes_of_the_reference(
    place: Workplace, net: str, kind: str
):
    """But for images that, by the reference, fall either way by rounding."""
    result = place.result(net, kind)
    trials = rows_of(result)
    assert (trials["n_faults"] == IMAGES).all()
    with h5py.File(REFERENCE / f"memory_{net}.h5") as file:
        fragile = file[f"faults/{kind}/fragile"][:].astype(int).sum(1)
    assert fragile.sum() < 0.01 * fragile.size * IMAGES
    for column, counts in expected(net, kind, result).items():
        apart = np.abs(trials[column].astype(int) - counts)
        assert (apart <= fragile).all(), f"{net} {kind} {column}: {apart - fragile}"
    assert rows_of(result, "audit")["mismatches"].sum() == 0


@pytest.mark.parametrize("net", CHECKPOINTS)
@pytest.mark.parametrize("kind", KINDS)
def test_words_before_and_after_are_those_of_the_reference(place: Workplace, net: str, kind: str):
    """The reference says a word before and after all faults of its trial, for each row."""
    result = place.result(net, kind)
    with h5py.File(result) as file:
        names = tensor_names(file)
        sites, offsets = file["faults/sites"][:], file["faults/offsets"][:]
    ours: dict[tuple[int, str, int], list[int]] = {}
    for trial in range(60):
        for site in sites[offsets[trial] : offsets[trial + 1]]:
            place_of = (trial, names[site["tensor"]], int(site["element"]))
            first = ours.setdefault(place_of, [int(site["before"]), 0])
            first[1] = int(site["after"])
    lines = (REFERENCE / f"faults_{net}_{kind}.csv").read_text().splitlines()[1:]
    with h5py.File(REFERENCE / f"memory_{net}.h5") as file:
        group = file[f"faults/{kind}"]
        before, after = group["word_before"][:], group["word_after"][:]
    wrong = []
    for row, line in enumerate(lines):
        trial, _, tensor, element, *_ = line.split(",")
        found = ours[int(trial), tensor, int(element)]
        if found != [int(before[row]), int(after[row])]:
            wrong.append(f"row {row}: {found}, the reference has {before[row]}, {after[row]}")
    assert not wrong, f"{len(wrong)} of {len(lines)}: {wrong[:5]}"


@pytest.mark.parametrize("net", CHECKPOINTS)
def test_bursts_and_their_flips_are_the_same(place: Workplace, net: str):
    flips = rows_of(place.result(net, "burst3"))
    bursts = rows_of(place.result(net, "burst3", "_events"))
    for column in ("correct", "top5", "masked", "sdc_noncritical", "sdc_critical", "due"):
        assert flips[column].tolist() == bursts[column].tolist(), column
    assert (flips["n_faults"] == 3 * bursts["n_faults"]).all()
