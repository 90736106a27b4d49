"""report.py and figures.py: the page holds the numbers, stands alone, and fails in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import failures
import figures
import h5py
import pytest
import report
import summaries
from conftest import LAYERS, Sample, outcome, plan, strata_of, write_ranking
from matplotlib.text import Text
from plot_style import COLUMN, PAGE, model_style
from rankings import sources_of
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
        "[22.11, 100.00 %]",
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
    assert text.count("<img") == 8  # but classes, layouts, vulnerability and rank correlation
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "<script" not in text


def test_only_tables_scroll_sideways(paired):
    """Long names do not widen the page: text breaks anywhere, and each table scrolls by itself."""
    text = rendered(paired)
    tables = text.count("<table>")
    assert tables > 5 and text.count('<div class="scroll"><table>') == tables
    assert re.search(r"body {[^}]*overflow-wrap: break-word", text)
    assert ".scroll { overflow-x: auto; }" in text


def test_pilots_are_named_where_there_are_some(paired, stratified):
    assert "ilot" not in rendered(paired)
    assert '<th class="n">Pilot</th>' in rendered(stratified)


def test_report_of_a_campaign_that_has_just_begun(empty):
    text = page(empty)
    assert "No trial is stored yet." in text and "0 of 8 rows" in text


def test_report_shows_the_audit_and_its_mismatches(audited):
    text = rendered(audited).replace("\u202f", " ")
    assert "3 of 10 trials (30.000 %) were run again by the reference path" in text
    assert "300 images compared, 3 mismatches, 1 near tie." in text
    assert "by 2.0e-06 of" in text
    assert "The audit found 3 images" in text
    row = r'<td class="n">7</td><td>unprotected</td>\s*<td class="n">3 of 100</td>'
    assert re.search(row, text) and "57 / 33 / 0" in text and "54 / 33 / 3" in text
    assert "<h2>Audit</h2>" in text


def test_report_says_that_no_trial_was_audited_and_nothing_before_the_first(paired, empty):
    assert "No trial was audited" in rendered(paired)
    assert "mismatches" not in rendered(paired)
    assert "Audit" not in rendered(empty)


def test_networks_that_never_differ_are_said_to_in_words(tmp_path):
    trials = [outcome(0, i, m, 50 + i % 3, 40) for i in range(60) for m in (0, 1)]
    text = rendered(
        Sample(points=(("binomial", 1e-5, 60),), trials=trials).write(tmp_path / "same.h5")
    )
    words = "no difference in 60 trials; one in more than 4.99 % of them is excluded"
    assert text.count(words) == 2 and "hardened gains" not in text


def test_report_says_how_images_are_normalised(tmp_path):
    path = Sample(trials=[outcome(0, 0, m, 50, 40) for m in (0, 1)]).write(tmp_path / "own.h5")
    assert "Images normalised as usual for " in rendered(path)
    with h5py.File(path, "a") as file:
        for model in file["models"].values():
            model["mean"], model["std"] = [0.5, 0.25, 0.0], [0.2023, 0.1994, 0.201]
    assert "Images normalised by mean 0.5, 0.25, 0, std 0.2023, 0.1994, 0.201." in rendered(path)


def test_every_interval_names_its_family(paired, sequential):
    assert '<span class="by">paired betting</span>' in rendered(paired)
    assert "intervals over trials (betting)" in rendered(paired)
    text = rendered(sequential)
    assert '<span class="by">asymptotic confidence sequence</span>' in text
    assert "with its 95 % interval (asymptotic confidence sequence)" in text


def test_strata_and_bits_have_one_number(stratified, sequential):
    for path in (stratified, sequential):
        with Result(path) as result:
            strata = summaries.strata_table(result).set_index("name")
            bits = failures.failures_by(result, "bit", 0, 0).set_index("bit")
            rows = result.trials["stratum"] == 0
            assert result.mean("failing", 0, 0, where=rows) == strata["failing"]["bit 30"]
        if path == stratified:
            for name in ("estimate", "lower", "upper"):
                column = "failing" if name == "estimate" else name
                assert bits[name][30] == strata[column]["bit 30"]


def test_report_of_single_flips_on_one_model(single):
    text = page(single)
    assert "exact:1" in text and "when the one flipped bit is in this" in text
    assert "Gain" not in text and "hardened" not in text


@pytest.mark.parametrize("extension", ["pdf", "png"])
def test_every_figure_is_written(paired, tmp_path, extension):
    done = program("figures.py", paired, "--output", tmp_path / "figures", "--format", extension)
    assert done.returncode == 0, done.stderr
    written = sorted((tmp_path / "figures").glob(f"*.{extension}"))
    assert len(written) == 8 and all(path.stat().st_size > 1000 for path in written)
    assert len(done.stdout.split()) == 8


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
        axes = figures.draw("accuracy", sources_of(result)).axes[0]
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["exact:1", "exact:8", "exact:64"]
    line = axes.containers[0].lines[0]
    assert round(line.get_xdata()[0]) == 2 and line.get_color() == model_style(1).colour


def test_the_caption_says_what_a_fixed_number_of_flips_means(tmp_path):
    captions = []
    for model in ("binomial", "exact:2"):
        trials = [outcome(0, i, 0, 50, 40) | {"n_faults": 2} for i in range(4)]
        sample = Sample(points=((model, 1e-6, 4),), trials=trials)
        with Result(sample.write(tmp_path / "caption.h5")) as result:
            captions.append(figures.FIGURES["failures_by_bit"].caption(sources_of(result)))
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


def rendered(path: Path, *rankings: Path) -> str:
    with Result(path) as result:
        return report.render(sources_of(result, rankings)).replace("\u00a0", " ")


def test_the_page_says_what_was_estimated_how_and_by_how_many_trials(stratified):
    text = rendered(stratified)
    assert "T1: the probability θ that one uniform bit flip makes one uniform test image" in text
    assert "Stratified by 3 strata: a pilot only decides" in text and "bits 29-27" in text
    assert "fixed number of trials" in text
    # 8 in the estimate, 3 of the pilot, 11 planned; θ = 2.8125 %, of which no interval is stored
    assert re.search(r'<td class="n">8</td>\s*<td class="n">3</td>\s*<td class="n">11</td>', text)
    assert "failing images unprotected 2.812 % (no interval)" in text


def test_the_page_of_a_sequential_plan_shows_its_rule_and_last_look(sequential):
    text = rendered(sequential)
    assert "asymptotic confidence sequence decides when to stop" in text and "3 so far" in text
    assert "Wanted half-width: ±1 points at 95 %: met." in text
    assert "one of 2 random blocks of the 100 images" in text
    assert "8 trials: failing images unprotected 1.000 % [0.000, 2.000 %]" in text
    assert "4 stored rows lie beyond the trials that count" in text
    with Result(sequential) as result:
        axes = figures.draw("convergence", sources_of(result)).axes[0]
    assert list(axes.get_lines()[0].get_xdata()) == [4, 6, 8]
    labels = axes.get_legend_handles_labels()[1]
    assert "stopped" in labels and "wanted: ±1 points" in labels


def test_the_page_of_a_running_stratified_plan_leaves_empty_what_is_not_known(tmp_path):
    trials = [outcome(0, i, 0, 50, 40) | {"stratum": 0} for i in range(4)]
    sample = Sample(
        models=("unprotected",), points=(("exact:1", 0.0, 8),), estimands=("T1",), trials=trials,
        strata=strata_of(0), plans=[plan(0, "stratified")], complete=False,
    )  # fmt: skip
    text = rendered(sample.write(tmp_path / "part.h5"))
    assert "4 of 8 rows" in text and "Strata of exact:1 are still without trials" in text
    assert "failing images unprotected – (no interval)" in text


def test_few_trials_are_a_warning_unless_the_interval_holds_for_few(tmp_path):
    def text(method: str) -> str:
        row = {"point": 0, "model": 0, "against": -1, "quantity": "failing", "estimate": 0.4}
        row |= {"lower": 0.3, "upper": 0.5, "confidence": 0.95, "method": method, "trials": 2}
        sample = Sample(
            models=("unprotected",), points=(("exact:1", 0.0, 2),), estimands=("T1",),
            trials=[outcome(0, i, 0, 50, 40) for i in range(2)], estimates=[row],
        )  # fmt: skip
        return rendered(sample.write(tmp_path / "few.h5"))

    assert "Fewer than 500 trials at exact:1" in text("t over trials")
    assert "Fewer than 500" not in text("Korn-Graubard")


def test_rankings_are_compared_on_the_page(paired, tmp_path):
    stem, conv = LAYERS[:2]
    faults = write_ranking(
        tmp_path / "fi.h5", "channel-FI", {stem: [0.1, 0.3, 0.2], conv: [0.3, 0.2, 0.1]},
        lower=0.0, upper=0.4, accuracy=0.8, trials=50,
    )  # fmt: skip
    text = rendered(paired, faults)
    assert text.count("<img") == 10
    assert "Rank correlation with channel-FI, mean over layers: l2-norm 0.25" in text
    assert "1 (30.000 % [0.000, 40.000 %]); 2 (20.000 % [0.000, 40.000 %]); 0" in text
    assert " 50 trials per channel; the median half-width of the 95 % intervals is 20" in text


def test_trials_of_channel_fi_make_a_page_of_channels(tmp_path):
    points = tuple((f"channel:stem:{c}", 0.0, 2) for c in range(3))
    trials = [outcome(0, i, 0, 80, 10) for i in range(2)] + [outcome(1, 0, 0, 70, 20)]
    sample = Sample(models=("unprotected",), points=points, trials=trials, complete=False)
    text = rendered(sample.write(tmp_path / "channels.h5"))
    assert "3 trials in 2 of 3 channels" in text
    assert "1 (20.000 % [0.000, 100.000 %]); 0 (10.000 %" in text
    assert "What was estimated" not in text


def test_one_figure_goes_to_a_file(paired, tmp_path):
    path = tmp_path / "accuracy.pdf"
    done = program("figures.py", paired, "accuracy", "-o", path)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes().startswith(b"%PDF") and done.stdout.split() == [str(path)]


def test_wrong_figures_are_named(paired, tmp_path):
    cases = [
        (("vulnerability", "-o", tmp_path / "x.pdf"), 65, "nothing for the figure vulnerability"),
        (("pie",), 64, "no figure pie; there are accuracy, outcomes"),
        (("-o", tmp_path / "x.pdf"), 64, "is one file; name one figure"),
    ]
    for more, code, message in cases:
        done = program("figures.py", paired, *more)
        assert done.returncode == code and message in done.stderr, done.stderr


def test_figures_fit_a_column_or_a_page_and_no_letter_is_below_7_points(
    paired, stratified, sequential, tmp_path
):
    stem, conv = LAYERS[:2]
    faults = write_ranking(tmp_path / "fi.h5", "channel-FI", {stem: [1, 3, 2], conv: [3, 2, 1]})
    for path in (paired, stratified, sequential):
        with Result(path) as result:
            sources = sources_of(result, [faults])
            for name in figures.FIGURES:
                figure = figures.draw(name, sources)
                if figure is not None:
                    assert figure.get_size_inches()[0] in (COLUMN, PAGE)
                    written = [text for text in figure.findobj(Text) if text.get_text()]
                    assert written and min(text.get_size() for text in written) >= 7, name
