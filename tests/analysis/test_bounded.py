"""A point that the program answers by a bound, without trials, beside one that has some."""

from __future__ import annotations

from pathlib import Path

import figures
import numpy as np
import pytest
import report
import summaries
from conftest import Sample, outcome
from rankings import sources_of
from results import Result

BOUND = "bound: P(any word read wrongly)"


def bound_of(quantity: str, value: float, low: float, high: float) -> dict:
    row = {"point": 0, "model": 0, "against": -1, "quantity": quantity, "estimate": value}
    return row | {"lower": low, "upper": high, "confidence": 0.95, "method": BOUND, "trials": 0}


ESTIMATES = [
    bound_of("accuracy", 0.9, 0.89998, 0.90002),
    bound_of("masked", 1, 0.99998, 1),
    *(bound_of(name, 0, 0, 2e-5) for name in ("sdc_noncritical", "sdc_critical", "due", "failing")),
]


@pytest.fixture(params=[0, 3])
def bounded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """`param`: trials of the bounded point, of a part that ran some all the same."""
    trials = [outcome(0, i, 0, 90, 0) for i in range(request.param)]
    trials += [outcome(1, i, 0, 50 + i, 40 - i) for i in range(4)]
    sample = Sample(
        models=("unprotected",),
        points=(("binomial", 1e-9, request.param), ("binomial", 1e-3, 4)),
        trials=trials,
        estimates=ESTIMATES,
    )
    return sample.write(tmp_path / "bounded.h5")


def test_tables_hold_the_bound(bounded: Path) -> None:
    with Result(bounded) as result:
        assert summaries.is_bounded(result, 0) and not summaries.is_bounded(result, 1)
        table = summaries.accuracy_table(result)
        shares = summaries.outcome_table(result)
    assert list(table["point"]) == list(shares["point"]) == [0, 1]
    assert table["method"][0] == BOUND
    assert (table["estimate"][0], table["upper"][0], table["trials"][0]) == (0.9, 0.90002, 0)
    assert np.isnan(table["flips"][0]) and table["trials"][1] == 4
    assert shares["failing_upper"][0] == 2e-5 and shares["masked"][0] == 1


def test_the_report_says_it(bounded: Path) -> None:
    with Result(bounded) as result:
        sentences = report.headlines(result)
        rows = report.accuracy_rows(result)
    told = "BER 1e-9, by a bound, without trials: accuracy unprotected 90.00"
    assert sentences[0].startswith(told)
    assert "BER 1e-3, 4 trials" in sentences[1]
    assert rows[0]["flips"] == "–" and rows[0]["method"] == BOUND


def test_figures_and_page_are_made(bounded: Path, tmp_path: Path) -> None:
    with Result(bounded) as result:
        sources = sources_of(result)
        assert figures.draw("accuracy", sources) is not None
        assert figures.draw("outcomes", sources) is not None
    page = tmp_path / "report.html"
    report.main([str(bounded), "-o", str(page)])
    assert "No trial is stored yet" not in page.read_text()
    assert BOUND in page.read_text()


def test_one_model_is_bounded_and_another_is_not(tmp_path: Path) -> None:
    plain = [outcome(0, i, 0, 90 - i, i) for i in range(3)]
    coded = [outcome(0, i, 1, 90, 0) for i in range(3)]
    sample = Sample(
        models=("unprotected", "hardened"),
        points=(("binomial", 1e-2, 3),),
        trials=plain + coded,
        estimates=[row | {"model": 1} for row in ESTIMATES],
    )
    with Result(sample.write(tmp_path / "one.h5")) as result:
        assert not summaries.is_bounded(result, 0) and summaries.is_bounded(result, 0, 1)
        table = summaries.accuracy_table(result)
        assert list(table["trials"]) == [3, 0] and table["method"][1] == BOUND
        assert list(summaries.outcome_table(result)["trials"]) == [3, 0]
        assert report.headlines(result)[0].startswith("BER 1e-2, 3 trials: ")
