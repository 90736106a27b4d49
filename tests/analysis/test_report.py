"""report.py and figures.py: the page holds the numbers, stands alone, and fails in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import figures
import h5py
import pytest
from conftest import Sample, outcome
from results import Result

ANALYSIS = Path(__file__).resolve().parents[2] / "analysis"


def program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ANALYSIS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def page(result: Path) -> str:
    output = result.with_suffix(".html")
    done = program("report.py", result, "-o", output)
    assert done.returncode == 0, done.stderr
    return output.read_text().replace("\u00a0", " ")


def test_report_holds_the_numbers(paired):
    text = page(paired)
    for number in (
        "70.00 %",
        "[44.02, 95.98 %]",
        "85.00 %",
        "+15.00",
        "1.1000×",
        "1.1200×",
        "90.00 %",
    ):
        assert number in text, number
    assert "resnet20 on synthetic" in text and "node1" in text
    assert "not complete" not in text


def test_report_stands_alone(paired):
    text = page(paired)
    assert text.count("<img") == 7
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "<script" not in text


def test_report_of_a_campaign_that_has_just_begun(empty):
    text = page(empty)
    assert "No trial is stored yet." in text and "0 of 8 rows" in text


def test_report_of_single_flips_on_one_model(single):
    text = page(single)
    assert "exact:1" in text and "when the one flipped bit is in this" in text
    assert "Gain" not in text and "hardened" not in text


@pytest.mark.parametrize("extension", ["pdf", "png"])
def test_every_figure_is_written(paired, tmp_path, extension):
    done = program("figures.py", paired, "--output", tmp_path / "figures", "--format", extension)
    assert done.returncode == 0, done.stderr
    written = sorted((tmp_path / "figures").glob(f"*.{extension}"))
    assert len(written) == 7 and all(path.stat().st_size > 1000 for path in written)
    assert len(done.stdout.split()) == 7


def test_the_same_file_gives_the_same_page(paired):
    assert page(paired) == page(paired)


@pytest.mark.parametrize("name", ["report.py", "figures.py"])
def test_broken_tables_are_one_line_too(name, paired):
    with h5py.File(paired, "a") as file:
        del file["trials"]
        file.create_group("trials")
    done = program(name, paired)
    assert done.returncode == 65
    assert done.stderr.count("\n") == 1 and "/trials is no dataset" in done.stderr


def test_the_accuracy_figure_has_a_place_for_every_point(tmp_path):
    # Only the second model has rows, and only at the last of three points.
    points = (("exact:1", 0.0, 4), ("exact:8", 0.0, 4), ("exact:64", 0.0, 4))
    trials = [outcome(2, i, 1, 50 + i, 40) for i in range(4)]
    with Result(Sample(points=points, trials=trials).write(tmp_path / "some.h5")) as result:
        axes = figures.draw(figures.FIGURES[0], result).axes[0]
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["exact:1", "exact:8", "exact:64"]
    line = axes.containers[0].lines[0]
    assert round(line.get_xdata()[0]) == 2 and line.get_color() == figures.MODEL_COLOURS[1]


def test_the_caption_says_what_a_fixed_number_of_flips_means(tmp_path):
    captions = []
    for model in ("binomial", "exact:2"):
        trials = [outcome(0, i, 0, 50, 40) | {"n_faults": 2} for i in range(4)]
        sample = Sample(points=((model, 1e-6, 4),), trials=trials)
        with Result(sample.write(tmp_path / "caption.h5")) as result:
            captions.append(figures.FIGURES[2].caption(result))
    assert "Flips elsewhere are alike in both." in captions[0]
    assert "elsewhere are alike" not in captions[1]
    assert "at least one flip more elsewhere" in captions[1]


@pytest.mark.parametrize("name", ["report.py", "figures.py"])
def test_errors_are_one_line_with_the_right_code(name, tmp_path):
    absent = program(name, tmp_path / "absent.h5")
    assert absent.returncode == 65
    assert absent.stderr.count("\n") == 1 and "absent.h5: no such file" in absent.stderr
    (tmp_path / "text.h5").write_text("no HDF5")
    assert program(name, tmp_path / "text.h5").returncode == 65
    assert program(name).returncode == 64
