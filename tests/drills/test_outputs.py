"""Nothing that somebody else made is replaced by an output, and a result by nothing at all."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from drill import PROGRAM, Launcher, Outcome
from output_cases import OPTIONS, THERE, Cases, Option, can_mount


@pytest.fixture(scope="module")
def cases(sentinelnn, campaign, scratch) -> Cases:
    return Cases(sentinelnn, campaign.data, campaign.checkpoint, scratch / "outputs")


def expected(option: Option, there: str) -> tuple[int, str]:
    """By the rule, and by what single commands do beside it."""
    temporary = option.suffix in (".training", ".lock")
    own = there in (option.own, "link to own kind", f"link to {option.own}")
    if there == "read-only folder":
        return 71, "nothing made"
    if there == "dangling link" and option.own == "lock":
        return 64, "nothing made"
    if there in ("nothing", "dangling link"):
        return 0, "nothing made" if temporary else "made"
    if not own:
        return 64, "kept"
    if option.name.startswith("prune: "):  # nothing is fine-tuned
        return 0, "kept"
    another = option.own == "result" and "--fresh" not in option.name
    return (64, "kept") if another or temporary else (0, "replaced")


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_what_an_output_replaces(cases, option):
    wrong = []
    for there in THERE:
        if there == "link to own kind" and option.own == "lock":
            continue
        if there == "read-only folder" and not can_mount():
            continue
        happened = cases.happens(option, there)
        if happened != expected(option, there):
            wrong.append(f"{there}: {happened}, not {expected(option, there)}")
    assert not wrong, "\n".join(wrong)


def refused(outcome: Outcome, *names: str) -> None:
    assert outcome.code == 64, outcome.err
    assert len(outcome.messages) == 1, outcome.err
    for name in names:
        assert name in outcome.messages[0]


@pytest.fixture
def net(campaign, tmp_path) -> Path:
    return Path(shutil.copy(campaign.checkpoint, tmp_path / "net.pth"))


@pytest.fixture
def bounds(campaign) -> list[str | Path]:
    return ["--data", campaign.data, "--hardening-ratio", "0", "--clipping", "none",
            "--weight-bounds", "layer"]  # fmt: skip


def test_an_input_is_no_output(sentinelnn, campaign, net, bounds, tmp_path):
    before = net.read_bytes()
    link = tmp_path / "link.pth"
    link.symlink_to(net)
    hard = tmp_path / "hard.pth"
    hard.hardlink_to(net)
    for output in (net, link, hard):
        outcome = sentinelnn.run(["harden", "--checkpoint", net, *bounds, "--output", output])
        refused(outcome, str(output), "named twice")
    also = ["campaign", "--checkpoint", campaign.checkpoint, *bounds, "--images", "4"]
    also += ["--ber", "1e-6", "--also", f"other={net}", "--output", tmp_path / "r.h5"]
    refused(sentinelnn.run([*also, "--hardened-output", net]), str(net), "named twice")
    refused(sentinelnn.run([*also, "--hardened-output", tmp_path / "r.h5"]), "named twice")
    # Two names of a file that is not there yet, seen before anything is made.
    here = [*also[:-1], "r.h5", "--hardened-output", "./r.h5"]
    refused(sentinelnn.run(here, cwd=tmp_path), "named twice")
    assert not list(tmp_path.glob("r.h5*"))
    assert net.read_bytes() == before and link.is_symlink()


def test_a_stream_is_no_output(sentinelnn, campaign, bounds, tmp_path):
    printed = tmp_path / "printed"
    words = ["harden", "--checkpoint", campaign.checkpoint, *bounds, "--output", "/dev/stdout"]
    with printed.open("w") as stdout:
        command = [PROGRAM, *map(str, words)]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 64 and "is a stream" in done.stderr, done.stderr
    assert printed.read_text() == ""


def test_a_data_file_is_no_output(sentinelnn, campaign, bounds):
    images = campaign.data / "test_batch.bin"
    before = images.read_bytes()
    args = ["harden", "--checkpoint", campaign.checkpoint, *bounds, "--output", images]
    refused(sentinelnn.run(args), str(images))
    assert images.read_bytes() == before


def test_a_link_to_a_result_stays(sentinelnn, tiny, tmp_path):
    """The campaign goes on in the file that it leads to; locks and journals are beside that."""
    (tmp_path / "far").mkdir()
    link = tmp_path / "link.h5"
    link.symlink_to("far/result.h5")
    for trials in (2, 3):
        outcome = sentinelnn.run(tiny.args(link, trials=trials))
        assert outcome.code == 0, outcome.err
    assert outcome.stored_already == 2 * tiny.points
    assert link.is_symlink()
    assert [path.name for path in tmp_path.iterdir()] in (["far", "link.h5"], ["link.h5", "far"])
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["result.h5"]


# ---- names and files of a result at work -------------------------------------------------------


@pytest.mark.parametrize("ending", [".lock", ".journal.3", ".tmp.17"])
def test_working_names_are_no_outputs(sentinelnn, campaign, net, bounds, tiny, tmp_path, ending):
    output = tmp_path / f"a.h5{ending}"
    link = tmp_path / "link"
    link.symlink_to(output.name)
    network = ["--checkpoint", net]
    train = ["train", "--model", "resnet20", "--dataset", "synthetic", "--data", campaign.data]
    for args in (
        tiny.args(output),
        tiny.args(link),
        ["export", *network, "--output", output],
        ["harden", *network, *bounds, "--output", output],
        ["rank", *network, "--data", campaign.data, "--output", output],
        [*train, "--output", output],
        ["merge", "x.h5", "--output", output],
    ):
        refused(sentinelnn.run(args), str(output), "working files of results")
    assert not output.exists()


def test_files_called_like_working_files_are_kept(sentinelnn, tiny, tmp_path):
    output = tmp_path / "r.h5"
    for name in ("r.h5.journal.999999999", "r.h5.tmp.7", "r.h5.lock"):
        theirs = tmp_path / name
        theirs.write_text('{"note": "mine"}')
        refused(sentinelnn.run(tiny.args(output)), name)
        assert theirs.read_text() == '{"note": "mine"}'
        theirs.unlink()
    assert sentinelnn.run(tiny.args(output)).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["r.h5"]


# ---- synth -----------------------------------------------------------------------------------------


def synth(sentinelnn: Launcher, folder: Path, seed: int = 1) -> Outcome:
    return sentinelnn.run(["synth", "--train", "5", "--test", "1", "--seed", str(seed),
                           "--output", folder])  # fmt: skip


def test_synth_replaces_its_own_files(sentinelnn, tmp_path):
    folder = tmp_path / "images"
    for seed in (1, 2, 2):
        outcome = synth(sentinelnn, folder, seed)
        assert outcome.code == 0, outcome.err
    # As earlier versions left it: the same once more harms nothing.
    (folder / "synth.sha256").unlink()
    assert synth(sentinelnn, folder, 2).code == 0


def test_synth_keeps_the_files_of_others(sentinelnn, tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    images = folder / "data_batch_3.bin"
    images.write_bytes(b"\x01" * 3073)
    refused(synth(sentinelnn, folder), str(images))
    assert [path.name for path in folder.iterdir()] == [images.name]
    assert images.read_bytes() == b"\x01" * 3073
    refused(synth(sentinelnn, images), str(images))
    images.unlink()
    (folder / "synth.sha256").write_text("mine\n")
    refused(synth(sentinelnn, folder), "synth.sha256")
    assert (folder / "synth.sha256").read_text() == "mine\n"


# ---- files that a campaign finds where it would keep a network ------------------------------------


def with_other_weights(path: Path) -> None:
    """The record stays as it is, but weights have changed since."""
    changed = path.with_suffix(".changed")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for item in old.infolist():
            data = bytearray(old.read(item))
            if item.filename == "archive/data/0":
                data[:4] = b"\x00\x00\x80\x3f"
            new.writestr(item.filename, bytes(data))
    changed.replace(path)


def without_hash(path: Path) -> None:
    """As earlier versions wrote it."""
    import json

    changed = path.with_suffix(".changed")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename == "archive/sentinelnn.json":
                record = json.loads(data)
                del record["provenance"]["network_sha256"]
                data = json.dumps(record).encode()
            new.writestr(item.filename, data)
    changed.replace(path)


def test_a_network_left_behind_is_not_trusted(sentinelnn, campaign, bounds, tmp_path):
    path = tmp_path / "r.h5"
    made = tmp_path / "r.h5.bounded.pth"
    args = ["campaign", "--checkpoint", campaign.checkpoint, *bounds, "--images", "4"]
    args += ["--ber", "1e-6", "--repeat", "2", "--output", path]
    assert sentinelnn.run(args).code == 0
    right = made.read_bytes()
    path.unlink()
    for change in (with_other_weights, without_hash):
        change(made)
        path.unlink(missing_ok=True)
        outcome = sentinelnn.run(args)
        assert outcome.code == 0 and "it is made again" in outcome.err, outcome.err
        assert made.read_bytes() == right
    # Nothing is made again, nor said, where all is as it was.
    outcome = sentinelnn.run(args)
    assert outcome.code == 0 and "made again" not in outcome.err, outcome.err
    # A network without its result is none of an earlier version's campaign.
    other = tmp_path / "other.h5"
    left = Path(shutil.copy(made, f"{other}.hardened.pth"))
    outcome = sentinelnn.run([*args[:-1], other])
    assert outcome.code == 0, outcome.err
    assert left.read_bytes() == right and Path(f"{other}.bounded.pth").exists()
