"""frontier.py and plot_frontier.py: forms, the largest rate, what is refused, the picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import figures
import frontier
import h5py
import numpy as np
import plot_frontier
import pytest
import report
from conftest import LAYERS, Sample
from frontier import frontier_of, largest_rate
from hdf5 import ResultError
from matplotlib.text import Text
from plot_style import PAGE
from rankings import sources_of
from results import Result

RATES = (1e-4, 1e-3, 1e-2)
BCH = "int4:channel+bch:8,4"


def estimate_rows(line: list[tuple[float, float, float]], method: str = "betting") -> list[dict]:
    """Accuracy of the only model: (estimate, lower, upper) by rate."""
    names = ("estimate", "lower", "upper")
    return [
        {"point": p, "model": 0, "against": -1, "quantity": "accuracy", "confidence": 0.95}
        | {"method": method, "trials": 0 if method.startswith("bound") else 50}
        | dict(zip(names, numbers))
        for p, numbers in enumerate(line)
    ]


def write(
    path: Path, line: list[tuple[float, float, float]], coded: bool = False, **more: object
) -> Path:
    """A network with 90 of 100 images right without faults; its estimates are stored, no trials."""
    sample = Sample(
        models=("unprotected",), points=tuple(("binomial", ber, 50) for ber in RATES),
        estimates=estimate_rows(line, "bound: P(any word read wrongly)"), **more,
        storage={f"{layer}.weight": BCH for layer in LAYERS} if coded else {},
    )  # fmt: skip
    return sample.write(path)


GOOD = [(0.9, 0.899, 0.901)] * 3  # no loss
BAD = [(0.5, 0.4, 0.6), (0.1, 0.0, 0.2), (0.0, 0.0, 0.1)]
# the mean stays within a point of 0.9 up to 1e-3, its interval up to 1e-4; at 1e-2 it is lucky
MIXED = [(0.9, 0.892, 0.905), (0.895, 0.88, 0.9), (0.85, 0.8, 0.88)]


@pytest.fixture
def three(tmp_path) -> list[tuple[str, Path]]:
    return [
        ("fp32", write(tmp_path / "fp32.h5", BAD)),
        ("coded", write(tmp_path / "coded.h5", GOOD, coded=True)),
        ("mixed", write(tmp_path / "mixed.h5", MIXED, coded=True)),
    ]


def opened(paths: list[tuple[str, Path]]) -> list[tuple[str, Result]]:
    return [(name, Result(path)) for name, path in paths]


def test_the_largest_rate(three):
    found = frontier_of(opened(three))
    assert found is not None and found.reference is not None
    rates = {
        form.name: [largest_rate(found, form, by)[:2] for by in ("lower", "estimate")]
        for form in found.forms
    }
    assert all(np.isnan(rate) for rate, _ in rates["fp32"])  # a negative control
    assert rates["coded"] == [(1e-2, True)] * 2  # none is lost: the limit lies higher
    assert rates["mixed"] == [(1e-4, False), (1e-3, False)]


def test_a_rate_counts_only_where_all_lower_ones_do(tmp_path):
    path = write(tmp_path / "hole.h5", [GOOD[0], BAD[1], GOOD[2]])
    found = frontier_of([("hole", Result(path))])
    assert largest_rate(found, found.forms[0], "estimate")[:2] == (1e-4, False)


def test_points_and_reference_are_the_users(three):
    found = frontier_of(opened(three), points=0.06)
    assert largest_rate(found, found.forms[2], "estimate")[:2] == (1e-2, True)
    found = frontier_of(opened(three), reference="coded")
    assert found.reference.name == "coded" and found.memory(found.forms[0]) == 16
    with pytest.raises(ResultError, match="--reference int9: no form .* fp32, coded, mixed"):
        frontier_of(opened(three), reference="int9")


def test_the_table(three):
    rows = {row["name"]: row for row in frontier.frontier_rows(frontier_of(opened(three)))}
    coded = rows["coded"]
    assert coded["memory"] == "0.062" and coded["bits"] == "8.00"
    assert coded["stored"] == f"weight {BCH}; all else fp32" and coded["fails"] == "weight"
    assert coded["fault_free"] == "90.00" and coded["sure"] == "≥ 1e-2"
    assert coded["cells"][0]["estimate"] == "90.00" and "89.90" in coded["cells"][0]["interval"]
    assert rows["fp32"]["sure"] == rows["fp32"]["mean"] == "none"
    text = frontier.markdown(frontier_of(opened(three)))
    assert len({line.count("|") for line in text.splitlines()}) == 1


def legend(found: frontier.Frontier) -> set[str]:
    return {text.get_text() for text in plot_frontier.draw(found).axes[2].get_legend().get_texts()}


def change(path: Path, table: str, column: str, value: object) -> None:
    with h5py.File(path, "a") as file:
        rows = file[table][:]
        rows[column] = value
        file[table][...] = rows


def test_what_cannot_be_compared_is_refused(three):
    usual = {"effect": b"flip", "shape": b"bit", "fault_model": b"binomial"}
    others = {"effect": b"stuck-at-1", "shape": b"burst:3", "fault_model": b"per-layer-floor"}
    for column, value in others.items():
        change(three[1][1], "points", column, value)
        with pytest.raises(ResultError, match=f"coded.h5: its faults are .*{value.decode()}"):
            frontier_of(opened(three))
        change(three[1][1], "points", column, usual[column])
    with h5py.File(three[2][1], "a") as file:
        file["provenance"].attrs["images_sha256"] = "another"
    with pytest.raises(ResultError, match="mixed.h5: is of other images than .*fp32.h5"):
        frontier_of(opened(three))


def change_network(path: Path, structure: str = "", layer: str = "") -> None:
    with h5py.File(path, "a") as file:
        for group in file["models"].values():
            group.attrs["structure"] = structure or group.attrs["structure"]
            nodes = group["nodes"][:]
            nodes["name"][2] = layer or nodes["name"][2]
            group["nodes"][...] = nodes


def test_a_frontier_is_of_one_network(three):
    for _, path in three[:2]:
        change_network(path, '{"architecture": "resnet20"}')
    change_network(three[2][1], '{"architecture": "resnet32"}')
    refused = (
        "mixed.h5: mixed is of resnet32, and fp32 of .*fp32.h5 is of resnet20; a frontier is of one "
        r"network \(--several-networks compares them\)"
    )
    with pytest.raises(ResultError, match=refused):
        frontier_of(opened(three))
    found = frontier_of(opened(three), several=True)
    names = ["resnet20: fp32", "resnet20: coded", "resnet32: mixed"]
    assert [form.name for form in found.forms] == names and found.reference.name == names[0]
    assert {names[2], "resnet20: fp32 without faults"} <= legend(found)


def test_networks_are_told_apart_by_their_layers(three):
    """Where no architecture is known, or two networks have the same."""
    change_network(three[2][1], layer="another")
    with pytest.raises(ResultError, match="mixed is of a network with layer another, and fp32 of"):
        frontier_of(opened(three))
    names = [form.name for form in frontier_of(opened(three), several=True).forms]
    assert names == ["network (1): fp32", "network (1): coded", "network (2): mixed"]


def test_the_legend_says_what_fails_where_that_differs(three):
    assert "fp32" in legend(frontier_of(opened(three)))
    for path in (three[0][1], three[2][1]):
        change(path, "points", "target", b"weight,bias,bn,bound,scale,check")
    change(three[2][1], "points", "selection", b"layers stem")
    found = frontier_of(opened(three))
    wanted = {"fp32, faults in all parameters", "coded, faults in weight"}
    assert wanted | {"mixed, faults in all parameters (layers stem)"} <= legend(found)
    assert "Forms differ in what fails." in plot_frontier.caption(found)


def test_points_without_rates_make_none(single, three):
    assert frontier_of([("single", Result(single))]) is None
    with pytest.raises(ResultError, match="single.h5: has no point with a rate"):
        frontier_of([*opened(three), ("single", Result(single))])


def test_no_comparison_without_an_fp32_network(tmp_path):
    path = write(tmp_path / "coded.h5", MIXED, coded=True)
    found = frontier_of([("a", Result(path)), ("a", Result(path))])
    assert found.reference is None and [form.name for form in found.forms] == ["a (1)", "a (2)"]
    assert np.isnan(found.memory(found.forms[0])) and "of the form" in frontier.kept_words(found)
    assert len(plot_frontier.draw(found).axes) == 2  # one panel, and the legend


def test_the_picture(three):
    with_faults = frontier_of(opened(three))
    figure = plot_frontier.draw(with_faults)
    left, right = figure.axes[:2]
    assert left.get_xlabel() == "bit error rate [flips per bit and trial]"
    assert "largest bit error rate within 1 point of fp32" in right.get_ylabel().replace("\n", " ")
    arrows = [text for text in right.texts if text.get_text() == ""]
    assert len(arrows) == 2  # by interval and mean, of the form that loses nothing
    assert {"fp32", "coded", "mixed", "fp32 without faults", "1 point below"} <= legend(with_faults)
    assert figure.get_size_inches()[0] == PAGE
    written = [text for text in figure.findobj(Text) if text.get_text()]
    assert min(text.get_size() for text in written) >= 7


def test_a_form_that_lost_too_much_without_faults_says_so():
    assert frontier.rate_text(frontier.Largest(float("nan"), False, True)).endswith("without faults")
    assert frontier.rate_text(frontier.Largest(float("nan"), False, False)) == "none"


def test_a_page_has_the_forms_of_its_networks(paired, tmp_path):
    with Result(paired) as result:
        assert figures.draw("frontier", sources_of(result)) is not None
        page = report.render(sources_of(result))
    assert "<h2>Stored forms: accuracy, faults and memory</h2>" in page
    one = write(tmp_path / "one.h5", MIXED, coded=True)
    with Result(one) as result:  # the table alone: the figure of accuracy shows the rest
        assert figures.draw("frontier", sources_of(result)) is None
        page = report.render(sources_of(result))
    assert "Largest rate by the interval" in page and "by a bound, without trials" in page


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    script = Path(plot_frontier.__file__)
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_command(three, tmp_path):
    paths = [path for _, path in three]
    output = tmp_path / "frontier.png"
    done = program(paths[0], f"int4={paths[1]}", paths[2], "--points", 2, "--output", output)
    assert done.returncode == 0, done.stderr
    assert output.read_bytes().startswith(b"\x89PNG")
    assert f"| int4 | weight {BCH}; all else fp32 |" in done.stdout
    assert "within 2 points of fp32 without faults" in done.stdout
    other = write(tmp_path / "other.h5", GOOD)
    change_network(other, layer="another")
    assert program(paths[0], other, "--several-networks", "--output", output).returncode == 0
    for more, code, message in (
        (["--output", tmp_path / "frontier.txt"], 64, "ending with .png, .pdf or .svg"),
        (["--points", "200"], 64, "--points 200: give a number from 0 to 100"),
        ([other], 65, "--several-networks compares them"),
        (["--reference", "x"], 65, "no form has this name"),
        ([tmp_path / "absent.h5"], 65, "absent.h5: no such file"),
    ):
        failed = program(paths[0], *more)
        assert failed.returncode == code and message in failed.stderr, failed.stderr
        assert failed.stderr.count("\n") == 1
