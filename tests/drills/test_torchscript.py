"""TorchScript files through the whole program: everything works on a network of the user's own, and
what cannot be imported is refused by name."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Optional as Opt

import pytest
from drill import ROOT, Result

torch = pytest.importorskip("torch", reason="python3-torch makes the files")
nn = torch.nn
sys.path.append(str(ROOT / "tests/parity"))
from make_traced import Odd, randomise  # noqa: E402

IMAGES = 40


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(1)
    made = Odd()
    randomise(made, 32)
    return made


@pytest.fixture(scope="module")
def script(net, scratch) -> Path:
    path = scratch / "odd.ts"
    torch.jit.trace(net, torch.randn(1, 3, 32, 32)).save(str(path))
    return path


@pytest.fixture(scope="module")
def selection(script) -> list[str | Path]:
    return ["--model", script, "--dataset", "synthetic"]


def evaluated(sentinelnn, *arguments: str | Path) -> dict:
    outcome = sentinelnn.run(["evaluate", *arguments, "--images", str(IMAGES), "--json"])
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def made(sentinelnn, *arguments: str | Path, ranks: int = 0) -> None:
    outcome = sentinelnn.run(arguments, ranks=ranks)
    assert outcome.code == 0, outcome.err


def test_parameters_and_inspect(sentinelnn, net, script, selection):
    report = evaluated(sentinelnn, *selection)
    assert report["parameters"] == sum(p.numel() for p in net.parameters())
    # The same file as --checkpoint.
    assert evaluated(sentinelnn, "--checkpoint", script, "--dataset", "synthetic") == report
    inspected = sentinelnn.run(["inspect", script])
    assert inspected.code == 0 and "stem.weight" in inspected.out and "TorchScript" in inspected.out


def test_what_is_made_of_it_needs_no_option(sentinelnn, selection, scratch):
    pruned, hardened = scratch / "pruned.pth", scratch / "hardened.pth"
    made(sentinelnn, "prune", *selection, "--pruning-ratio", "0.2", "--finetune-epochs", "0",
         "--output", pruned)  # fmt: skip
    made(sentinelnn, "harden", "--checkpoint", pruned, "--weight-bounds", "layer",
         "--output", hardened)  # fmt: skip
    report = evaluated(sentinelnn, "--checkpoint", pruned)
    assert report["parameters"] < evaluated(sentinelnn, *selection)["parameters"]
    evaluated(sentinelnn, "--checkpoint", hardened)
    # Plain PyTorch reads it.
    state = torch.load(pruned)
    assert "blocks.1.weight" in state and "mean" not in state


def test_an_export_of_it_is_imported_again(sentinelnn, selection, scratch):
    trained, exported = scratch / "trained.pth", scratch / "again.ts"
    made(sentinelnn, "train", *selection, "--epochs", "1", "--output", trained)
    made(sentinelnn, "export", "--checkpoint", trained, "--output", exported)
    report = evaluated(sentinelnn, "--checkpoint", trained)
    again = evaluated(sentinelnn, "--model", exported, "--dataset", "synthetic")
    assert {**again, "model": ""} == {**report, "model": ""}


def test_a_protected_export_is_not_imported_without_its_protection(sentinelnn, selection, scratch):
    for name, how in (("bounded", ["--clipping", "none", "--weight-bounds", "channel"]),
                      ("clipped", ["--clipping", "ranger"])):  # fmt: skip
        network, exported = scratch / f"{name}.pth", scratch / f"{name}.ts"
        made(sentinelnn, "harden", *selection, "--hardening-ratio", "0", *how,
             "--output", network)  # fmt: skip
        made(sentinelnn, "export", "--checkpoint", network, "--output", exported)
        words = ["--model", exported, "--dataset", "synthetic", "--images", "2"]
        outcome = sentinelnn.run(["evaluate", *words])
        assert outcome.code == 65 and "give the .pth it was exported from" in outcome.err


def test_a_campaign_does_not_depend_on_ranks(sentinelnn, selection, scratch):
    results = []
    for ranks in (0, 2):
        result = scratch / f"campaign{ranks}.h5"
        made(sentinelnn, "campaign", *selection, "--images", str(IMAGES), "--ber", "1e-4",
             "--repeat", "6", "--importance", "l2-norm", "--audit", "1", "--output", result,
             ranks=ranks)  # fmt: skip
        results.append(Result.read(result))
        moved = scratch / "moved.ts"
        moved.write_bytes(selection[1].read_bytes())
        made(sentinelnn, "replay", result, "--trials", "0-2", "--checkpoint", moved)
    results[0].check_same(results[1])
    assert len(results[0].audit) == 12 and not results[0].audit["mismatches"].any()


def test_the_seed_tools_options_without_a_model(sentinelnn, script, tmp_path):
    words = ["--dataset=synthetic", f"--checkpoint={script}", "--is-pruning", "--pruning-ratio=0.1"]
    outcome = sentinelnn.run([*words, "--importance=l2-norm"], cwd=tmp_path, timeout=400)
    assert outcome.code == 0, outcome.err
    pruned = tmp_path / "odd-synthetic/pruned_l2-norm_0.1.pth"
    words = ["--checkpoint", pruned, "--pruning-ratio", "0.1"]
    outcome = sentinelnn.run(["evaluate", *words, "--images", "2"])
    assert outcome.code == 64 and "the seed tool prunes no Odd.ts" in outcome.err


# ---- what is refused ----


class Body(nn.Module):
    """A convolution, `middle`, a classifier."""

    def __init__(self, middle: nn.Module, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=8)
        self.middle = middle
        self.fc = nn.Linear(4, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.middle(self.conv(x)).mean((2, 3)))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.same(self.same(x))


class Learnt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class Derived(Learnt):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.exp(self.scale.view(1, -1, 1, 1))


class Optional(nn.Module):
    """Scripted: an argument that nobody gives, a tuple, a list."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body(nn.ReLU())

    def both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.body(x), x

    def forward(self, x: torch.Tensor, y: Opt[torch.Tensor] = None) -> torch.Tensor:
        if y is not None:
            x = x + y
        pair = self.both(x)
        return [pair[0]][0]


class InView(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x[:, :2].relu_()
        return x


class Batch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(1, 4, 4, 4)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Body(nn.ReLU())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.body(x)
        return logits, torch.relu(logits)


def traced(net: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.trace(net, torch.zeros(1, 3, 32, 32), check_trace=False)


def body(middle: nn.Module) -> Callable[[], torch.jit.ScriptModule]:
    return lambda: traced(Body(middle).eval())


REFUSED = {
    "gelu": (body(nn.GELU()), "operator aten::gelu in middle is not supported"),
    "nested": (
        body(nn.Sequential(nn.ReLU(), nn.InstanceNorm2d(4))),
        "operator aten::instance_norm in middle.1 is not supported",
    ),
    "training": (
        lambda: traced(Body(nn.BatchNorm2d(4)).train()),
        "operator aten::add_ in middle changes a parameter, buffer, attribute or constant",
    ),
    "twice": (body(Twice()), "in middle.same uses middle.same.weight again"),
    "learnt": (body(Learnt()), "operator aten::mul in middle with a Parameter"),
    "derived": (body(Derived()), "operator aten::mul in middle with a Parameter"),
    "view": (body(InView()), "reads a tensor that was changed in place by another name"),
    "batch": (body(Batch()), "operator aten::view in middle fails on a batch of these images"),
    "pair": (lambda: traced(Pair().eval()), "returns 2 tensors that depend on its images"),
    "classes": (
        lambda: traced(Body(nn.ReLU(), 7).eval()),
        "has 7 outputs, the data set synthetic has 10 classes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(sentinelnn, scratch, name):
    make, message = REFUSED[name]
    path = scratch / f"refused_{name}.ts"
    make().save(str(path))
    outcome = sentinelnn.run(["evaluate", "--model", path, "--dataset", "synthetic"])
    assert outcome.code == 65 and len(outcome.messages) == 1, outcome.err
    assert f"{path}: " in outcome.messages[0] and message in outcome.messages[0]


def test_arguments_with_defaults_half_weights_and_names_of_models(sentinelnn, scratch):
    torch.manual_seed(2)
    torch.jit.script(Optional().eval()).save(str(scratch / "optional.ts"))
    torch.jit.script(Body(nn.ReLU()).half().eval()).save(str(scratch / "half.ts"))
    for name in ("optional.ts", "half.ts"):
        report = evaluated(sentinelnn, "--model", scratch / name, "--dataset", "synthetic")
        assert report["parameters"] == 4 * 27 + 4 + 40 + 10
    # A file of this name in the folder is not what is meant.
    (scratch / "resnet20").write_bytes((scratch / "half.ts").read_bytes())
    arguments = ["--model", "resnet20", "--dataset", "synthetic", "--checkpoint", "half.ts"]
    outcome = sentinelnn.run(["evaluate", *arguments], cwd=scratch)
    assert outcome.code == 64 and "TorchScript network of its own, not a resnet20" in outcome.err


def test_damaged_missing_or_two_files(sentinelnn, script, scratch):
    content = script.read_bytes()
    damaged, cut = scratch / "damaged.ts", scratch / "cut.ts"
    with zipfile.ZipFile(script) as whole, zipfile.ZipFile(damaged, "w") as other:
        for name in whole.namelist():
            other.writestr(name, whole.read(name).replace(b"torch.", b"torch_."))
    cut.write_bytes(content[: len(content) // 2])
    cases = [
        (65, ["--model", damaged, "--dataset", "synthetic"], "no file of the archive defines"),
        (65, ["--model", cut, "--dataset", "synthetic"], "truncated"),
        (65, ["--model", scratch / "absent.ts", "--dataset", "synthetic"], "no such file"),
        (64, ["--model", script], "give --dataset"),
        (64, ["--model", script, "--checkpoint", damaged, "--dataset", "synthetic"], "two networks"),
    ]
    for code, arguments, message in cases:
        outcome = sentinelnn.run(["evaluate", *arguments], ranks=2 if code == 65 else 0)
        assert outcome.code == code and len(outcome.messages) == 1, outcome.err
        assert message in outcome.messages[0]
