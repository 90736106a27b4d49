"""Whatever is wrong with what the program is given: the right exit code and one line that names
the file or option."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import struct
import subprocess
import time
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import hostile_files
import pytest
from bad_lines import CHECKPOINTS, DATA, EVALUATE, ONE_BER, OUTPUTS, USAGE
from drill import Launcher, Outcome, Result, ended, kill, sanitized, wait_until


def check_error(outcome: Outcome, code: int, *names: str) -> None:
    assert outcome.code == code, outcome.err + outcome.out
    assert len(outcome.unlogged) == 1, f"one line is wanted, not:\n{outcome.err}"
    assert outcome.messages == outcome.unlogged
    for name in names:
        assert name in outcome.messages[0], f"{name!r} is not named in:\n{outcome.err}"
    assert outcome.out == ""


@dataclass
class Inputs:
    folder: Path
    marker: Path  # appears if a pickle's code runs

    def fill(self, text: str) -> str:
        return text.replace("@", f"{self.folder}/")


@pytest.fixture(scope="session")
def inputs(campaign, sentinelnn, scratch) -> Inputs:
    """Everything that the tables below name as @name."""
    folder = scratch / "inputs"
    folder.mkdir()
    shutil.copy(campaign.checkpoint, folder / "net.pth")
    shutil.copytree(campaign.data, folder / "data")
    marker = folder / "a_pickle_ran_code"
    hostile_files.write_pickles(folder, marker)
    hostile_files.write_other_files(folder, campaign.checkpoint)
    hostile_files.write_folders(folder)
    hostile_files.write_jobs(folder)
    harden = ["harden", "--checkpoint", folder / "net.pth", "--data", folder / "data"]
    harden += ["--calibration-images", "8", "--output", folder / "hardened.pth"]
    rank = ["rank", "--checkpoint", folder / "hardened.pth", "--output", folder / "other.h5"]
    for args in (harden, rank):
        outcome = sentinelnn.run(args)
        assert outcome.code == 0, outcome.err
    return Inputs(folder, marker)


@pytest.fixture(scope="session")
def outcomes(sentinelnn, inputs) -> Iterator[dict[str, Future[Outcome]]]:
    """Of the tables' command lines, run two at a time."""
    pool = ThreadPoolExecutor(2)
    lines = [line for line, _ in CHECKPOINTS + DATA + USAGE + OUTPUTS]
    yield {line: pool.submit(run, sentinelnn, inputs, line) for line in lines}
    pool.shutdown(cancel_futures=True)


def run(sentinelnn: Launcher, inputs: Inputs, line: str, ranks: int = 0) -> Outcome:
    line = line.replace("@r.h5", f"@r{zlib.crc32(line.encode())}.h5")
    return sentinelnn.run([inputs.fill(word) for word in line.split()], ranks)


@pytest.mark.parametrize(("line", "name"), CHECKPOINTS + DATA)
def test_bad_files(outcomes, inputs, line, name):
    check_error(outcomes[line].result(), 65, inputs.fill(name))
    assert not inputs.marker.exists(), "a pickle ran code"


@pytest.mark.parametrize(("line", "name"), USAGE)
def test_bad_usage(outcomes, inputs, line, name):
    check_error(outcomes[line].result(), 64, inputs.fill(name))


@pytest.mark.parametrize(("line", "name"), OUTPUTS)
def test_bad_outputs(outcomes, inputs, line, name):
    check_error(outcomes[line].result(), 71, inputs.fill(name))


def test_no_result_was_begun(outcomes, inputs):
    for outcome in outcomes.values():
        outcome.result()
    assert not list(inputs.folder.glob("r*.h5*"))


@pytest.mark.parametrize("name", ["text.pth", "empty.pth", "plain.pth", "numbers.h5"])
@pytest.mark.parametrize("fresh", ["", " --fresh"])
def test_an_output_that_is_no_result(sentinelnn, inputs, name, fresh):
    """Somebody's file is never replaced, with or without --fresh."""
    before = (inputs.folder / name).read_bytes()
    check_error(run(sentinelnn, inputs, f"{ONE_BER} --output @{name}{fresh}"), 64, name)
    assert (inputs.folder / name).read_bytes() == before


def test_the_wrong_architecture(sentinelnn, inputs):
    torch = pytest.importorskip("torch")
    hostile_files.write_vgg(inputs.folder / "vgg.pth", torch)
    line = EVALUATE + "--checkpoint @vgg.pth --model "
    right = run(sentinelnn, inputs, line + "vgg11_bn")
    assert right.code == 0, right.err
    wrong = run(sentinelnn, inputs, line + "resnet20")
    check_error(wrong, 65, inputs.fill("@vgg.pth"), "resnet20", "conv1.weight", "vgg11_bn")


@pytest.mark.parametrize("bad", ["@missing.pth", "@cut_half.pth", "@call_zip.pth"])
@pytest.mark.parametrize(
    "command", ["evaluate --dataset synthetic", "inject --ber 1e-6 --output @r.h5"]
)
def test_two_ranks_one_message(sentinelnn, inputs, bad, command):
    line = f"{command} --data @data --model resnet20 --checkpoint {bad}"
    outcome = run(sentinelnn, inputs, line, 2)
    assert outcome.code == 65
    assert len(outcome.messages) == 1
    assert inputs.fill(bad) in outcome.messages[0]


def test_two_ranks_one_usage_message(sentinelnn, inputs):
    for line in ("evaluate --banana", ONE_BER + "--output @r.h5 --hardening-ratio 2", "fly"):
        outcome = run(sentinelnn, inputs, line, 2)
        assert outcome.code == 64
        assert len(outcome.messages) == 1


# ---- bits flipped in a checkpoint ----------------------------------------------------------------


def content(sentinelnn: Launcher, checkpoint: Path, csv: Path) -> Outcome:
    """`rank` reads every tensor; its scores and those of `inspect` say what was read."""
    outcome = sentinelnn.run(["rank", "--checkpoint", checkpoint, "--output", csv])
    if outcome.code == 0:
        outcome.out = csv.read_text()
    return outcome


def flip_bit(good: bytes, offset: int, bit: int, to: Path) -> None:
    bad = bytearray(good)
    bad[offset] ^= 1 << bit
    to.write_bytes(bad)


def entry_data(path: Path) -> list[tuple[int, int]]:
    """(offset, size) of what each entry of the archive holds."""
    spans = []
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            file.seek(entry.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            spans.append((entry.header_offset + 30 + name + extra, entry.file_size))
    return spans


def test_flipped_bits_in_a_checkpoint(sentinelnn, inputs, tmp_path):
    seed = int(os.environ.get("SENTINELNN_DRILL_SEED", time.time_ns() % 2**32))
    print(f"SENTINELNN_DRILL_SEED={seed}")
    draw = random.Random(seed)
    source = inputs.folder / "net.pth"
    good = source.read_bytes()
    right = content(sentinelnn, source, tmp_path / "right.csv")
    assert right.code == 0, right.err
    spans = [span for span in entry_data(source) if span[1] > 0]
    offsets = [spans[0][0], spans[-1][0] + spans[-1][1] - 1]  # first and last byte held
    offsets += [start + draw.randrange(size) for start, size in draw.sample(spans, 6)]
    # Around the data some bits carry nothing (times, padding): an error or no difference at all.
    heads = [n for start, _ in spans[:3] for n in range(start - 40, start)]
    directory = range(good.rindex(b"PK\x05\x06") - 400, len(good))
    around = [0, 2, len(good) - 1, *draw.sample(heads, 5), *draw.sample(directory, 5)]
    bits = {offset: draw.randrange(8) for offset in offsets + around}

    def damaged(offset: int) -> Outcome:
        bad = tmp_path / f"bad{offset}.pth"
        flip_bit(good, offset, bits[offset], bad)
        return content(sentinelnn, bad, tmp_path / f"bad{offset}.csv")

    with ThreadPoolExecutor(2) as pool:
        outcomes = dict(zip(bits, pool.map(damaged, bits)))
    for offset, outcome in outcomes.items():
        if outcome.code == 0:
            assert offset in around, f"byte {offset}: a checksum should have failed"
            assert outcome.out == right.out, f"byte {offset} changed what was read"
        else:
            check_error(outcome, 65, str(tmp_path / f"bad{offset}.pth"))


@pytest.mark.parametrize("damage", ["name", "count"])
def test_a_lost_record(sentinelnn, inputs, tmp_path, damage):
    """Names and numbers in the zip directory are under no checksum, but each is there twice. A
    protected network whose record goes unseen would be read with other kinds of protection."""
    good = (inputs.folder / "net.pth").read_bytes()
    name = good.rindex(b"sentinelnn.json") + 3
    count = good.rindex(b"PK\x05\x06") + 10
    bad = tmp_path / "bad.pth"
    if damage == "name":
        flip_bit(good, name, 1, bad)
    else:
        fewer = int.from_bytes(good[count : count + 2], "little") - 1
        bad.write_bytes(good[:count] + fewer.to_bytes(2, "little") + good[count + 2 :])
    told = ["--model", "resnet20", "--dataset", "synthetic"]
    check_error(sentinelnn.run(["rank", *told, "--checkpoint", bad]), 65, str(bad))


@pytest.fixture(scope="session")
def little(sentinelnn, inputs) -> int:
    """Address space for the program, but for few of the images in @many; another LibTorch maps
    much more."""
    if sanitized():
        pytest.skip("AddressSanitizer reserves all of the address space")
    made = run(sentinelnn, inputs, "synth --output @many --train 8 --test 8000")
    assert made.code == 0, made.err
    process = sentinelnn.start(["bench", "--trials", "10"])
    peak = 0
    while process.poll() is None:
        found = re.search(r"VmPeak:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        peak = int(found.group(1)) if found else peak  # none of a process that ends
        time.sleep(0.05)
    assert ended(process).code == 0 and peak
    return (peak << 10) + (256 << 20)


@pytest.mark.parametrize("ranks", [0, 2])
@pytest.mark.parametrize(
    "line",
    ["evaluate --batch-size 8000", "inject --cache-budget 99 --ber 1e-6 --repeat 2 --output @m.h5"],
)
def test_too_little_memory(sentinelnn, inputs, little, line, ranks):
    line += " --checkpoint @net.pth --data @many --threads 1"
    outcome = run(sentinelnn.within("prlimit", f"--as={little}"), inputs, line, ranks)
    assert outcome.code == 71, outcome.err
    for message in outcome.messages:
        assert message.startswith("sentinelnn: out of memory; use fewer images")
    assert outcome.messages


# ---- results that belong to somebody else --------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [("--seed 2", "seed: 1 -> 2"), ("--ber 2e-6", "1e-06"), ("--images 5", "images")]
    + [("--hardening-ratio 0.3", "hardened"), ("--engine reference", "arithmetic")],
)
def test_another_job_on_the_same_result(sentinelnn, inputs, first_result, change, named):
    words = dict(zip(*[iter(first_result.split()[1:])] * 2))
    words |= dict([change.split()])
    line = "campaign " + " ".join(f"{key} {value}" for key, value in words.items())
    before = (inputs.folder / "first.h5").read_bytes()
    check_error(run(sentinelnn, inputs, line), 64, inputs.fill("@first.h5"), named, "--fresh")
    assert (inputs.folder / "first.h5").read_bytes() == before


@pytest.fixture(scope="session")
def first_result(sentinelnn, inputs) -> str:
    line = ONE_BER + "--seed 1 --hardening-ratio 0.1 --engine fast --output @first.h5"
    outcome = run(sentinelnn, inputs, line)
    assert outcome.code == 0, outcome.err
    return line


def test_fresh_starts_over(sentinelnn, inputs, first_result):
    line = first_result.replace("--seed 1", "--seed 2").replace("first", "second")
    shutil.copy(inputs.folder / "first.h5", inputs.folder / "second.h5")
    outcome = run(sentinelnn, inputs, line + " --fresh")
    assert outcome.code == 0, outcome.err
    assert "--fresh" in outcome.err, "throwing a result away is worth a line"
    assert outcome.stored_already == 0
    fresh, old = (Result.read(inputs.folder / f"{n}.h5") for n in ("second", "first"))
    assert fresh.complete and fresh.keys() == old.keys()
    assert fresh.sites.tolist() != old.sites.tolist()


def test_a_hardened_checkpoint(sentinelnn, inputs):
    made = run(sentinelnn, inputs, "harden --checkpoint @net.pth --data @data --output @hard.pth")
    assert made.code == 0, made.err
    common = "--data @data --checkpoint @hard.pth --ber 1e-6 --images 4 --repeat 2 --output "
    refused = run(sentinelnn, inputs, "campaign " + common + "@c.h5")
    check_error(refused, 64, inputs.fill("@hard.pth"), "inject")
    assert not (inputs.folder / "c.h5").exists()
    accepted = run(sentinelnn, inputs, "inject " + common + "@i.h5")
    assert accepted.code == 0, accepted.err
    result = Result.read(inputs.folder / "i.h5")
    result.check_whole()
    assert "models/hardened/tensors" in result.fixed


# ---- a result in use, a full disk ----------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def contest(sentinelnn, campaign, scratch):
    """Starts two processes on one result before all tests: the second waits a minute."""
    path = scratch / "contest.h5"
    holder = sentinelnn.start(campaign.args(path))
    assert wait_until(lambda: list(path.parent.glob("contest.h5.journal.*")) != [])
    os.kill(holder.pid, signal.SIGSTOP)
    second = sentinelnn.start(campaign.args(path))
    yield path, holder, second, time.monotonic()
    for process in (second, holder):
        kill(process.pid)
        ended(process)


def test_a_full_disk(sentinelnn, campaign, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        fill_and_resume(sentinelnn, campaign, folder)
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def fill_and_resume(sentinelnn, campaign, folder: Path) -> None:
    whole, stored = folder.parent / "whole.h5", 0
    path, ballast = folder / "result.h5", folder / "ballast"
    assert sentinelnn.run(campaign.args(whole)).code == 0
    network, rows = (p.stat().st_size for p in (Path(f"{whole}.hardened.pth"), whole))
    # At the end there are the network, the old result, the new one and the journals: the disk is
    # full sooner or later.
    for room in (network // 2, network + 0.3 * rows, network + 1.5 * rows, network + 2 * rows):
        space, used = os.statvfs(folder), sum(p.stat().st_size for p in folder.iterdir())
        left = max(0, int(room) - used)
        ballast.write_bytes(b"x" * (space.f_bavail * space.f_frsize - left))
        outcome = sentinelnn.run(campaign.args(path))
        assert outcome.code == 71, outcome.err
        assert len(outcome.messages) == len(outcome.unlogged) == 1, outcome.err
        assert str(folder) in outcome.messages[0] and "space" in outcome.messages[0]
        assert outcome.stored_already >= stored, "acknowledged rows are lost"
        stored = outcome.stored_already
        if path.exists():
            Result.read(path).check_whole()
        ballast.unlink()
    outcome = sentinelnn.run(campaign.args(path))
    assert outcome.code == 0, outcome.err
    assert {p.name for p in folder.iterdir()} == {"result.h5", "result.h5.hardened.pth"}
    Result.read(path).check_same(Result.read(whole))


def test_two_processes_on_one_result(contest, undisturbed):
    path, holder, second, begin = contest
    outcome = ended(second, 120)
    check_error(outcome, 71, str(path), f"process {holder.pid} on host")
    assert time.monotonic() - begin > 55
    os.kill(holder.pid, signal.SIGCONT)
    first = ended(holder)
    assert first.code == 0, first.err
    Result.read(path).check_same(undisturbed.result)
    assert not re.search("error", first.err)
