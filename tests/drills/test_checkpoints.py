"""Checkpoints as tools of today write them: what is taken of a file, what is said about it, and what
is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from drill import Outcome, network, text

torch = pytest.importorskip("torch", reason="python3-torch makes the files")
prune = pytest.importorskip("torch.nn.utils.prune")
nn = torch.nn
F = torch.nn.functional
State = dict[str, "torch.Tensor"]


@pytest.fixture(scope="module")
def rank(sentinelnn, scratch) -> Callable[..., Outcome]:
    def run(path: Path, *more: str, ranks: int = 0) -> Outcome:
        ranking = scratch / "ranking.h5"
        ranking.unlink(missing_ok=True)
        words = ["rank", *network(path), *more, "--importance", "l2-norm", "--output", ranking]
        return sentinelnn.run(words, ranks=ranks)

    return run


@pytest.fixture(scope="module")
def hash_of(scratch) -> Callable[[Outcome], str]:
    """Of structure and tensors of the network that was ranked."""

    def read(outcome: Outcome) -> str:
        assert outcome.code == 0, outcome.err
        with h5py.File(scratch / "ranking.h5") as file:
            return text(file.attrs["model_sha256"])

    return read


@pytest.fixture(scope="module")
def expected(rank, hash_of, plain) -> str:
    return hash_of(rank(plain))


def random(state: State) -> State:
    return {k: torch.randn_like(v) if v.dim() > 1 else v for k, v in state.items()}


def with_prefix(state: State, prefix: str) -> State:
    return {prefix + k: v for k, v in state.items()}


def masked(state: State) -> State:
    made = {}
    for k, v in state.items():
        made.update({k + "_orig": v, k + "_mask": torch.ones_like(v)} if v.dim() == 4 else {k: v})
    return made


def counted(state: State) -> State:
    zero = torch.zeros(1, dtype=torch.float64)
    return {**state, "total_ops": zero, "total_params": zero, "layer1.total_ops": zero}


# What is saved, and what the program says of it.
ONE_FITS = {
    "only_ema": (lambda s: {"epoch": 1, "state_dict_ema": s}, "those of state_dict_ema"),
    "compiled": (lambda s: with_prefix(s, "_orig_mod."), '"_orig_mod."'),
    "ddp_compiled": (lambda s: with_prefix(s, "module._orig_mod."), '"module._orig_mod."'),
    "lightning": (
        lambda s: {"state_dict": with_prefix(s, "model."), "pytorch-lightning_version": "2.0"},
        '"model."',
    ),
    "swa": (
        lambda s: {"n_averaged": torch.tensor(7), **with_prefix(s, "module.")},
        "left out, as no layer wants them (1): n_averaged",
    ),
    "twice_parallel": (lambda s: with_prefix(s, "module.module."), '"module.module."'),
    "thop": (counted, "left out, as no layer wants them (3): total_ops, total_params"),
    "nested": (lambda s: {"checkpoint": {"state_dict": s}}, "those of checkpoint.state_dict"),
    "weights": (lambda s: {"weights": s, "epoch": 1}, "those of weights"),
    "masked": (masked, "computed as weight_orig * weight_mask (21)"),
}


@pytest.mark.parametrize("name", ONE_FITS)
def test_one_set_of_weights_is_found(rank, hash_of, expected, state, tmp_path, name):
    make, said = ONE_FITS[name]
    torch.save(make(state), tmp_path / "net.pth")
    outcome = rank(tmp_path / "net.pth")
    assert hash_of(outcome) == expected
    assert len(outcome.logged(said)) == 1, outcome.err


TWO_FIT = {
    "timm": (lambda bad, s: {"state_dict": bad, "state_dict_ema": s}, "state_dict_ema"),
    "torchvision": (
        lambda bad, s: {"model": bad, "model_ema": with_prefix(s, "module.")},
        "model_ema",
    ),
}


@pytest.mark.parametrize("name", TWO_FIT)
def test_of_two_sets_the_one_taken_is_said_and_can_be_chosen(
    sentinelnn, campaign, rank, hash_of, expected, state, tmp_path, name
):
    make, key = TWO_FIT[name]
    path = tmp_path / "net.pth"
    torch.save(make(random(state), state), path)
    for ranks in (0, 2):
        usual = rank(path, ranks=ranks)
        assert hash_of(usual) != expected
        assert len(usual.logged("warning")) == 1, usual.err
        first = key.removesuffix("_ema")
        assert f"{first} is taken; --weights-key chooses another: {key}" in usual.err
    other = rank(path, "--weights-key", key)
    assert hash_of(other) == expected and not other.logged("warning")
    wrong = rank(path, "--weights-key", "fly")
    assert wrong.code == 64 and len(wrong.messages) == 1 and key in wrong.messages[0]
    inspected = sentinelnn.run(["inspect", path])
    assert inspected.code == 0 and inspected.out.count("resnet20") == 3
    # The option is kept with the result.
    result = tmp_path / "r.h5"
    words = ["inject", *network(path), "--data", campaign.data]
    words += ["--ber", "1e-5", "--repeat", "3", "--images", "4"]
    done = sentinelnn.run([*words, "--weights-key", key, "--output", result])
    assert done.code == 0, done.err
    with h5py.File(result) as file:
        assert text(file["provenance"].attrs["weights_key"]) == key
    replayed = sentinelnn.run(["replay", result, "--trials", "0-2"])
    assert replayed.code == 0, replayed.err


def test_another_architecture_stays_an_error(rank, state, tmp_path):
    more = {**state, "layer1.3.conv1.weight": torch.zeros(16, 16, 3, 3)}
    for value in (more, with_prefix(more, "module.")):
        torch.save(value, tmp_path / "net.pth")
        outcome = rank(tmp_path / "net.pth")
        assert outcome.code == 65 and "1 unexpected entry (layer1.3.conv1.weight)" in outcome.err


# ---- word widths ----


def test_plain_files_say_nothing(rank, plain):
    outcome = rank(plain)
    assert outcome.code == 0 and outcome.err == ""


# ---- traced files ----


class Traced(nn.Module):
    """A convolution, something of `forward`'s own, a classifier."""

    def __init__(self, forward: Callable) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3, 2, 1)
        self.d = nn.Conv2d(8, 8, 3, 1, 1)
        self.h = nn.Conv2d(8, 10, 1)
        self.fc = nn.Linear(8, 10)
        self.m = nn.Parameter(torch.rand(1, 8, 1, 1), requires_grad=False)
        self.own = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own(self, F.relu(self.c(x)))


def pooled(y: torch.Tensor) -> torch.Tensor:
    return F.adaptive_avg_pool2d(y, 1).flatten(1)


def constant_batch(s: Traced, y: torch.Tensor) -> torch.Tensor:
    return s.fc(F.max_pool2d(y, 16).view(int(y.shape[0]), -1))


REASONS = {
    "padded_on_one_side": (
        lambda s, y: s.fc(pooled(s.d(F.pad(y, (0, 1, 0, 1))))),
        "is supported where it adds as much above as below",
    ),
    "padded_with_ones": (
        lambda s, y: s.fc(pooled(s.d(F.pad(y, (1, 1, 1, 1), value=1.0)))),
        "with something else than zeros",
    ),
    "padded_for_a_pool": (
        lambda s, y: s.fc(pooled(F.max_pool2d(F.pad(y, (1, 1, 1, 1)), 3))),
        "reads an activation with zeros around it; only a convolution may",
    ),
    "ceil_mode": (
        lambda s, y: s.fc(pooled(F.avg_pool2d(y, 3, 2, ceil_mode=True))),
        "has a last window beyond the border",
    ),
    "count_include_pad": (
        lambda s, y: s.fc(pooled(F.avg_pool2d(y, 3, 2, 1, count_include_pad=False))),
        "with padding and count_include_pad=False",
    ),
    "temperature": (
        lambda s, y: s.fc(pooled(y)) / 1.5,
        "a positive factor of the logits changes no prediction: leave it out",
    ),
    "parameter": (lambda s, y: s.fc(pooled(y * s.m)), "with a Parameter"),
    "image_of_logits": (
        lambda s, y: F.adaptive_avg_pool2d(s.h(y), 1),
        "returns a tensor [2, 10, 1, 1] for 2 images: end its forward with .flatten(1)",
    ),
    "batch": (
        constant_batch,
        "makes a tensor whose first size is not the number of images",
    ),
    "squeeze": (
        lambda s, y: F.adaptive_avg_pool2d(s.h(y), 1).squeeze(),
        "for a batch of 1 it returns logits [10] instead of [1, 10]: squeeze()",
    ),
    "joined_features": (
        lambda s, y: s.fc(torch.cat([pooled(y)[:, :4], pooled(y)[:, 4:]], 1)),
        "is supported for activations [N, C, H, W] only",
    ),
    "quotient": (lambda s, y: s.fc(pooled(y / (s.d(y) + 9))), "divides one activation by another"),
    "transposed": (
        lambda s, y: s.fc(pooled(F.conv_transpose2d(y, s.d.weight))),
        "is a transposed convolution",
    ),
}


def traced(forward: Callable, path: Path) -> Traced:
    torch.manual_seed(1)
    net = Traced(forward).eval()
    torch.jit.trace(net, torch.randn(1, 3, 32, 32), check_trace=False).save(str(path))
    return net


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_is_the_true_one(sentinelnn, tmp_path, name):
    forward, reason = REASONS[name]
    traced(forward, tmp_path / "net.ts")
    outcome = sentinelnn.run(["evaluate", "--model", tmp_path / "net.ts", "--dataset", "synthetic"])
    assert outcome.code == 65 and len(outcome.messages) == 1, outcome.err
    assert reason in outcome.messages[0]


def test_a_constant_may_stand_before_an_activation(sentinelnn, tmp_path):
    """Its import compares logits with the file's own."""

    def forward(s: Traced, y: torch.Tensor) -> torch.Tensor:
        return s.fc(pooled(torch.tensor(2.0) * (torch.arange(8.0).view(8, 1, 1) + y)))

    traced(forward, tmp_path / "net.ts")
    words = ["evaluate", "--model", tmp_path / "net.ts", "--dataset", "synthetic", "--images", "4"]
    outcome = sentinelnn.run(words)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("kind", ["mask", "weight_norm"])
def test_layers_of_weights_in_parts_keep_their_names(sentinelnn, tmp_path, kind):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            conv = nn.Conv2d(3, 8, 3, 2, 1)
            if kind == "mask":
                self.c = prune.l1_unstructured(conv, "weight", 0.5)
            else:
                self.c = nn.utils.weight_norm(conv)
            self.fc = nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.c(x).relu().mean((2, 3)))

    torch.jit.trace(Net().eval(), torch.randn(1, 3, 32, 32)).save(str(tmp_path / "net.ts"))
    words = ["rank", "--model", tmp_path / "net.ts", "--dataset", "synthetic"]
    outcome = sentinelnn.run([*words, "--output", tmp_path / "r.h5"])
    assert outcome.code == 0, outcome.err
    layers = [line.split()[0] for line in outcome.out.splitlines() if line.strip()]
    assert "c" in layers and "c_1" not in layers


# ---- other files ----

OTHERS = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html>\n", "a web page"),
    "gzip": (b"\x1f\x8b\x08\x00rest", "gunzip"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x03", "an ONNX network"),
    "text": (b"hello\n", "a text"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_called_what_they_are(sentinelnn, rank, tmp_path, name):
    content, reason = OTHERS[name]
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    for outcome in (rank(path), sentinelnn.run(["inspect", path])):
        assert outcome.code == 65 and len(outcome.messages) == 1
        assert reason in outcome.messages[0] and str(path) in outcome.messages[0]


def safetensors_of(state: State) -> bytes:
    """As the package safetensors lays it out."""
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    types = {torch.float32: "F32", torch.int64: "I64"}
    data = b""
    for name, tensor in state.items():
        own = tensor.contiguous().numpy().tobytes()
        offsets = [len(data), len(data) + len(own)]
        header[name] = {"dtype": types[tensor.dtype], "shape": list(tensor.shape)}
        header[name]["data_offsets"] = offsets
        data += own
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_safetensors_are_read(sentinelnn, rank, hash_of, expected, state, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(safetensors_of(with_prefix(state, "module.")))
    assert hash_of(rank(path)) == expected
    inspected = sentinelnn.run(["inspect", path])
    assert inspected.code == 0 and '"format": "pt"' in inspected.out
    assert "fits: resnet20" in inspected.out


def test_safetensors_of_the_package_are_read(rank, hash_of, expected, state, tmp_path):
    save = pytest.importorskip("safetensors.numpy", reason="the package is not here").save_file
    path = tmp_path / "net.safetensors"
    save({k: v.numpy() for k, v in state.items()}, path)
    assert hash_of(rank(path)) == expected
