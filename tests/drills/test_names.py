"""Names say what a network is; every command refuses a network that fails without faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import ROOT, Result

torch = pytest.importorskip("torch", reason="python3-torch makes the files")

SHARED = ROOT.parent / "shared/data"
FOUR = ["unprotected", "pruned", "hardened", "pruned+hardened"]
NAN = float("nan")


@pytest.fixture(scope="module")
def small(campaign) -> list[str | Path]:
    """A campaign of seconds on every network that it is told to make."""
    return [
        *("campaign", "--data", campaign.data, "--checkpoint", campaign.checkpoint),
        *("--pruning-ratio", "0.2", "--finetune-epochs", "0", "--hardening-ratio", "0.1"),
        *("--ber", "1e-5", "--images", "16", "--calibration-images", "16", "--publish", "0"),
    ]


@pytest.fixture(scope="module")
def four(sentinelnn, small, scratch) -> Path:
    path = scratch / "four.h5"
    made(sentinelnn, *small, "--repeat", "6", "--all-combinations", "--output", path)
    return path


def made(sentinelnn, *args: str | Path, ranks: int = 0) -> str:
    outcome = sentinelnn.run(args, ranks=ranks)
    assert outcome.code == 0, outcome.err
    return outcome.out


def refused(sentinelnn, code: int, words: list[str], *args: str | Path) -> None:
    outcome = sentinelnn.run(args)
    assert outcome.code == code, f"{args}: {outcome.code} {outcome.out} {outcome.err}"
    assert len(outcome.messages) == 1, outcome.err
    assert all(word in outcome.messages[0] for word in words), outcome.messages[0]


def names(sentinelnn, path: Path) -> list[str]:
    report = json.loads(made(sentinelnn, "summarize", path, "--json"))
    return [model["name"] for model in report["models"]]


def with_option(args: list[str | Path], option: str, value: str | Path) -> list[str | Path]:
    """The same with another value, as an option may stand once only."""
    at = args.index(option) + 1
    return [*args[:at], value, *args[at + 1 :]]


def flips(path: Path, model: int) -> list[int]:
    """How many bits flipped, by trial."""
    trials = Result.read(path).trials
    return trials["n_faults"][trials["model"] == model].tolist()


def test_all_combinations(sentinelnn, four):
    assert names(sentinelnn, four) == FOUR
    files = {path.name for path in four.parent.glob("four.h5.*")}
    assert files == {f"four.h5.{name}.pth" for name in FOUR[1:]}
    with h5py.File(four) as file:
        parameters = {m: file["models"][m].attrs["parameters"] for m in FOUR}
    assert parameters["pruned"] < parameters["pruned+hardened"] < parameters["unprotected"]
    assert parameters["unprotected"] < parameters["hardened"]
    # Paired: the hardened network has the original's flips and those in its copies.
    plain, pruned, hardened, both = (flips(four, model) for model in range(4))
    assert all(a <= b for a, b in zip(plain, hardened)) and plain != hardened
    assert all(a <= b for a, b in zip(pruned, plain)) and all(a <= b for a, b in zip(pruned, both))


def test_the_four_do_not_depend_on_ranks(sentinelnn, small, four, scratch):
    path = scratch / "ranks.h5"
    args = [*small, "--all-combinations", "--output", path]
    made(sentinelnn, *args, "--repeat", "3", ranks=2)
    made(sentinelnn, *args, "--repeat", "6")  # goes on
    Result.read(path).check_same(Result.read(four))
    assert "2 of 2 trials identical" in made(sentinelnn, "replay", path, "--trials", "1,4")


def test_pruned_and_hardened_is_called_so(sentinelnn, small, campaign, four, scratch):
    path = scratch / "three.h5"
    args = [*small, "--output", path, "--also", f"twice={four}.hardened.pth"]
    made(sentinelnn, *args, "--repeat", "2")
    assert names(sentinelnn, path) == ["unprotected", "pruned", "pruned+hardened", "twice"]
    assert "2 of 2 trials identical" in made(sentinelnn, "replay", path, "--trials", "0-1")
    # The same of checkpoints.
    data = ["--data", campaign.data, "--images", "16"]
    for name in FOUR[1:]:
        out = made(sentinelnn, "evaluate", "--checkpoint", f"{four}.{name}.pth", *data)
        assert out.startswith(f"resnet20 ({name}) on synthetic: ")
    bounded = scratch / "bounded.pth"
    made(sentinelnn, "harden", "--checkpoint", f"{four}.pruned.pth", "--hardening-ratio", "0",
         "--clipping", "none", "--weight-bounds", "layer", "--output", bounded)  # fmt: skip
    result = scratch / "bounded.h5"
    made(sentinelnn, "inject", "--checkpoint", bounded, *data, "--ber", "1e-6", "--repeat", "2",
         "--output", result)  # fmt: skip
    assert names(sentinelnn, result) == ["pruned+bounded"]
    # Who prunes a pruned network, or hardens it, has both steps in the name.
    result = scratch / "again.h5"
    again = with_option(small, "--checkpoint", f"{four}.pruned.pth")
    made(sentinelnn, *again, "--output", result, "--repeat", "1")
    assert names(sentinelnn, result) == ["pruned", "pruned+pruned", "pruned+pruned+hardened"]


def as_an_earlier_version(path: Path) -> None:
    """Both networks that were protected are called hardened, and so is the file."""
    shutil.move(f"{path}.pruned+hardened.pth", f"{path}.hardened.pth")
    with h5py.File(path, "r+") as file:
        for group in ("models", "golden"):
            file[group].move("pruned+hardened", "hardened")
        points = file["points"][()]
        named = [models.replace(b"pruned+hardened", b"hardened") for models in points["models"]]
        points["models"] = named
        file["points"][...] = points
        parts = file["provenance/fingerprint"].attrs
        for name in list(parts):
            if "pruned+hardened" in name:
                parts[name.replace("pruned+hardened", "hardened")] = parts[name]
                del parts[name]
        file.attrs["fingerprint"] = "of an earlier version"


def test_results_of_earlier_versions_go_on(sentinelnn, small, scratch):
    path, other = scratch / "old.h5", scratch / "new.h5"
    for output in (path, other):
        made(sentinelnn, *small, "--repeat", "4", "--output", output)
    as_an_earlier_version(path)
    assert "4 of 4 trials identical" in made(sentinelnn, "replay", path, "--trials", "0-3")
    merged = scratch / "merged.h5"
    made(sentinelnn, "merge", other, path, "--output", merged)
    Result.read(merged).check_same(Result.read(other))
    for output in (path, other):
        made(sentinelnn, *small, "--repeat", "8", "--output", output)
    assert names(sentinelnn, path) == names(sentinelnn, other)
    Result.read(path).check_same(Result.read(other))
    assert not Path(f"{path}.pruned+hardened.pth").exists()
    # Another network is another job, whatever it is called.
    other = [*with_option(small, "--pruning-ratio", "0.3"), "--repeat", "8", "--output", path]
    refused(sentinelnn, 64, ["belongs to another job", "recipe of pruned"], *other)


def test_names_of_also(sentinelnn, campaign, scratch):
    folder = scratch / "also"
    folder.mkdir()
    shutil.copy(campaign.checkpoint, folder / "a=b.pth")
    shutil.copy(campaign.checkpoint, folder / "c,d.pth")
    path = folder / "result.h5"
    args = ["campaign", "--data", campaign.data, "--checkpoint", campaign.checkpoint,
            "--ber", "1e-5", "--images", "8", "--hardening-ratio", "0", "--clipping", "none",
            "--repeat", "2", "--output", path]  # fmt: skip
    given = [folder / "a=b.pth", f"ours-2={folder}/a=b.pth", folder / "c,d.pth"]
    made(sentinelnn, *args, "--also", *given)
    assert names(sentinelnn, path) == ["unprotected", "a=b", "ours-2", "c_d"]
    assert "2 of 2 trials identical" in made(sentinelnn, "replay", path, "--trials", "0,1")
    for also, words in {
        f"hardened={campaign.checkpoint}": ["choose another name"],
        f"a b={campaign.checkpoint}": ["no such file", "NAME=FILE"],
        f"{'n' * 41}={campaign.checkpoint}": ["at most 40"],
        "ours=": ["NAME=FILE"],
    }.items():
        refused(sentinelnn, 64, ["--also", *words], *args, "--also", also)
    twice = [f"x={campaign.checkpoint}", f"x={folder}/a=b.pth"]
    refused(sentinelnn, 64, ["a model named 'x' already"], *args, "--also", *twice)
    refused(sentinelnn, 65, [f"{folder}/gone.pth"], *args, "--also", f"x={folder}/gone.pth")
    plain = folder / "plain.pth"
    torch.save(dict(torch.load(campaign.checkpoint)), plain)
    words = ["plain.pth", "does not say what it is", "checkpoints that sentinelnn wrote"]
    refused(sentinelnn, 64, words, *args, "--also", plain)
    combinations = [*args, "--all-combinations"]
    refused(sentinelnn, 64, ["--all-combinations needs --pruning-ratio"], *combinations)


def test_seed_checkpoints_and_scripts_have_names(sentinelnn, campaign, scratch):
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is absent")
    data = ["--model", "resnet20", "--dataset", "cifar10", "--data", SHARED / "cifar10"]
    for name in ("pruned", "hardened"):
        file, path = SHARED / f"models/seed_resnet20_{name}_0.1.pth", scratch / f"seed_{name}.h5"
        made(sentinelnn, "inject", *data, "--checkpoint", file, "--images", "8",
             "--ber", "1e-6", "--repeat", "1", "--output", path)  # fmt: skip
        assert names(sentinelnn, path) == [name]
    script, path = scratch / "mine.ts", scratch / "script.h5"
    made(sentinelnn, "export", *data, "--checkpoint", SHARED / "models/cifar10_resnet20.pth",
         "--output", script)  # fmt: skip
    data = ["--model", script, *data[2:], "--images", "8"]
    assert made(sentinelnn, "evaluate", *data).startswith("mine.ts on cifar10: ")
    made(sentinelnn, "inject", *data, "--ber", "1e-6", "--repeat", "1", "--output", path)
    assert names(sentinelnn, path) == ["mine"]


def test_an_audit_of_nothing_says_so(sentinelnn, campaign, scratch):
    args = ["inject", "--data", campaign.data, "--checkpoint", campaign.checkpoint, "--images", "4",
            "--ber", "1e-6", "--repeat", "3"]  # fmt: skip
    out = made(sentinelnn, *args, "--audit", "1e-9", "--output", scratch / "none.h5")
    assert "audit: none of 3 trials was audited\n" in out and "mismatch" not in out
    out = made(sentinelnn, *args, "--audit", "1", "--output", scratch / "some.h5")
    assert "audit: 3 of 3 trials" in out


# ---- networks that fail without faults ----


@pytest.fixture(scope="module")
def state(campaign) -> dict[str, torch.Tensor]:
    return dict(torch.load(campaign.checkpoint))


def saved(state: dict[str, torch.Tensor], path: Path, **changes) -> Path:
    """With tensors replaced by what functions make of them; `__` stands for a dot."""
    changed = {name.replace("__", "."): change for name, change in changes.items()}
    assert set(changed) <= set(state)
    torch.save({k: changed.get(k, torch.clone)(v) for k, v in state.items()}, path)
    return path


def with_one(value: float):
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[3] = value
        return tensor

    return change


def selection(campaign, path: Path) -> list[str | Path]:
    return [*("--model", "resnet20", "--dataset", "synthetic", "--data", campaign.data),
            "--checkpoint", path]  # fmt: skip


def every_command(folder: Path) -> list[list[str | Path]]:
    few, out = ["--ber", "1e-6", "--repeat", "2", "--images", "16"], folder / "refused"
    ratio = ["--pruning-ratio", "0.1", "--finetune-epochs", "0"]
    return [
        ["inject", *few, "--output", out],
        ["campaign", *few, "--output", out],
        ["campaign", *few, *ratio, "--output", out],
        ["plan", *few],
        *(["rank", "--importance", m, "--ranking-images", "16", "--output", out]
          for m in ("l1-norm", "l2-norm", "vul-gain", "salience", "deepvigor", "channel-FI")),
        ["prune", *ratio, "--output", out],
        ["harden", "--output", out, "--calibration-images", "16"],
        ["harden", "--hardening-ratio", "0", "--clipping", "none", "--weight-bounds", "layer",
         "--output", out],
        ["train", "--epochs", "1", "--output", out],
    ]  # fmt: skip


def overflowing(tensor: torch.Tensor) -> torch.Tensor:
    return tensor * 1e30


BROKEN = {
    "nan": ({"layer2__0__conv1__weight": with_one(NAN)}, "1 of 4608 values of layer2.0.conv1."),
    "variance": ({"layer1__0__bn1__running_var": torch.neg}, "running_var are NaN or negative"),
    "overflow": ({"layer1__0__bn1__weight": overflowing, "layer2__0__bn1__weight": overflowing},
                 "NaN or Inf without any fault"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_every_command_refuses_what_fails_without_faults(
    sentinelnn, campaign, state, tmp_path, kind
):
    changes, word = BROKEN[kind]
    path = saved(state, tmp_path / "broken.pth", **changes)
    commands = every_command(tmp_path)
    for command in commands[:5] if kind == "variance" else commands:
        args = [command[0], *selection(campaign, path), *command[1:]]
        refused(sentinelnn, 65, [str(path), word], *args)
        assert {p.name for p in tmp_path.iterdir()} == {"broken.pth"}, command
    for command in ("evaluate", "profile"):
        args = [command, *selection(campaign, path), "--images", "16", "--json"]
        outcome = sentinelnn.run(args)
        assert outcome.code == 0 and json.loads(outcome.out)["not_finite"] == 16
        assert "NaN or Inf logits: 16 of 16 images (first: image 0, from layer layer" in outcome.err


def test_all_weights_are_nan(sentinelnn, campaign, state, tmp_path):
    path = tmp_path / "nan.pth"
    torch.save({k: v * NAN if v.dim() == 4 else v for k, v in state.items()}, path)
    words = ["432 of 432 values of conv1.weight are NaN or Inf (and some of 20 more tensors)"]
    refused(sentinelnn, 65, words, "rank", *selection(campaign, path), "--importance", "l2-norm")
    assert "conv1.weight: 432 of 432 values are NaN or Inf\n" in made(sentinelnn, "inspect", path)


def test_some_images_suffice(sentinelnn, campaign, state, undisturbed, tmp_path):
    logits = undisturbed.result.fixed["golden/unprotected/logits"].astype(float)
    scale = np.finfo(np.float32).max / np.median(np.abs(logits).max(axis=1))
    path = saved(state, tmp_path / "some.pth", fc__weight=lambda w: (w.double() * scale).float())
    args = [*selection(campaign, path), "--images", "10"]
    report = json.loads(made(sentinelnn, "evaluate", *args, "--json"))
    assert 0 < report["not_finite"] < 10
    words = [f"the logits of {report['not_finite']} of 10 images (first: image ", "layer fc"]
    for blocks in ([], ["--images-per-trial", "3"]):
        refused(sentinelnn, 65, words, "inject", *args, *blocks, "--ber", "1e-6", "--repeat", "1",
                "--output", tmp_path / "r.h5")  # fmt: skip


def test_infinite_limits_are_no_fault(sentinelnn, campaign, state, tmp_path):
    """A variance of Inf switches a channel off; intervals of copies may be infinite."""
    path = saved(state, tmp_path / "dead.pth", layer1__0__bn1__running_var=with_one(float("inf")))
    args = ["--images", "8", "--ber", "1e-6", "--repeat", "1", "--output", tmp_path / "r.h5"]
    made(sentinelnn, "inject", *selection(campaign, path), *args)


def test_equal_logits_are_warned_of(sentinelnn, campaign, state, tmp_path):
    path = saved(state, tmp_path / "flat.pth", fc__weight=torch.zeros_like)
    args = [*selection(campaign, path), "--images", "8"]
    warning = f"{path}: all 8 images have the same logits without any fault"
    inject = ["inject", *args, "--ber", "1e-6", "--repeat", "1", "--output", tmp_path / "r.h5"]
    campaign_of = ["campaign", *inject[1:-1], tmp_path / "c.h5"]
    commands = (["evaluate", *args], ["profile", *args], inject, campaign_of, ["plan", *inject[1:-2]])
    for command in commands:
        outcome = sentinelnn.run(command)
        assert outcome.code == 0 and outcome.err.count(warning) == 1, outcome.err
        assert outcome.err.count("same logits") == 1 and "chance" not in outcome.err
    one = sentinelnn.run(["evaluate", *args[:-1], "1"])
    assert one.code == 0 and "same logits" not in one.err


def test_a_ranking_of_nan_is_refused(sentinelnn, campaign, tmp_path):
    ranking = tmp_path / "ranking.h5"
    net = ["--data", campaign.data, "--checkpoint", campaign.checkpoint]
    made(sentinelnn, "rank", *net, "--output", ranking)
    with h5py.File(ranking, "r+") as file:
        file["importance/l2-norm/layer1.0.conv1/scores"][2] = NAN
    refused(sentinelnn, 65, [str(ranking), "layer1.0.conv1: a score is no number (NaN)"],
            "harden", *net, "--ranking", ranking, "--output", tmp_path / "h.pth")  # fmt: skip


def test_options_that_are_nan(sentinelnn, campaign, tmp_path):
    net = ["--data", campaign.data, "--checkpoint", campaign.checkpoint, "--images", "4"]
    inject = ["inject", *net, "--output", tmp_path / "r.h5"]
    for options in (["--ber", "nan"], ["--ber", "1e-6", "--confidence", "nan"],
                    ["--ber", "1e-6", "--half-width", "nan"], ["--ber", "1e-6", "--audit", "nan"],
                    ["--ber", "1e-6", "--cache-budget", "nan"]):  # fmt: skip
        refused(sentinelnn, 64, [options[-2]], *inject, *options)


def test_training_that_diverges_leaves_no_network(sentinelnn, campaign, tmp_path):
    net = ["--data", campaign.data, "--checkpoint", campaign.checkpoint]
    refused(sentinelnn, 64, ["diverged in epoch 1", "lower the learning rate"], "train", *net,
            "--epochs", "1", "--lr", "1e30", "--output", tmp_path / "t.pth")  # fmt: skip
    assert not (tmp_path / "t.pth").exists()


def test_tables_and_messages_say_what_they_mean(sentinelnn, small, campaign, scratch):
    net = ["--data", campaign.data, "--checkpoint", campaign.checkpoint]
    ranking, bounded, path = (scratch / f"said.{end}" for end in ("rank.h5", "pth", "h5"))
    made(sentinelnn, "rank", *net, "--importance", "l2-norm", "--output", ranking)
    refused(sentinelnn, 65, ["is no result", "but a ranking"], "summarize", ranking)
    refused(sentinelnn, 64, ["sentinelnn rank --help"], "rank", *net, "--no-such-option")

    weights_alone = ["--hardening-ratio", "0", "--clipping", "none", "--weight-bounds", "layer"]
    made(sentinelnn, "harden", *net, *weights_alone, "--output", bounded)
    assert "no --model is needed" in made(sentinelnn, "inspect", bounded)

    pair = ["campaign", *net, "--hardening-ratio", "0", "--clipping", "none", "--images", "16"]
    pair += ["--also", f"twin={bounded}", "--repeat", "60", "--publish", "0", "--output", path]
    table = made(sentinelnn, *pair, "--ber", "1e-12")
    assert "none in 60 trials (4.99 %)" in table and "no trial differed" in table
