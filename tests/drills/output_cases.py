"""Every option that names an output, with everything that may be there already. As a program it
prints what happens as a table in Markdown: python3 tests/drills/output_cases.py"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from drill import Launcher
from hostile_files import write_without_record

# Kinds of files; each is made once and copied.
FILES = ["result", "checkpoint", "ranking", "CSV ranking", "TorchScript", "training state", "text"]
FILES += ["PyTorch file"]
LINKS = ["link to own kind", "link to result", "link to text", "dangling link"]
OTHERS = ["FIFO", "socket", "/dev/full", "/dev/null", "folder", "read-only folder"]
THERE = ["nothing", *FILES, *LINKS, *OTHERS]


@dataclass
class Option:
    """@ stands for the output; the file that is looked at is the output with `suffix` behind."""

    name: str
    line: str
    own: str
    suffix: str = ""
    ends: str = ""  # of the output's name


NETWORK = "--data {data} --checkpoint {net} "
RANK = f"rank {NETWORK}"
CHANNELS = "--importance channel-FI --channel-layers conv1 --ranking-images 4 --channel-cap 2 "
FACTORS = f"vulnerability {NETWORK}--images 1 --sample 0.1 --layers fc "
HARDEN = f"harden {NETWORK}--hardening-ratio 0 --clipping none --weight-bounds layer --output @"
TRAINED = (
    f"harden {NETWORK}--hardening-ratio 0 --clipping smooth --bound-search fitact "
    "--bound-epochs 1 --calibration-images 4 --output @"
)
PRUNE = f"prune {NETWORK}--pruning-ratio 0.1 --finetune-epochs 0 --output @"
TRAIN = "train --model resnet20 --dataset synthetic --data {data} --epochs 1 --output @"
INJECT = f"inject {NETWORK}--images 4 --ber 1e-6 --repeat 2 --output "
CAMPAIGN = (
    f"campaign {NETWORK}--images 4 --ber 1e-6 --repeat 2 --hardening-ratio 0 --clipping none "
    "--weight-bounds layer "
)
OPTIONS = [
    Option("rank --output .h5", f"{RANK}--output @", "ranking"),
    Option("rank --output .csv", f"{RANK}--output @", "CSV ranking", ends=".csv"),
    Option("rank --channel-trials", f"{RANK}{CHANNELS}--channel-trials @", "result"),
    Option("vulnerability --output .h5", f"{FACTORS}--output @", "factors"),
    Option("vulnerability --output .csv", f"{FACTORS}--output @", "CSV factors", ends=".csv"),
    Option("harden --output", HARDEN, "checkpoint", ends=".pth"),
    Option("harden: OUTPUT.training", TRAINED, "training state", ".training", ".pth"),
    Option("prune --output", PRUNE, "checkpoint", ends=".pth"),
    Option("prune: OUTPUT.training", PRUNE, "training state", ".training", ".pth"),
    Option("train --output", TRAIN, "checkpoint", ends=".pth"),
    Option("train: OUTPUT.training", TRAIN, "training state", ".training", ".pth"),
    Option("export --output", "export --checkpoint {net} --output @", "TorchScript"),
    Option("inject --output", f"{INJECT}@", "result"),
    Option("inject --fresh --output", f"{INJECT}@ --fresh", "result"),
    Option("inject: OUTPUT.lock", f"{INJECT}@", "lock", ".lock"),
    Option("campaign --output", f"{CAMPAIGN}--output @", "result"),
    Option("campaign: OUTPUT.bounded.pth", f"{CAMPAIGN}--output @", "checkpoint", ".bounded.pth"),
    Option(
        "campaign --hardened-output",
        f"{CAMPAIGN}--output {{folder}}/c.h5 --hardened-output @",
        "checkpoint",
        ends=".pth",
    ),
    Option("merge --output", "merge {folder}/part.h5 --output @", "result"),
]


class Cases:
    """Starts each command with each thing in its way."""

    def __init__(self, sentinelnn: Launcher, data: Path, net: Path, scratch: Path) -> None:
        self.sentinelnn, self.data, self.net, self.scratch = sentinelnn, data, net, scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self.models = scratch / "models"
        self.models.mkdir()
        self.number = 0
        self._make_files()

    def model(self, kind: str) -> Path:
        return self.models / kind.replace(" ", "_")

    def _make_files(self) -> None:
        self._made(f"{INJECT}@".replace("1e-6", "1e-5"), "result")
        self._made(HARDEN, "checkpoint")
        self._made(f"{RANK}--output @", "ranking")
        self._made(f"{FACTORS}--output @", "factors")
        csv = self.models / "a.csv"
        for line, kind in ((RANK, "CSV ranking"), (FACTORS, "CSV factors")):
            self._run(f"{line}--output @", csv)
            csv.rename(self.model(kind))
        self._made("export --checkpoint {net} --output @", "TorchScript")
        self.model("text").write_text("Nobody's but mine.\n")
        _write_state(self.net, self.model("training state"))
        write_without_record(self.net, self.model("PyTorch file"))

    def _made(self, line: str, kind: str) -> None:
        outcome = self._run(line, self.model(kind))
        assert outcome.code == 0, outcome.err
        for path in self.models.glob(self.model(kind).name + ".*"):
            path.unlink()

    def _run(self, line: str, output: Path, launcher: Launcher | None = None):
        words = line.format(data=self.data, net=self.net, folder=output.parent).split()
        args = [word.replace("@", str(output)) for word in words]
        return (launcher or self.sentinelnn).run(args, cwd=output.parent)

    def put(self, there: str, path: Path, own: str) -> None:
        """Makes what is in the way."""
        target = path.with_name("target")
        if there in FILES:
            shutil.copy(self.model(there), path)
        elif there.startswith("link to"):
            kind = own if there == "link to own kind" else there.removeprefix("link to ")
            shutil.copy(self.model(kind), target)
            path.symlink_to("target")
        elif there == "dangling link":
            path.symlink_to("target")
        elif there == "FIFO":
            os.mkfifo(path)
        elif there == "socket":
            _bind(path)
        elif there.startswith("/dev/"):
            path.symlink_to(there)
        elif there == "folder":
            path.mkdir()

    def happens(self, option: Option, there: str) -> tuple[int, str]:
        """Exit code, and what became of what was there."""
        self.number += 1
        folder = self.scratch / str(self.number)
        folder.mkdir()
        if option.name.startswith("merge"):
            outcome = self._run(f"{INJECT}@ --trial-range 0:1", folder / "part.h5")
            assert outcome.code == 0, outcome.err
        output = folder / f"out{option.ends or '.h5'}"
        looked_at = Path(f"{output}{option.suffix}")
        self.put(there, looked_at, option.own)
        before = state(looked_at)
        launcher = read_only(self.sentinelnn, folder) if there == "read-only folder" else None
        code = self._run(option.line, output, launcher).code
        after = state(looked_at)
        shutil.rmtree(folder)
        if before == after:
            return code, "kept" if before.inode else "nothing made"
        same = (before.link, before.kind) == (after.link, after.kind)
        if not before.inode and before.link == after.link:
            return code, "made"
        return code, "replaced" if same and after.kind == stat.S_IFREG else "GONE"


class State(NamedTuple):
    """Describes a path; inode 0: there is nothing."""

    link: str
    kind: int
    inode: int
    content: bytes


def state(path: Path) -> State:
    link = os.readlink(path) if path.is_symlink() else ""
    if not path.exists():
        return State(link, 0, 0, b"")
    found = path.stat()
    content = path.read_bytes() if path.is_file() else b""
    return State(link, stat.S_IFMT(found.st_mode), found.st_ino, content)


def _bind(path: Path) -> None:
    """The name of a socket may have 107 bytes only."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(before)


def _write_state(checkpoint: Path, path: Path) -> None:
    """The state of another training."""
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            record = item.filename == "archive/sentinelnn.json"
            text = b'{"best_correct":1,"epochs":[],"fingerprint":"x","training":1}'
            new.writestr(item.filename, text if record else old.read(item))


def can_mount() -> bool:
    probe = ["unshare", "-m", "mount", "--bind", "/tmp", "/tmp"]
    return os.geteuid() == 0 and subprocess.run(probe, capture_output=True).returncode == 0


def read_only(sentinelnn: Launcher, folder: Path) -> Launcher:
    """Root may write into any folder, but not on a read-only mount."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        return sentinelnn
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    return sentinelnn.within("unshare", "-m", "sh", "-c", script, str(folder))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        sentinelnn = Launcher(scratch / "mpi")
        data, net = scratch / "data", scratch / "net.pth"
        sentinelnn.run(["synth", "--output", data, "--train", "200", "--test", "100"])
        sentinelnn.run(
            ["train", "--model", "resnet20", "--dataset", "synthetic", "--data", data]
            + ["--epochs", "1", "--output", net]
        )
        cases = Cases(sentinelnn, data, net, scratch / "cases")
        print("| output | " + " | ".join(THERE) + " |")
        print("|---" * (1 + len(THERE)) + "|")
        for option in OPTIONS:
            cells = []
            for there in THERE:
                if there == "link to own kind" and option.own == "lock":
                    cells.append("")
                    continue
                code, became = cases.happens(option, there)
                cells.append(f"{code} {became}")
            print(f"| `{option.name}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
