"""The answer of protect: read, drawn, and first on the report."""

from __future__ import annotations

import json
from pathlib import Path

import plot_protection
import pytest
from hdf5 import ResultError
from plot_protection import draw, read_answer
from test_report import program

SENTENCE = "coded loses 0.50 points"


def recipe(name: str, memory: float, accuracy: float, **more: object) -> dict[str, object]:
    race = {"fault_free": 0.9, "accuracy": accuracy, "trials": 32, "remains": accuracy > 0.8}
    return {"name": name, "options": "--store …", "memory": memory, "macs": 1.0, "race": race, **more}


@pytest.fixture
def answer(tmp_path: Path) -> Path:
    path = tmp_path / "net.pth.json"
    found = {
        "sentinelnn_protect": 1,
        "answer": SENTENCE,
        "wish": {"ber": 0.01},
        "chosen": "coded",
        "race_images": "the last tenth of the training images",
        "confirmation": {"fingerprint": "f00d", "trials": 4},  # those of `paired`
        "recipes": [
            recipe("coded", 0.5, 0.88),
            recipe("small", 0.3, 0.70),
            recipe("worse", 0.6, 0.60),
            {"name": "large", "options": "", "memory": 2.0, "macs": 1.0, "left_out": "too much memory"},
        ],
    }
    path.write_text(json.dumps(found))
    return path


def test_dominated_recipes_are_told_apart(answer):
    found = read_answer(answer)
    assert [r.name for r in found.raced] == ["coded", "small", "worse"]
    assert [found.dominated(r) for r in found.raced] == [False, False, True]
    assert [row["note"] for row in plot_protection.rows(found)] == [
        "chosen", "beaten", "beaten", "too much memory",
    ]  # fmt: skip
    colours = {
        line.get_label(): line.get_color() for axes in draw(found).axes for line in axes.lines
    }
    assert list(colours.values()) == [
        plot_protection.CHOSEN, plot_protection.OTHER, plot_protection.GREY,
    ]  # fmt: skip


def test_the_report_begins_with_the_answer_and_the_frontier(paired, answer, tmp_path):
    output = tmp_path / "page.html"
    done = program("report.py", paired, "--answer", answer, "-o", output)
    assert done.returncode == 0, done.stderr
    text = output.read_text()
    places = [text.index(part) for part in (SENTENCE, "<h1>", "<img", "The confirmation")]
    assert places == sorted(places)
    assert text.index('alt="Recipes: ') < text.index('alt="Accuracy under faults')


def test_the_answer_comes_before_what_warns(audited, answer, tmp_path):
    found = json.loads(answer.read_text())
    found["confirmation"]["trials"] = 10
    answer.write_text(json.dumps(found))
    done = program("report.py", audited, "--answer", answer, "-o", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    body = (tmp_path / "page.html").read_text().partition("<main>")[2]
    assert body.split(">", 2)[2].startswith(SENTENCE)
    assert body.index(SENTENCE) < body.index('class="note"')


@pytest.mark.parametrize(
    ("confirmation", "message"),
    [
        ({"fingerprint": "beef", "trials": 4}, "is the answer of another result"),
        ({"fingerprint": "f00d", "trials": 5}, "is of 5 trials"),
        (None, "no network was chosen"),
    ],
)
def test_the_answer_of_another_result_is_refused(paired, answer, tmp_path, confirmation, message):
    found = json.loads(answer.read_text())
    if confirmation is None:
        del found["chosen"]
    found["confirmation"] = confirmation
    answer.write_text(json.dumps(found))
    done = program("report.py", paired, "--answer", answer, "-o", tmp_path / "page.html")
    assert done.returncode == 65 and message in done.stderr, done.stderr
    assert not (tmp_path / "page.html").exists()


def test_without_a_race_there_is_no_picture(answer, tmp_path):
    found = json.loads(answer.read_text())
    for own in found["recipes"]:
        own.pop("race", None)
    answer.write_text(json.dumps(found))
    assert draw(read_answer(answer)) is None
    done = program("plot_protection.py", answer, "-o", tmp_path / "x.png")
    assert done.returncode == 65 and "there was no race" in done.stderr


def test_an_answer_that_is_missing_is_told_as_any_input(paired, tmp_path):
    missing = tmp_path / "missing.json"
    done = program("report.py", paired, "--answer", missing, "-o", tmp_path / "x.html")
    assert done.returncode == 65, done.stderr
    assert done.stderr == f"report.py: {missing}: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sentinelnn_protect": 1}', '{"answer": 1}'])
def test_other_files_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ResultError, match="no answer of sentinelnn protect"):
        read_answer(path)
    done = program("plot_protection.py", path, "-o", tmp_path / "x.png")
    assert done.returncode == 65 and len(done.stderr.splitlines()) == 1
