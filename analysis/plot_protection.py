#!/usr/bin/env python3
"""The recipes of `sentinelnn protect`: accuracy at the rate over memory, the chosen one marked.

    plot_protection.py protected.pth.json --output frontier.png

Accuracies are those of the race, on its own images. A recipe is grey where another has no more
memory and no less accuracy. The confirmed accuracy of the chosen one is in the answer's sentence.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from cli import OneLineParser, run
from hdf5 import ResultError
from matplotlib.figure import Figure
from outputs import check_output, write_output
from plot_style import PAGE, STYLE, in_percent, save, show_names_as_they_are
from text import count, percent, printable

FORMATS = ("png", "pdf", "svg")
GREY, CHOSEN, OTHER = "#B0B0B0", "#D55E00", "#0072B2"


class Recipe(NamedTuple):
    name: str
    options: str
    memory: float  # relative to the unprotected network; not a number where it is not known
    macs: float
    left_out: str  # why it took no part, or empty
    accuracy: float  # in the race; not a number without one
    fault_free: float
    trials: int
    remains: bool


class Answer(NamedTuple):
    sentence: str
    ber: float
    chosen: str  # name of the recipe, or empty
    race_images: str
    recipes: list[Recipe]
    fingerprint: str  # of the confirmation's result; empty without one
    trials: int  # planned, of this result

    @property
    def raced(self) -> list[Recipe]:
        return [recipe for recipe in self.recipes if recipe.trials > 0]

    def dominated(self, recipe: Recipe) -> bool:
        """Whether another recipe is at least as good in both, and better in one."""
        return any(
            other.memory <= recipe.memory
            and other.accuracy >= recipe.accuracy
            and (other.memory, other.accuracy) != (recipe.memory, recipe.accuracy)
            for other in self.raced
        )


def read_answer(path: Path) -> Answer:
    """ResultError where the file is missing or no answer of `protect`."""
    try:
        found = json.loads(path.read_text())
        if "sentinelnn_protect" not in found:
            raise ResultError(f"{path}: is no answer of sentinelnn protect")
        confirmed = found["confirmation"] if found.get("chosen") else None
        return Answer(
            str(found["answer"]),
            float(found["wish"]["ber"]),
            str(found.get("chosen", "")),
            str(found.get("race_images", "")),
            [_recipe(recipe) for recipe in found["recipes"]],
            str(confirmed["fingerprint"]) if confirmed else "",
            int(confirmed["trials"]) if confirmed else 0,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ResultError(f"{path}: is no answer of sentinelnn protect: {error}") from error
    except OSError as error:
        raise ResultError(f"{path}: cannot be read: {error.strerror}") from error


def _recipe(found: dict[str, Any]) -> Recipe:
    race = found.get("race", {})
    nan = float("nan")
    return Recipe(
        str(found["name"]),
        str(found["options"]),
        float(found.get("memory", nan)),
        float(found.get("macs", nan)),
        str(found.get("left_out", "")),
        float(race.get("accuracy", nan)),
        float(race.get("fault_free", nan)),
        int(race.get("trials", 0)),
        bool(race.get("remains", True)),
    )


def draw(answer: Answer) -> Figure | None:
    """None without a race."""
    if not answer.raced:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 3))
        axes = figure.add_subplot()
        for recipe in answer.raced:
            chosen = recipe.name == answer.chosen
            grey = answer.dominated(recipe) and not chosen
            colour = CHOSEN if chosen else GREY if grey else OTHER
            marker, size = ("*", 12) if chosen else ("o", 5)
            axes.plot(recipe.memory, recipe.accuracy, marker, color=colour, markersize=size)
            if grey:
                continue
            axes.annotate(
                recipe.name, (recipe.memory, recipe.accuracy), (4, 4), color=colour, fontsize=7,
                textcoords="offset points",
            )  # fmt: skip
        axes.set(
            ylim=(-0.03, 1.06),
            xlabel="memory, relative to the unprotected network",
            ylabel=f"accuracy at BER {answer.ber:g} [%]",
        )
        axes.set_xlim(0, 1.15 * max(recipe.memory for recipe in answer.raced))
        in_percent(axes.yaxis)
    show_names_as_they_are(figure)
    return figure


def caption(answer: Answer) -> str:
    return (
        f"Mean accuracy of each recipe in the race, on {answer.race_images}. Star: the chosen one. "
        "Grey, without a name: another recipe has no more memory and no less accuracy. Recipes "
        "that left early have few trials, and the race's own figure favours the chosen one."
    )


def rows(answer: Answer) -> list[dict[str, str]]:
    """The table of the recipes."""
    return [
        {
            "name": recipe.name,
            "options": recipe.options,
            "memory": "–" if recipe.memory != recipe.memory else f"{recipe.memory:.3f}",
            "macs": "–" if recipe.macs != recipe.macs else f"{recipe.macs:.3f}",
            "fault_free": percent(recipe.fault_free),
            "accuracy": percent(recipe.accuracy),
            "trials": count(recipe.trials),
            "note": _note(recipe, answer),
        }
        for recipe in answer.recipes
    ]


def _note(recipe: Recipe, answer: Answer) -> str:
    if recipe.name == answer.chosen:
        return "chosen"
    return recipe.left_out or ("" if recipe.remains or not recipe.trials else "beaten")


def main(argv: list[str]) -> int:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("answer", type=Path, help="OUTPUT.json of protect")
    parser.add_argument("-o", "--output", type=Path, default=Path("protection.png"))
    options = parser.parse_args(argv)
    extension = options.output.suffix[1:]
    if extension not in FORMATS:
        parser.error(f"--output {options.output} must end with .{', .'.join(FORMATS)}")
    check_output(options.output, extension)
    answer = read_answer(options.answer)
    figure = draw(answer)
    if figure is None:
        raise ResultError(f"{options.answer}: there was no race")
    stream = io.BytesIO()
    save(figure, stream, extension)
    write_output(options.output, extension, stream.getvalue())
    print(printable(answer.sentence))
    print(printable(str(options.output)))
    return 0


if __name__ == "__main__":
    sys.exit(run(main, sys.argv))
