#!/usr/bin/python3
"""Hashes of what campaigns gave before a change, and whether the program still gives the same.

  record.py write FILE             makes FILE with the program of SENTINELNN
  record.py check FILE             exit code 1 where the program gives something else
  record.py write|check FILE --only TEXT    the cells with this text in their names

A cell is a network, the faults and the plan of its trials. It has up to five hashes:
  drawn      points, trials and faults as drawn: (point, id, stratum, sites)
  images     of faults in outputs of nodes: which images they hit, and how
  outcomes   what the faults did: words before and after, images masked, critical ..., audits
  estimates  designs, estimates and their intervals
  network    the records of the checkpoint that was made
Draws of plain networks are the same on every machine, but for plans that look at outcomes. All else
depends on the rounding of convolutions: it is compared where processor, instruction set and LibTorch
are those of FILE.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("SENTINELNN", str(ROOT / "build/release/sentinelnn"))

DRAWN = {
    "points": ("id", "estimand", "fault_model", "ber", "trials", "models"),
    "trials": ("point", "id", "model", "stage", "stratum", "probability", "block", "n_faults"),
    "faults/sites": ("kind", "tensor", "element", "word_bits", "bit"),
    "faults/offsets": (),
}
COUNTS = ("images", "correct", "top5", "masked", "sdc_noncritical", "sdc_critical", "due")
IMAGES = {"points": ("target", "lifetime"), "faults/sites": ("image", "effect", "length")}
OUTCOMES = {
    "trials": ("point", "id", "model", "first_node", *COUNTS, "correct_argmax"),
    "faults/sites": ("before", "after"),
    "audit": ("point", "id", "model", "mismatches", *COUNTS[1:]),
    "golden/unprotected/predictions": (),
}
ESTIMATES = {
    "design/strata": ("point", "stratum", "weight"),
    "design/plans": ("point", "sampling", "stop_rule", "half_width", "first", "used", "reached"),
    "design/rounds": ("point", "round", "stage", "first", "trials", "stratum", "probability")
    + ("allocated",),
    "estimates": ("point", "model", "against", "quantity", "estimate", "lower", "upper", "trials")
    + ("confidence", "method"),
}

FAULTS = {
    "single": "--single-bit --repeat 6",
    "ber": "--ber 5e-6 1e-4 --repeat 4",
    "exact": "--fault-count exact:40 --repeat 4",
    "floor": "--ber 5e-6 --fault-count per-layer-floor --repeat 4",
    "blocks": "--single-bit --repeat 8 --images-per-trial 3",
    "single_strata": "--single-bit --sampling stratified --repeat 72",
    "ber_strata": "--ber 1e-7 --sampling stratified --repeat 420",
    "half_width": "--single-bit --half-width 0.2 --repeat 400",
}
# Faults in outputs of nodes: each image its own, or permanent ones.
OUTPUT_FAULTS = {
    "neurons": "--fault-target activation --single-bit --repeat 4",
    "neurons_ber": "--fault-target activation --ber 1e-6 1e-4 --repeat 3",
    "neurons_blocks": "--fault-target activation --single-bit --repeat 8 --images-per-trial 3",
    "neurons_stuck": "--fault-target activation --fault-model stuck-at-1 --ber 1e-5 --repeat 3",
    "permanent": "--fault-target activation --fault-lifetime permanent --single-bit --repeat 6",
    "permanent_ber": "--fault-target activation --fault-lifetime permanent --ber 1e-5 --repeat 4",
    "post": "--fault-target post --single-bit --repeat 4",
    "post_permanent": "--fault-target post --fault-lifetime permanent --single-bit --repeat 6",
    "neurons_list": "--faults neurons.csv",
}
LIST = """trial,tensor,element,bit,image,effect,length
0,conv1,1234,30,0,flip,1
0,conv1,1234,30,5,flip,1
0,layer3.0.conv1,77,27,1,flip,3
1,layer1.0.conv2,1000,23,-1,stuck-at-1,1
2,layer2.0.relu_1,55,,2,random-word,1
2,layer2.0.downsample.0,8,,-1,value:1e4,1
3,fc,3,30,-1,flip,1
"""
ADAPTIVE = ("single_strata", "ber_strata", "half_width")
# Options of `harden`; each network is injected beside the one it was made from.
PROTECTED = {
    "range": "--hardening-ratio 0.1 --selection own --clipping none",
    "min": "--hardening-ratio 0.3 --selection group --correction min --clipping none",
    "ranger": "--hardening-ratio 0 --clipping ranger",
    "clamp": "--hardening-ratio 0 --clipping ranger-clamp --bounds channel",
    "bounded_layer": "--hardening-ratio 0 --clipping none --weight-bounds layer",
    "bounded_channel": "--hardening-ratio 0 --clipping none --weight-bounds channel",
    "all": "--hardening-ratio 0.1 --clipping ranger --weight-bounds channel",
}
# Depthwise; grouped with gates; concat; layers with bias. The first has all protections and faults.
FAMILIES = ("resnet20", "mobilenetv2_x0_5", "regnet_y_400mf", "densenet121", "vgg11_bn")
FEW = ("single", "ber", "single_strata")  # of the others
POINTWISE = FAMILIES[1]  # most of its convolutions are 1 x 1
FEW_OUTPUTS = ("neurons", "neurons_ber", "permanent", "post_permanent")


ALSO = ["campaign", "--hardening-ratio", "0", "--clipping", "none"]
PRUNED = (
    "campaign --pruning-ratio 0.1 --finetune-epochs 0 --calibration-images 16 --all-combinations"
).split()


@dataclass
class Cell:
    name: str
    args: list[str]
    faults: str
    others: tuple[str, ...] = ()  # networks that are injected beside it


def cells() -> Iterator[Cell]:
    first = FAMILIES[0]
    for faults in FAULTS:
        yield Cell(f"{first}/plain/{faults}", ["inject"], faults)
        for protection in ("range",) if faults in ADAPTIVE else PROTECTED:
            yield Cell(f"{first}/{protection}/{faults}", ALSO, faults, (protection,))
    for faults in OUTPUT_FAULTS:
        yield Cell(f"{first}/plain/{faults}", ["inject"], faults)
        yield Cell(f"{first}/all/{faults}", ALSO, faults, ("all",))
    for faults in ("single", "ber", "neurons", "permanent_ber", "post"):
        yield Cell(f"{first}/pruned/{faults}", PRUNED, faults)
    for family in FAMILIES[1:]:
        for faults in FEW + FEW_OUTPUTS if family == POINTWISE else FEW:
            yield Cell(f"{family}/all/{faults}", ALSO, faults, ("all",))


class Workplace:
    """Networks and results, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "neurons.csv").write_text(LIST)
        self.run("synth", "--output", "data", "--train", "96", "--test", "12")

    def run(self, *words: str) -> None:
        done = subprocess.run(
            [PROGRAM, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if done.returncode != 0:
            sys.exit(f"record.py: {' '.join(words)}: {done.stderr}")

    def network(self, family: str, made: str = "") -> str:
        """Its file, made once."""
        name = f"{family}{'_' * bool(made)}{made}.pth"
        if (self.folder / name).exists():
            return name
        out = ["--output", name, "--data", "data"]
        if not made:
            self.run(
                *("train", "--model", family, "--dataset", "synthetic", "--epochs", "1"),
                *("--batch-size", "16", "--threads", "1", *out),
            )
        else:
            original = ["--checkpoint", self.network(family), "--calibration-images", "16"]
            self.run("harden", *original, *PROTECTED[made].split(), *out)
        return name

    def result(self, cell: Cell) -> Path:
        family = cell.name.split("/")[0]
        path = self.folder / "result.h5"
        also = [f"{made}={self.network(family, made)}" for made in cell.others]
        self.run(
            *(*cell.args, "--checkpoint", self.network(family), "--data", "data", "--images", "8"),
            *(FAULTS | OUTPUT_FAULTS)[cell.faults].split(),
            *("--audit", "0.5", "--batch-size", "5", "--fresh", "--faults-stored", "yes"),
            *(("--also", *also) if also else ()),
            *("--output", str(path)),
        )
        return path

    def ranking(self) -> Path:
        self.run(
            *("rank", "--checkpoint", self.network(FAMILIES[0]), "--data", "data"),
            *("--threads", "1", "--importance", "channel-FI"),
            *("--channel-layers", "conv1", "layer2.0.conv1"),
            *("--ranking-images", "8", "--channel-cap", "6", "--channel-audit", "0.2"),
            *("--output", "ranking.h5", "--channel-fresh"),
        )
        return self.folder / "ranking.h5.trials.h5"


def hash_of(file: h5py.File, tables: dict[str, tuple[str, ...]]) -> str:
    """Rows of a result are in the order of their points and numbers. No columns: plain numbers."""
    digest = hashlib.sha256()
    for table, columns in tables.items():
        if table not in file:  # trials of channel-FI have no network of this name
            continue
        rows = file[table][:]
        for column in columns or ("",):
            digest.update(f"{table}/{column}:{len(rows)}\n".encode())
            values = rows[column] if column else rows
            text = values.dtype.kind == "S"
            digest.update(b"\n".join(values) if text else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


def hashes_of(path: Path, outputs: bool = False) -> dict[str, str]:
    with h5py.File(path) as file:
        parts = {"drawn": DRAWN, "outcomes": OUTCOMES, "estimates": ESTIMATES}
        parts |= {"images": IMAGES} if outputs else {}
        return {part: hash_of(file, tables) for part, tables in parts.items()}


def hash_of_network(path: Path) -> str:
    """All records of a checkpoint, without the program and files that its description names."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("sentinelnn.json"):
                description = json.loads(content)
                description.pop("provenance")
                content = json.dumps(description, sort_keys=True).encode()
            digest.update(f"{name}:{len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def machine_of(path: Path) -> dict[str, str]:
    with h5py.File(path) as file:
        info = json.loads(file["provenance/sessions"][0]["info"])
        machine = {key: info[key] for key in ("instruction_set", "libtorch")}
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return machine | {"processor": models[0] if models else ""}


def record(only: str) -> dict:
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="record") as folder:
        place = Workplace(Path(folder))
        path = place.folder
        for cell in cells():
            if only in cell.name:
                path = place.result(cell)
                found[cell.name] = hashes_of(path, cell.faults in OUTPUT_FAULTS)
        if only in "channel-FI":
            path = place.ranking()
            found["channel-FI"] = hashes_of(path)
        if path == place.folder:
            sys.exit(f"record.py: no cell has {only} in its name")
        for network in sorted(place.folder.glob("*.pth")):
            found[network.name] = {"network": hash_of_network(network)}
        return {"machine": machine_of(path), "cells": found}


def differences(before: dict, now: dict, whole: bool) -> Iterator[str]:
    same_machine = before["machine"] == now["machine"]
    for name in before["cells"].keys() - now["cells"].keys() if whole else ():
        yield f"{name}: in the record alone"
    for name, hashes in now["cells"].items():
        known = before["cells"].get(name)
        if known is None:
            yield f"{name}: not in the record"
            continue
        for part, value in hashes.items():
            drawn = part in ("drawn", "images")
            portable = drawn and "/plain/" in name and not name.endswith(ADAPTIVE)
            if (same_machine or portable) and known.get(part) != value:
                yield f"{name}: {part} {known.get(part)} -> {value}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["write", "check"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    now = record(args.only)
    if args.what == "write":
        args.file.write_text(json.dumps(now, indent=1) + "\n")
        return
    before = json.loads(args.file.read_text())
    changed = list(differences(before, now, whole=not args.only))
    same = before["machine"] == now["machine"]
    print(f"{len(now['cells'])} cells and networks, {len(changed)} differences")
    print("all hashes compared" if same else f"draws compared only: {before['machine']} there")
    print("\n".join(changed))
    sys.exit(1 if changed else 0)


if __name__ == "__main__":
    main()
