#!/usr/bin/python3
"""Accuracy over the bit error rate by how a network is stored. Prints Markdown tables.

  memory_forms.py --work W [--networks resnet20 vgg11_bn] [--forms TEXT ...] [--rates 1e-3 1e-2 ...]
                  [--images 256] [--trials 500] [--target weight|parameters] [--hours 12]

Every form is made by `harden` and injected by `inject`, which goes on where it was stopped: run the
same command again. --hours ends it after the campaign that runs then. Each cell is accuracy in %
with the half-width of its 95 % interval; one that begins at 0 is told by its end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import support

BOUNDED = ["--weight-bounds", "layer"]
FOLDED = ["--fold-batch-norm"]


@dataclass
class Form:
    """How weights and all else are stored; `more`: other options of `harden`; `trained`: the format
    that the weights were trained in first."""

    weights: str
    others: str = ""
    more: tuple[str, ...] = ()
    trained: str = ""

    @property
    def name(self) -> str:
        trained = self.trained and f"trained in {self.trained}"
        parts = [self.weights, trained, self.others and f"bias,scale={self.others}", *self.more]
        return " ".join(part for part in parts if part)

    def options(self) -> list[str]:
        stored = [f"weight={self.weights}"] if self.weights != "fp32" else []
        if self.others:
            classes = "bias,scale" if self.more else "bias,bn,scale"
            stored.append(f"{classes}={self.others}")
        return [word for rule in stored for word in ("--store", rule)] + list(self.more)


FORMS = [
    Form("fp32"),
    Form("fp32", more=tuple(BOUNDED)),
    *(Form(f"fp32+{code}") for code in ("mset", "cep:d3", "parity", "secded:64", "tmr:sign-exponent")),
    *(Form(form) for form in ("fp16", "bf16", "int8", "int8+secded:64", "int8+spw", "int7+zero-space")),
    Form("int4+bch:8,4"),
    Form("int5+bch:16,5"),
    Form("int6+bch:32,6"),
    Form("int4+bch:8,4", "fp16+repeat:7", tuple(FOLDED)),
    Form("int4+bch:8,4", "fp16+repeat:7", tuple(FOLDED), "int4"),
    Form("int5+bch:16,5", "fp16+repeat:15", tuple(FOLDED)),
    Form("int5+bch:16,5", "fp16+repeat:21", tuple(FOLDED)),
    Form("int6+bch:32,6", "fp16+repeat:31", tuple(FOLDED)),
]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=support.DATA, help="has cifar10/ and models/")
    parser.add_argument("--networks", nargs="+", default=["resnet20"])
    parser.add_argument("--forms", nargs="+", default=[""], help="only these, or those with such a text in their names")
    parser.add_argument("--rates", nargs="+", default="1e-6 1e-5 1e-4 1e-3 1e-2 5e-2 1e-1".split())
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--target", choices=("weight", "parameters"), default="weight")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--hours", type=float, default=12)
    return parser.parse_args()


def run(*args: object, ranks: int = 1) -> str:
    line = support.command(support.PROGRAM, ranks, *args)
    done = subprocess.run(line, env=os.environ | support.ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"memory_forms.py: {' '.join(map(str, line))} ended with {done.returncode}")
    return done.stdout


def weights_of(o: argparse.Namespace, network: str, form: Form) -> Path:
    """The checkpoint that is to be stored; trained once, by the recipe of docs/layouts.md."""
    plain = support.checkpoint(network, o.data, o.work, support.PROGRAM)
    path = o.work / f"{network}_{form.trained}.pth"
    if form.trained and not path.exists():
        run(
            *("train", "--model", network, "--dataset", "cifar10", "--checkpoint", plain),
            *("--data", o.data / "cifar10", "--store", f"weight={form.trained}"),
            *("--epochs", 3, "--lr", "1e-2", "--threads", 1, "--output", path),
        )
    return path if form.trained else plain


def stored(o: argparse.Namespace, network: str, form: Form) -> Path:
    """The checkpoint in this form, made once."""
    weights = weights_of(o, network, form)
    if not form.options():
        return weights
    path = o.work / f"{network}_{form.name.replace(' ', '_').replace('/', '-')}.pth"
    if not path.exists():
        named = [] if form.trained else ["--model", network, "--dataset", "cifar10"]
        run(
            *("harden", *named, "--checkpoint", weights, "--data", o.data / "cifar10"),
            *("--hardening-ratio", "0", "--clipping", "none", *form.options(), "--output", path),
        )
    return path


def selection(o: argparse.Namespace, network: str, path: Path, form: Form) -> list[object]:
    named = [] if form.options() else ["--model", network, "--dataset", "cifar10"]
    return [*named, "--checkpoint", path, "--data", o.data / "cifar10"]


def accuracy(result: str, point: int) -> str:
    rows = [
        row
        for row in json.loads(result)["estimates"]
        if row["point"] == point and row["quantity"] == "accuracy"
    ]
    return support.cell(rows[-1])


def row_of(o: argparse.Namespace, network: str, form: Form, plain_bytes: int) -> list[str]:
    path = stored(o, network, form)
    chosen = selection(o, network, path, form)
    fault_free = json.loads(run("evaluate", *chosen, "--json"))
    name = path.stem if form.options() else network
    output = o.work / f"{name}_{o.target}_{o.images}_{'_'.join(o.rates)}.h5"
    result = run(
        *("inject", *chosen, "--images", o.images, "--fault-target", o.target),
        *("--ber", *o.rates, "--repeat", o.trials, "--threads", "1", "--output", output, "--json"),
        ranks=o.ranks,
    )
    cells = [accuracy(result, point) for point in range(len(o.rates))]
    memory = f"{fault_free['memory_bytes'] / plain_bytes:.3f}"
    per_weight = f"{json.loads(result)['models'][0]['bits_per_weight']:.1f}"
    return [form.name, memory, per_weight, f"{100 * fault_free['top1']:.2f}", *cells]


def chosen(form: Form, texts: list[str]) -> bool:
    """A text that is a form's name stands for that form alone."""
    names = [own.name for own in FORMS]
    return any(text == form.name if text in names else text in form.name for text in texts)


def main() -> None:
    o = options()
    o.work.mkdir(parents=True, exist_ok=True)
    deadline = time.time() + 3600 * o.hours
    for network in o.networks:
        print(f"\n{network}, {o.images} images, {o.trials} trials, faults in {o.target}\n")
        print("| stored as | memory / fp32 | bits per weight | fault-free, all images | " + " | ".join(o.rates) + " |")
        print("|---" * (4 + len(o.rates)) + "|")
        plain = selection(o, network, stored(o, network, FORMS[0]), FORMS[0])
        plain_bytes = json.loads(run("evaluate", *plain, "--json"))["memory_bytes"]
        for form in FORMS:
            if chosen(form, o.forms) and time.time() < deadline:
                print("| " + " | ".join(row_of(o, network, form, plain_bytes)) + " |", flush=True)


if __name__ == "__main__":
    main()
