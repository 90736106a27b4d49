"""storage.py, words.py, and failures by class, layout and stored bit, by hand."""

from __future__ import annotations

import re
from pathlib import Path

import failures
import figures
import h5py
import pandas as pd
import pytest
import report
import schema
import storage
import words
from conftest import LAYERS, MODELS, Sample, outcome
from hdf5 import ResultError
from matplotlib.text import Text
from rankings import sources_of
from results import Result, layer_of
from schema import NOT_KNOWN

BCH = "int4:channel+bch:8,4"
TENSORS = [
    {"name": name, "kind": kind, "elements": 12, "originals": 10, "word_bits": bits, "layout": layout}
    for name, kind, bits, layout in (
        ("stem.weight", 0, 8, BCH),
        ("bn1.weight", 2, 32, "fp32"),
        ("stem.weight_scale", 4, 16, "fp16+repeat:3"),
    )
]
STORAGE = {f"{layer}.weight": BCH for layer in LAYERS} | {"stem.weight_scale": "fp16+repeat:3"}


@pytest.mark.parametrize(
    ("layout", "width", "told"),
    [
        ("fp32", 32, "0–22 mantissa, 23–30 exponent, 31 sign"),
        ("int8:channel", 8, "0–6 value, 7 sign"),
        (BCH, 8, "0–2 and 7 check, 3–5 value, 6 sign"),
        ("int5:channel+bch:16,5", 16, "0–9 and 15 check, 10–13 value, 14 sign"),
        ("fp16+repeat:7", 16, "0–9 mantissa, 10–14 exponent, 15 sign"),
        ("fp32+cep:d3", 32, "0–7 check, 8–22 mantissa, 23–30 exponent, 31 sign"),
        ("int8:channel+spw", 13, "0–2 and 4 and 8 check, 3 and 5–7 and 9–11 value, 12 sign"),
        ("int7:channel+zero-space", 8, "0–5 value, 6 check, 7 sign"),
        ("fixed:3.4,trunc", 8, "0–3 fraction, 4–6 integer, 7 sign"),
        ("of another version", 8, ""),
        ("fp32", 16, ""),  # cannot be
    ],
)
def test_bits_of_stored_words(layout, width, told):
    assert words.bits_in_words(layout, width, check_words=False) == told


def test_the_layer_of_check_words_is_that_of_their_tensor():
    names = pd.Series(["a.conv.weight", "a.conv.weight.check", "a.conv.weight_scale"])
    kinds = pd.Series([schema.CLASSES.index(name) for name in ("weight", "check", "scale")])
    assert list(layer_of(names, kinds)) == ["a.conv"] * 3


def test_an_output_is_of_the_node_that_it_is_called_by():
    names = pd.Series(["layer1.0.conv1", "layer1.0.conv2", "layer1.0.conv2.bias"])
    kinds = pd.Series([schema.CLASSES.index(name) for name in ("activation", "post", "bias")])
    assert list(layer_of(names, kinds)) == ["layer1.0.conv1", "layer1.0.conv2", "layer1.0.conv2"]


def stored_sample(**more: object) -> Sample:
    trials = [outcome(0, i, m, 60 + i % 3, 30) for i in range(4) for m in (0, 1)]
    return Sample(trials=trials, storage=STORAGE, **more)


def test_layouts_by_class(tmp_path):
    with Result(stored_sample().write(tmp_path / "r.h5")) as result:
        assert storage.is_plain(result, 0) and not storage.is_plain(result, 1)
        assert storage.layouts_by_class(result, 1) == {"weight": [BCH], "scale": ["fp16+repeat:3"]}
        text = f"weight {BCH}; scale fp16+repeat:3; all else fp32"
        assert storage.stored_as(result, 1) == text and storage.stored_as(result, 0) == "all fp32"
        assert storage.stored_bits(result, 1) == 2000
        assert storage.stored_bits(result, 0) == 8 * 4000  # an earlier file: of all that is kept
        assert [storage.bits_per_weight(result, model) for model in (0, 1)] == [32, 8]


def test_weights_that_are_left_fp32_are_said(tmp_path):
    sample = stored_sample()
    sample.storage = {"stem.weight": BCH}
    with Result(sample.write(tmp_path / "r.h5")) as result:
        assert storage.layouts_by_class(result, 1) == {"weight": [BCH, "fp32"]}


def test_words_read_wrongly_per_trial(tmp_path):
    sample = stored_sample()
    for i, trial in enumerate(sample.trials):
        trial |= {"words_wrong": 10 * (i // 2), "words_flagged": i // 2, "n_faults": 0}
    path = sample.write(tmp_path / "r.h5")
    with Result(path) as result:
        table = storage.words_table(result)
        assert list(table["wrong"]) == [15, 15] and list(table["flagged"]) == [1.5, 1.5]
        assert list(table["stored"]) == [1, 1]
        page = report.render(sources_of(result))
    assert "<h2>Words read</h2>" in page and '<td class="n">1.5</td>' in page


def test_what_a_file_does_not_tell_is_no_number(tmp_path):
    sample = stored_sample()
    for trial in sample.trials:
        trial |= {"words_wrong": NOT_KNOWN, "words_flagged": NOT_KNOWN}
    with Result(sample.write(tmp_path / "r.h5")) as result:
        assert storage.words_table(result)[["wrong", "flagged"]].isna().all(axis=None)
        assert "Words read" not in report.render(sources_of(result))


def test_the_page_says_how_many_faults_are_shared(tmp_path):
    sample = stored_sample(pairing=[{"point": 0, "model": 1, "shared": 0.25}])
    path = sample.write(tmp_path / "r.h5")
    with Result(path) as result:
        page = report.render(sources_of(result)).replace("\u00a0", " ")
    assert "hardened shares the faults of 25.000 % of the sites of unprotected" in page
    with h5py.File(path, "a") as file:
        rows = file["design/pairing"][:]
        rows["shared"] = 1.5
        file["design/pairing"][...] = rows
    with Result(path) as result, pytest.raises(ResultError, match="pairing, row 0: shared is 1.5"):
        result.pairing  # noqa: B018


# ---- failures by place -------------------------------------------------------------------------


def single_faults(**more: object) -> Sample:
    """60 trials with one fault: in a weight none fails, in a scale 80 of 100 images do."""
    places = [(0, 2, 6), (1, 3, 30), (2, 1, 14)]
    trials = [outcome(0, i, 0, 10, 80 if i % 3 == 2 else 0) for i in range(60)]
    return Sample(
        models=("stored",), points=(("exact:1", 0.0, 60),), trials=trials, tensors=TENSORS,
        faults=[[places[i % 3]] for i in range(60)], storage=STORAGE, **more,
    )  # fmt: skip


@pytest.fixture
def by_class(tmp_path, monkeypatch) -> Path:
    monkeypatch.setitem(MODELS, "stored", (1000, 50000, 4000, 100, 90))
    target = {"target": "weight,bn,scale"}
    return single_faults(kind_of_fault=target).write(tmp_path / "by_class.h5")


def test_failures_by_class_and_layout(by_class):
    with Result(by_class) as result:
        for column, names in (
            ("class", ["weight", "bn", "scale"]),
            ("layout", [BCH, "fp32", "fp16+repeat:3"]),
        ):
            table = failures.failures_by(result, column, 0, 0).set_index(column)
            assert list(table.index) == names
            assert list(table["estimate"]) == pytest.approx([0, 0, 0.8])
            assert list(table["with_it"]) == [20] * 3


def test_bits_are_those_of_each_kind_of_word(by_class):
    with Result(by_class) as result:
        kinds = failures.words_of(result, "stored")
        assert [(kind.layout, kind.bits) for kind in kinds] == [
            (BCH, 8), ("fp32", 32), ("fp16+repeat:3", 16),
        ]  # fmt: skip
        tables = [failures.failures_by(result, "bit", 0, 0, kind) for kind in kinds]
        assert [len(table) for table in tables] == [8, 32, 16]
        assert [int(table["with_it"].sum()) for table in tables] == [20, 20, 20]
        assert tables[2]["estimate"][14] == pytest.approx(0.8) and tables[0]["estimate"][6] == 0
        figure = figures.draw("failures_by_bit", sources_of(result))
        labels = [axes.get_xlabel() for axes in figure.axes]
    assert "0–2 and 7 check, 3–5 value, 6 sign" in labels[0]
    assert "23–30 exponent" in labels[1] and "10–14 exponent, 15 sign" in labels[2]


def test_classes_have_figures_where_there_are_several(by_class, single):
    for path, shown in ((by_class, True), (single, False)):
        with Result(path) as result:
            sources = sources_of(result)
            for name in ("failures_by_class", "failures_by_layout"):
                assert (figures.draw(name, sources) is not None) == shown


def test_the_page_has_the_numbers_by_place(by_class):
    with Result(by_class) as result:
        page = report.render(sources_of(result)).replace("\u00a0", " ")
    for column in ("class", "layout", "layer", "bit"):
        assert f"Numbers by {column}" in page
    assert "Trials with a fault there" in page
    row = r"<td>scale</td><td class=\"n\">20</td>\s*<td class=\"n\">40</td><td class=\"n\">80.000 %"
    assert re.search(row, page)


def test_a_burst_hits_all_its_bits(tmp_path):
    sample = Sample(
        models=("unprotected",), points=(("exact:1", 0.0, 20),), sites={"length": 3},
        trials=[outcome(0, i, 0, 80, 10) for i in range(20)], faults=[[(0, 0, 4)]] * 20,
        kind_of_fault={"shape": "burst:3"},
    )  # fmt: skip
    with Result(sample.write(tmp_path / "burst.h5")) as result:
        table = failures.failures_by(result, "bit", 0, 0)
        assert list(table.index[table["with_it"] > 0]) == [4, 5, 6]
        figure = figures.draw("failures_by_bit", sources_of(result))
        caption = figures.FIGURES["failures_by_bit"].caption(sources_of(result))
        texts = [text.get_text().replace("\n", " ") for text in figure.findobj(Text)]
    assert "images failing by one fault in this bit [%]" in texts
    assert "A fault: burst:3." in caption and "flip" not in caption


@pytest.mark.parametrize("effect", ["stuck-at-1", "random-word", "value:0.5"])
def test_faults_that_are_no_flips_are_not_called_so(tmp_path, effect):
    trials = [outcome(p, i, 0, 80, 10 + i) for p in (0, 1) for i in range(30)]
    sample = Sample(
        models=("unprotected",), points=(("binomial", 1e-4, 30), ("binomial", 1e-3, 30)),
        trials=trials, faults=[[(i % 2, 0, i % 2), (2, 0, i % 2)] for i in range(60)],
        kind_of_fault={"effect": effect},
    )  # fmt: skip
    with Result(sample.write(tmp_path / "effect.h5")) as result:
        sources = sources_of(result)
        page = report.render(sources)
        axes = figures.draw("accuracy", sources).axes[0]
        bits = figures.draw("failures_by_bit", sources)
        caption = figures.FIGURES["failures_by_layer"].caption(sources)
    assert f"A fault: {effect}." in caption
    assert "flip" not in caption.lower() and "flip" not in axes.get_xlabel()
    assert "Flips per trial" not in page and "Faults per trial" in page
    assert (bits is None) == (effect != "stuck-at-1")  # a site of the others is a whole word
    unit = "bit" if effect == "stuck-at-1" else "word"
    assert f"[faults per {unit} and trial]" in axes.get_xlabel()


def test_means_over_a_list_have_no_intervals(tmp_path):
    trials = [outcome(0, i, 0, 80, 20 * (i % 2)) for i in range(20)]
    sample = Sample(
        models=("unprotected",), points=(("listed", 0.0, 20),), estimands=("listed",),
        trials=trials, faults=[[(i % 2, 0, 4)] for i in range(20)],
        kind_of_fault={"effect": "listed", "shape": "listed"},
    )  # fmt: skip
    with Result(sample.write(tmp_path / "list.h5")) as result:
        table = failures.failures_by(result, "layer", 0, 0).set_index("layer")
        caption = figures.FIGURES["failures_by_layer"].caption(sources_of(result))
        assert figures.draw("failures_by_layer", sources_of(result)) is not None
        page = report.render(sources_of(result))
    assert "The trials of the list; none is drawn." in page and "intervals over trials (" not in page
    assert table["estimate"]["layer1.0.conv1"] == pytest.approx(0.2) and table["lower"].isna().all()
    assert "no intervals" in caption and "Korn" not in caption


def test_faults_that_are_left_out_are_said_to_be(tmp_path):
    trials = [outcome(0, i, 0, 80, 10) | {"n_faults": 900, "faults_stored": 0} for i in range(4)]
    sample = Sample(models=("unprotected",), points=(("binomial", 1e-1, 4),), trials=trials)
    with Result(sample.write(tmp_path / "left_out.h5")) as result:
        page = report.render(sources_of(result))
        for name in ("bit", "layer", "class", "layout"):
            assert figures.draw(f"failures_by_{name}", sources_of(result)) is None
    assert "The faults are not stored in the file (--faults-stored yes keeps them)" in page
    assert "<td>no</td>" in page
