"""protect: the same rows, choice and answer on any number of ranks and after any kill; wishes that
cannot be met and recipes that contradict themselves are told in one sentence."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import pytest
from drill import ROOT, Result, kill_job, text, wait_until

SEED = int(os.environ.get("SENTINELNN_DRILL_SEED", time.time_ns() % 2**32))
UNTRAINED = """\
[coded]
fold-batch-norm = true
store = ["weight=int8+repeat:3", "bias,scale=fp16+repeat:5"]
[plain]
fold-batch-norm = true
store = ["weight=int8", "bias,scale=fp16"]
[clipped]
clipping = "ranger"
calibration-images = 20
"""
TRAINED = """\
[trained]
finetune-epochs = 1
finetune-batch-size = 20
train-store = ["weight=int4"]
fold-batch-norm = true
store = ["weight=int4+bch:8,4", "bias,scale=fp16+repeat:3"]
"""
DATA = Path(os.environ.get("SENTINELNN_TEST_DATA", ROOT / "../shared/data")).resolve()


@dataclass
class Protection:
    data: Path
    checkpoint: Path
    recipes: Path

    def args(self, output: Path, *more: str | Path) -> list[str | Path]:
        """`more`: options with their values, instead of these."""
        options: dict[str | Path, str | Path] = {
            "--data": self.data,
            "--checkpoint": self.checkpoint,
            "--recipes": self.recipes,
            "--ber": "2e-3",
            "--memory": "1.1",
            "--repeat": "30",
            "--images": "40",
            "--race-images": "20",
            "--equal": "5",
            "--max-loss": "40",
            "--output": output,
        }
        options |= dict(zip(more[::2], more[1::2], strict=True))
        return ["protect", *(word for option in options.items() for word in option)]


@pytest.fixture(scope="module")
def protection(campaign, tmp_path_factory) -> Protection:
    recipes = tmp_path_factory.mktemp("recipes") / "recipes.toml"
    recipes.write_text(UNTRAINED + TRAINED)
    return Protection(campaign.data, campaign.checkpoint, recipes)


def results(output: Path) -> dict[str, Result]:
    """The rounds of the race and the confirmation."""
    paths = sorted(Path(f"{output}.race").glob("round*.h5")) + [Path(f"{output}.h5")]
    return {re.sub(r".*[./]", "", path.stem): Result.read(path) for path in paths}


def told(out: str, output: Path) -> str:
    """stdout without the name of the output."""
    return out.replace(str(output), "OUTPUT")


@pytest.fixture(scope="module")
def whole(sentinelnn, protection, tmp_path_factory) -> tuple[str, Path]:
    """An undisturbed call in one process: what it said, and where its output is."""
    output = tmp_path_factory.mktemp("whole") / "net.pth"
    outcome = sentinelnn.run(protection.args(output))
    assert outcome.code in (0, 3), outcome.err
    return told(outcome.out, output), output


def check_same(output: Path, whole: Path) -> None:
    ours, theirs = results(output), results(whole)
    assert ours.keys() == theirs.keys()
    for name, result in ours.items():
        result.check_same(theirs[name])
    assert Path(f"{output}.json").read_bytes() == Path(f"{whole}.json").read_bytes()


def check_files(out: str, output: Path) -> dict[str, Any]:
    """The answer, which comes first and is that of the files."""
    answer = json.loads(Path(f"{output}.json").read_text())
    assert out.splitlines()[0] == answer["answer"]
    rounds = [result for name, result in results(output).items() if name.startswith("round")]
    # Rows that are all alike would prove little.
    assert len(set(rounds[0].trials["correct"])) > 2
    chosen = next(recipe for recipe in answer["recipes"] if recipe["name"] == answer["chosen"])
    trials = sum(len(result.trials) // result.models for result in rounds)
    assert chosen["race"]["trials"] == trials
    confirmed = results(output)["pth"]
    assert len(confirmed.trials) == 2 * 30 and confirmed.complete
    mean = confirmed.trials[confirmed.trials["model"] == 1]["correct"].mean() / 40
    assert answer["confirmation"]["accuracy"]["estimate"] == pytest.approx(mean)
    with h5py.File(f"{output}.h5") as file:
        before, after = (file["models"][m].attrs for m in ("unprotected", answer["chosen"]))
        assert chosen["memory"] == after["stored_bits"] / before["stored_bits"]
        assert chosen["macs"] == after["macs"] / before["macs"]
        assert answer["confirmation"]["fingerprint"] == text(file.attrs["fingerprint"])
    return answer


def test_the_answer_comes_first_and_is_that_of_the_files(whole):
    answer = check_files(*whole)
    assert [recipe["name"] for recipe in answer["recipes"]] == ["coded", "plain", "clipped", "trained"]


@pytest.mark.skipif(not DATA.exists(), reason="no real network")
def test_of_a_real_network_the_code_wins_and_the_others_leave(sentinelnn, tmp_path):
    recipes = tmp_path / "recipes.toml"
    recipes.write_text(UNTRAINED)
    checkpoint = DATA / "models/cifar10_resnet20.pth"
    protection = Protection(DATA / "cifar10", checkpoint, recipes)
    output = tmp_path / "net.pth"
    named = ("--model", "resnet20", "--dataset", "cifar10")
    outcome = sentinelnn.run(protection.args(output, *named))
    assert outcome.code in (0, 3), outcome.err
    answer = check_files(told(outcome.out, output), output)
    assert answer["chosen"] == "coded"
    remain = {recipe["name"]: recipe["race"]["remains"] for recipe in answer["recipes"]}
    assert remain == {"coded": True, "plain": False, "clipped": False}
    assert "round 1 of the race, trials 1 to 32, 3 recipes: coded, plain, clipped" in outcome.err
    number = r"-\d+\.\d\d"
    left = rf"plain leaves: {number} points \[{number}, {number}\] against coded"
    assert re.search(left, outcome.err)
    assert "the race ends after 32 trials with coded; coded is chosen" in outcome.err


def test_what_is_written_is_the_chosen_network_and_its_trials_replay(sentinelnn, whole):
    _, output = whole
    chosen = json.loads(Path(f"{output}.json").read_text())["chosen"]
    assert output.read_bytes() == Path(f"{output}.race/{chosen}.pth").read_bytes()
    first = (Path(f"{output}.race/round1.h5"), "20 (--images-of held-out)")
    for result, images in ((Path(f"{output}.h5"), "40 (--images-of test)"), first):
        replayed = sentinelnn.run(["replay", result, "--trials", "random:3"])
        assert replayed.code == 0, replayed.err
        assert f"images: {images}\n" in sentinelnn.run(["summarize", result]).out


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_same_on_any_number_of_ranks(sentinelnn, protection, whole, tmp_path, ranks):
    output = tmp_path / "net.pth"
    outcome = sentinelnn.run(protection.args(output), ranks=ranks)
    assert told(outcome.out, output) == whole[0], outcome.err
    check_same(output, whole[1])


def test_the_same_after_any_kill(sentinelnn, protection, whole, tmp_path):
    print(f"random moments: SENTINELNN_DRILL_SEED={SEED}")
    moments = random.Random(SEED)
    output = tmp_path / "net.pth"
    outcome = None
    for _ in range(8):
        process = sentinelnn.start(protection.args(output), ranks=2)
        try:
            process.communicate(timeout=moments.uniform(0.5, 8))
            break
        except Exception:  # noqa: BLE001 - still running
            kill_job(process)
            process.communicate()
    outcome = sentinelnn.run(protection.args(output), ranks=2)
    assert told(outcome.out, output) == whole[0], outcome.err
    check_same(output, whole[1])


def test_a_stop_is_75_and_the_same_command_goes_on(sentinelnn, protection, whole, tmp_path):
    output = tmp_path / "net.pth"
    process = sentinelnn.start(protection.args(output))
    while not Path(f"{output}.race/round1.h5").exists() and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    outcome = sentinelnn.run(protection.args(output))
    assert told(outcome.out, output) == whole[0], outcome.err
    check_same(output, whole[1])


def test_a_killed_fresh_call_goes_on_without_fresh(sentinelnn, protection, whole, tmp_path):
    output = tmp_path / "net.pth"
    recipes = tmp_path / "recipes.toml"
    recipes.write_text("[old]\nfold-batch-norm = true\nstore = ['weight=int8']\n")
    old = sentinelnn.run(protection.args(output, "--recipes", recipes, "--seed", "5"))
    assert old.code in (0, 3), old.err
    folder = Path(f"{output}.race")
    assert sentinelnn.run(protection.args(output)).code == 64
    process = sentinelnn.start([*protection.args(output), "--fresh"])
    assert wait_until(lambda: (folder / "round1.h5.journal.0").exists() or process.poll() is not None)
    kill_job(process)
    process.communicate()
    assert not (folder / "old.pth").exists() and not Path(f"{output}.h5").exists()
    outcome = sentinelnn.run(protection.args(output))
    assert told(outcome.out, output) == whole[0], outcome.err
    check_same(output, whole[1])
    assert "fine-tuning, epoch" not in outcome.err


def test_a_folder_that_became_another_races_while_it_was_locked(sentinelnn, protection, tmp_path):
    output = tmp_path / "net.pth"
    folder = Path(f"{output}.race")
    folder.mkdir()
    with (folder / "race.txt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = sentinelnn.start(protection.args(output))
        time.sleep(8)  # it waits for the lock; where it does not yet, the test proves less
        (folder / "race.txt").write_text("network of another race\n")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 64 and "belongs to another race" in err, err
    assert (folder / "race.txt").read_text() == "network of another race\n"


def test_budgets_that_nothing_fits(sentinelnn, protection, tmp_path):
    output = tmp_path / "net.pth"
    outcome = sentinelnn.run(protection.args(output, "--memory", "0.01"))
    assert outcome.code == 3, outcome.err
    assert outcome.out.startswith("no recipe fits memory 0.01 and MACs 1 of the unprotected network")
    assert "the nearest is plain" in outcome.out.splitlines()[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pth.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--race-images", "21"], "21 images are asked for, but the last tenth of the"),
        (["--images", "101"], "101 images are asked for, but the test split of synthetic has 100"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--fault-target", "check,bound"], "--fault-target check,bound: the unprotected network"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_made(
    sentinelnn, protection, tmp_path, options, message
):
    outcome = sentinelnn.run(protection.args(tmp_path / "net.pth", *options))
    assert outcome.code == 64 and message in outcome.err, outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["round1.h5", "round3.h5", "plain.pth"])
def test_a_folder_in_the_way_is_found_before_anything_is_made(
    sentinelnn, protection, whole, tmp_path, name
):
    output = tmp_path / "net.pth"
    folder = Path(f"{output}.race")
    (folder / name).mkdir(parents=True)
    (folder / "race.txt").write_bytes(Path(f"{whole[1]}.race/race.txt").read_bytes())
    outcome = sentinelnn.run(protection.args(output))
    assert outcome.code in (64, 71) and name in outcome.err, outcome.err
    assert sorted(path.name for path in folder.iterdir()) == sorted(["race.txt", name])


def test_no_more_images_than_there_are(sentinelnn, protection, tmp_path):
    args = ["inject", "--data", protection.data, "--checkpoint", protection.checkpoint]
    args += ["--ber", "1e-3", "--images-of", "held-out", "--images", "21"]
    outcome = sentinelnn.run([*args, "--output", tmp_path / "x.h5"])
    assert outcome.code == 64 and "of synthetic has 20" in outcome.err, outcome.err


def test_a_loss_that_nothing_keeps(sentinelnn, protection, whole):
    """The race and the confirmation are there; only the answer is another."""
    _, output = whole
    before = Path(f"{output}.json").read_bytes()
    outcome = sentinelnn.run(protection.args(output, "--max-loss", "0"))
    assert outcome.code == 3, outcome.err
    first = outcome.out.splitlines()[0]
    assert first.startswith("a loss of at most 0 points ") and "the nearest that was found" in first
    Path(f"{output}.json").write_bytes(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "0"], "--memory 0 is no budget"),
        (["--max-loss", "-1"], "--max-loss -1 lies outside"),
        (["--equal", "0"], "--equal 0 lies outside"),
        (["--ber", "0"], "--ber is missing or lies outside"),
        (["--method", "seed"], "--recipes and --method contradict each other"),
        (["--fault-target", "activation"], "protect is for faults in memory"),
    ],
)
def test_contradicting_options(sentinelnn, protection, tmp_path, options, message):
    outcome = sentinelnn.run(protection.args(tmp_path / "net.pth", *options))
    assert outcome.code == 64 and len(outcome.messages) == 1 and message in outcome.err, outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no recipe"),
        ("x = 1\n", "'x' must be a table"),
        ("[a]\nstor = ['weight=int8']\n", "recipes.toml:2: unknown key 'stor'; `sentinelnn harden --help` or `sentinelnn prune --help`"),
        ("[a]\nstore = []\n", "recipes.toml:2: an empty list says nothing"),
        ("[a]\nstore = ['weight']\n", "recipes.toml: recipe a: --store takes"),
        ("[a]\n", "recipes.toml: recipe a: protects nothing"),
        ("[a]\noverhead = '0.05:macs'\n", "recipe a: --overhead chooses by scores"),
        ("[hardened]\nstore = ['weight=int8']\n", "recipe 'hardened'"),
        ("[a]\nfold-batch-norm = true\nclipping = 'ranger'\n", "recipe a: --fold-batch-norm"),
        ("[a]\ntrain-store = ['weight=int4']\n", "recipe a: train-store needs finetune-epochs"),
        ("[a]\nranking = 'r.h5'\n", "recipe a: ranking names a file of one network"),
        ("[a]\nstore = ['weight=int8']\n[b]\nstore = ['weight=int8']\n", "a and b are the same"),
        ("[a]\nstore = ['weight=int9']\n", "int9"),
        ("[a]\nstore = ['bias@nowhere*=fp16']\n", "recipe a: --store bias@nowhere*=fp16: the network"),
    ],
)
def test_recipes_that_cannot_be(sentinelnn, protection, tmp_path, text, message):
    recipes = tmp_path / "recipes.toml"
    recipes.write_text(text)
    output = tmp_path / "net.pth"
    args = protection.args(output, "--recipes", str(recipes))
    outcome = sentinelnn.run(args)
    assert outcome.code == 64 and len(outcome.messages) == 1 and message in outcome.err, outcome.err
    assert outcome.err.count("recipes.toml") <= 1
    assert [path.name for path in tmp_path.iterdir()] == ["recipes.toml"]


def test_another_race_and_files_of_others_stay_as_they_are(sentinelnn, protection, whole, tmp_path):
    _, output = whole
    folder = Path(f"{output}.race")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    others = ("--ber", "3e-3"), ("--seed", "9"), ("--race-images", "10"), ("--memory", "0.6")
    for name, value in (*others, ("--equal", "4")):
        outcome = sentinelnn.run(protection.args(output, name, value))
        assert outcome.code == 64 and "belongs to another race" in outcome.err, outcome.err
    outcome = sentinelnn.run(protection.args(output, "--images", "30"))
    assert outcome.code == 64 and "is there and no confirmation of this race" in outcome.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    foreign = tmp_path / "other.pth.race"
    foreign.mkdir()
    for name in ("race.txt", "thesis.txt"):
        (foreign / name).write_text("mine")
    for more in ([], ["--fresh"]):
        outcome = sentinelnn.run([*protection.args(tmp_path / "other.pth"), *more])
        assert outcome.code == 64 and "race.txt is there and not of protect" in outcome.err
    assert sorted(path.name for path in foreign.iterdir()) == ["race.txt", "thesis.txt"]
    mine = tmp_path / "net.pth.race" / "plain.pth"
    mine.parent.mkdir()
    mine.write_bytes(protection.checkpoint.read_bytes())
    args = protection.args(tmp_path / "net.pth", "--checkpoint", mine)
    outcome = sentinelnn.run(args)
    assert outcome.code == 64, outcome.err
    assert mine.read_bytes() == protection.checkpoint.read_bytes()
    outcome = sentinelnn.run(protection.args(tmp_path / "net.pth"))
    assert outcome.code == 64 and "is there and not of protect" in outcome.err, outcome.err


def test_a_network_called_as_a_recipe(sentinelnn, protection, tmp_path):
    """A network of no family is called by its file."""
    named = tmp_path / "plain.ts"
    start = ["export", "--checkpoint", protection.checkpoint, "--output", named]
    assert sentinelnn.run(start).code == 0
    args = protection.args(tmp_path / "out.pth", "--checkpoint", named, "--dataset", "synthetic")
    outcome = sentinelnn.run(["--model" if word == "--checkpoint" else word for word in args])
    assert outcome.code == 64, outcome.err
    assert "the network is called 'plain' as a recipe is" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["plain.ts"]


def fingerprint(path: Path) -> dict[str, str]:
    with h5py.File(path) as file:
        parts = {k: text(v) for k, v in file["provenance/fingerprint"].attrs.items()}
    return {name: parts[name] for name in ("images", "seed")}


def test_the_confirmation_has_other_images_and_faults(whole):
    output = whole[1]
    confirmed = fingerprint(Path(f"{output}.h5"))
    rounds = [fingerprint(path) for path in Path(f"{output}.race").glob("round*.h5")]
    assert rounds and all(own == rounds[0] for own in rounds)
    assert confirmed["images"] != rounds[0]["images"] and confirmed["seed"] != rounds[0]["seed"]


def test_without_training_images_half_of_the_test_images_decides(sentinelnn, protection, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "test_batch.bin").write_bytes((protection.data / "test_batch.bin").read_bytes())
    recipes = tmp_path / "recipes.toml"
    recipes.write_text(UNTRAINED.partition("[clipped]")[0])
    output = tmp_path / "net.pth"
    args = protection.args(output, "--data", data, "--recipes", recipes)
    outcome = sentinelnn.run(args)
    assert outcome.code in (0, 3), outcome.err
    assert "half of the test images decides" in outcome.err
    assert "round 1 of the race, trials 1 to 32, 2 recipes: coded, plain" in outcome.err
    answer = json.loads(Path(f"{output}.json").read_text())
    assert "first half" in answer["race_images"]
    assert "second half" in answer["confirmation"]["images"]
    halves = [fingerprint(p)["images"] for p in (Path(f"{output}.race/round1.h5"), Path(f"{output}.h5"))]
    assert halves[0] != halves[1]
    outcome = sentinelnn.run(protection.args(tmp_path / "own.pth", "--data", data))
    assert outcome.code == 65 and "recipe clipped needs training images" in outcome.err
