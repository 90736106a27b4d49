"""Fault lists: words of processing elements; estimates of listed faults without intervals."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import fault_lists
import figures
import h5py
import numpy as np
import pytest
import summaries
from cli import run
from conftest import LAYERS, Sample, outcome
from fault_lists import Weight, elements_of, processing_elements
from report import render, sources_of
from results import Result


def test_every_word_is_in_one_processing_element():
    weight = Weight("conv.weight", outputs=5, inputs=18, bits=32)
    held = [elements_of(weight, i, j, 4, 3) for i in range(4) for j in range(3)]
    assert sorted(np.concatenate(held)) == list(range(5 * 18))
    matrix = np.arange(5 * 18).reshape(5, 18)  # [m, k]
    assert held[1 * 3 + 2].tolist() == matrix[2::3, 1::4].ravel().tolist()
    # W[k, m] with 18 rows in an array of 20: the last two rows of elements hold nothing.
    assert len(elements_of(weight, 19, 0, 20, 3)) == 0


def test_a_trial_for_each_processing_element():
    weights = [Weight("a.weight", 2, 3, 32), Weight("b.weight", 1, 2, 32)]
    faults = list(processing_elements(weights, 2, 2, 30, "flip"))
    assert [fault[:3] for fault in faults if fault.trial == 0] == [
        *((0, "a.weight", 0), (0, "a.weight", 2), (0, "b.weight", 0)),
    ]
    assert {fault.trial for fault in faults} == {0, 1, 2, 3}
    assert len(faults) == 2 * 3 + 2
    assert {fault[3:] for fault in faults} == {(30, "flip")}


@pytest.fixture
def result(tmp_path) -> Path:
    path = Sample(trials=[outcome(0, t, m, 90, 0) for t in range(4) for m in range(2)]).write(
        tmp_path / "r.h5"
    )
    layers = {"layers": {layer: {"out_channels": 5} for layer in LAYERS}}
    with h5py.File(path, "r+") as file:
        file["models/unprotected"].attrs["structure"] = json.dumps(layers)
    return path


def make(result: Path, output: Path, *more: str) -> int:
    words = ["pe", str(result), "--rows", "2", "--cols", "3", "-o", str(output), *more]
    return run(fault_lists.main, ["fault_lists.py", *words])


def test_the_list_has_the_words_of_a_result(result, tmp_path, capsys):
    output = tmp_path / "pe.csv"
    assert make(result, output, "--layers", "stem", "--bit", "4", "--effect", "stuck-at-0") == 0
    lines = output.read_text().splitlines()
    assert lines[:2] == ["# sentinelnn-faults 1 trials=6", "trial,tensor,element,bit,effect"]
    # 12 words: two inputs of five channels and of one copy.
    assert len(lines) == 2 + 12
    assert lines[2:4] == ["0,stem.weight,0,4,stuck-at-0", "0,stem.weight,6,4,stuck-at-0"]
    assert make(result, output) == 0
    assert len(output.read_text().splitlines()) == 2 + 12 * len(LAYERS)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--rows", "0"], 64, "0 is no whole number from 1 on"),
        (["--layers", "nope"], 65, "its faults could not hit nope.weight"),
        (["--bit", "32"], 65, "--bit 32: the words of stem.weight have the bits 0 to 31"),
        (["--model", "nope"], 65, "has no network nope"),
        (["--model", "hardened"], 65, "does not tell how many output channels stem.weight has"),
        (["--dataflow", "os"], 64, "--dataflow"),
    ],
)
def test_refusals_are_one_line(result, tmp_path, capfd, more, code, message):
    try:
        assert make(result, tmp_path / "pe.csv", *more) == code
    except SystemExit as end:
        assert end.code == code
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "pe.csv").exists()


def test_another_file_is_not_replaced(result, tmp_path, capfd):
    output = tmp_path / "mine.csv"
    output.write_text("mine\n")
    assert make(result, output) != 0
    assert output.read_text() == "mine\n"


def test_outcomes_are_read_without_pandas(tmp_path):
    """The page's own lines, run as they stand there."""
    page = (Path(__file__).resolve().parents[2] / "docs/fault_lists.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "pandas" not in lines
    rows = [outcome(0, t, m, 80 + t, 10, t) for t in range(3) for m in range(2)]
    faults = [[(0, 1, 30)] * (t % 2) for t in range(3) for _ in range(2)]
    sample = Sample(points=(("listed", 0.0, 3),), estimands=("listed",), trials=rows, faults=faults)
    sample.write(tmp_path / "result.h5")
    command = [sys.executable, "-c", lines]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    head, *table = done.stdout.splitlines()
    assert head == "id,n_faults,correct,masked,sdc_noncritical,sdc_critical,due"
    assert table == ["0,0,80,45,45,10,0", "1,1,81,44,45,10,1", "2,0,82,44,44,10,2"]


def test_means_of_a_list_have_no_intervals(tmp_path):
    rows = [outcome(0, t, m, 80 + t, 0) for t in range(4) for m in range(2)]
    stored = {"quantity": "accuracy", "estimate": 0.815, "lower": np.nan, "upper": np.nan}
    stored |= {"against": -1, "confidence": 0.95, "method": "listed", "trials": 4}
    sample = Sample(points=(("listed", 0.0, 4),), estimands=("listed",), trials=rows)
    sample.estimates = [stored]
    with Result(sample.write(tmp_path / "r.h5")) as result:
        table = summaries.accuracy_table(result)
        assert table["estimate"].tolist() == pytest.approx([0.815, 0.815])
        assert table["lower"].isna().all() and table["upper"].isna().all()
        assert set(table["method"]) == {"listed"}
        gain = summaries.computed_gain(result, 0, 1)
        assert gain is not None and np.isnan(gain.lower) and gain.method == "listed"
        page = render(sources_of(result, []))
        axes = figures.draw("accuracy", sources_of(result, [])).axes[0]
    assert axes.get_xlabel() == "mean accuracy [%] of the list"
    assert "under a list of faults" in page and "a list of faults, which is no sample" in page
    for other in ("(no interval)", "% interval", "--single-bit", "Stopping rule", "ilot"):
        assert other not in page.partition("<h2>Provenance")[0], other
