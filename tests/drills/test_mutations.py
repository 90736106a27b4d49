"""Results with one thing damaged: the program and the analysis refuse them in one sentence, or read
them; neither ends by a crash, as a bug, by a traceback or out of memory.

A sample of the damages by default; MUTATIONS_EVERY=1 tries all (hours of starts of the program)."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from drill import ENVIRONMENT, PROGRAM, ROOT
from mutations import all_mutations

sys.path.insert(0, str(ROOT / "analysis"))

import frontier  # noqa: E402
import storage  # noqa: E402
import summaries  # noqa: E402
from hdf5 import ResultError  # noqa: E402
from results import Result  # noqa: E402

EVERY = int(os.environ.get("MUTATIONS_EVERY", "0"))
PLANS = {
    "simple": ["--ber", "2e-6", "2e-5", "--repeat", "12"],
    "stratified": ["--single-bit", "--sampling", "stratified", "--repeat", "200"],
    "sequential": ["--single-bit", "--half-width", "0.2", "--guaranteed", "--repeat", "300"],
}
TABLES = ("sessions", "points", "models", "plans", "strata", "rounds", "centres", "blocks")
TABLES += ("attributes", "provenance", "job", "trials", "faults", "estimates", "audit", "importance")
TABLES += ("pairing",)
ADDRESS_SPACE = 16 << 30
REFUSED = (64, 65, 71)


@pytest.fixture(scope="module")
def results(sentinelnn, campaign, scratch) -> dict[str, Path]:
    """One result of every kind of plan."""
    paths = {name: scratch / f"mutated-{name}.h5" for name in (*PLANS, "paired", "ranking")}
    common = ["--data", campaign.data, "--checkpoint", campaign.checkpoint]
    for name, plan in PLANS.items():
        blocks = [] if name == "simple" else ["--images-per-trial", "4"]
        args = ["inject", *common, "--images", "10", "--output", paths[name], *blocks, *plan]
        assert sentinelnn.run(args).code == 0
    paired = campaign.args(paths["paired"], "--audit", "1", trials=6)
    assert sentinelnn.run(paired).code == 0
    assert sentinelnn.run(campaign.rank_args(scratch, flips=4)).code == 0
    return paths | {"ranking": scratch / "ranking.h5.trials.h5"}


def chosen(path: Path, sample: int) -> list:
    """About `sample` of the damages, or all."""
    found = all_mutations(path)
    assert len(found) > 500
    return found[:: EVERY or max(1, len(found) // sample)]


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def ends_well(args: list[str | Path]) -> tuple[int, str]:
    ended = subprocess.run(
        [PROGRAM, *map(str, args)], capture_output=True, text=True, errors="replace", timeout=120,
        env=os.environ | ENVIRONMENT, preexec_fn=limited, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    messages = [line for line in ended.stderr.splitlines() if line.startswith("sentinelnn: ")]
    good = ended.returncode in (0, 1) or (ended.returncode in REFUSED and len(messages) == 1)
    return (0 if good and "bug" not in ended.stderr else 1), f"{ended.returncode} {ended.stderr}"


COMMANDS = ("summarize", "inspect", "merge")


@pytest.mark.parametrize("kind", [*PLANS, "paired", "ranking"])
def test_the_program_refuses_or_reads(results, tmp_path, kind):
    failed = []
    for number, mutation in enumerate(chosen(results[kind], 24)):
        broken = mutation.write(results[kind], tmp_path / "broken.h5")
        command = COMMANDS[number % len(COMMANDS)] if number % 2 else "summarize"
        more = ["--output", tmp_path / "all.h5"] if command == "merge" else []
        more += ["--json"] if command == "summarize" and number % 4 == 0 else []
        bad, said = ends_well([command, broken, *more])
        if bad:
            failed.append(f"{command}: {mutation.name}: {said}")
    assert not failed, "\n".join(failed)


def read_all(path: Path) -> None:
    with Result(path) as result:
        for table in TABLES:
            getattr(result, table)
        for model in result.models["name"]:
            result.tensors(model), result.nodes(model), result.golden(model)
            result.layouts(model)
        storage.words_table(result)
        frontier.forms_of(result)
        summaries.accuracy_table(result)
        summaries.outcome_table(result)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*PLANS, "paired", "ranking"])
def test_the_analysis_refuses_or_reads(results, tmp_path, kind):
    refused = 0
    read_all(results[kind])
    for mutation in chosen(results[kind], 60):
        broken = mutation.write(results[kind], tmp_path / "broken.h5")
        try:
            read_all(broken)
        except ResultError as error:
            refused += 1
            assert "\n" not in str(error) and "broken.h5" in str(error), mutation.name
        except Exception as error:
            raise AssertionError(mutation.name) from error
    assert refused > 10


# Damages that were read, or ended the program: table, column, value, words of the message.
IMPOSSIBLE = [
    ("trials", "point", 2**32 - 1, "/trials, row 0: point is 4294967295"),
    ("trials", "model", 7, "/trials, row 0: model is 7"),
    ("trials", "masked", 10**6, "/trials, row 0: the sum of masked"),
    ("trials", "images", 0, "/trials, row 0: images is 0"),
    ("trials", "correct", 11, "/trials, row 0: correct is 11"),
    ("trials", "probability", np.nan, "/trials, row 0: probability is nan"),
    ("trials", "first_node", 10**6, "/trials, row 0: first_node is 1000000"),
    ("trials", "session", 9, "/trials, row 0: session is 9"),
    ("trials", "n_faults", 10**9, "/trials, row 0: n_faults is 1000000000"),
    ("trials", "faults_masked", 10**9, "/trials, row 0: faults_masked is 10000000"),
    ("trials", "faults_stored", 2, "/trials, row 0: faults_stored is 2, not f"),
    ("audit", "model", 5, "/audit, row 0: model is 5"),
    ("estimates", "model", -5, "/estimates, row 0: model is -5"),
    ("estimates", "estimate", np.inf, "/estimates, row 0: estimate is inf"),
    ("estimates", "point", 77, "/estimates, row 0: point is 77"),
    ("points", "ber", -0.0312, "/points, row 0: ber is -0.0312"),
    ("points", "id", 5, "/points, row 0: id is 5"),
    ("design/plans", "sampling", b"taste", "sampling 'taste' is unknown"),
    ("provenance/sessions", "started", 1e300, "/provenance/sessions, row 0: started is 1e+300"),
    ("provenance/sessions", "ended", np.nan, "/provenance/sessions, row 0: ended is nan"),
]


@pytest.mark.parametrize(("table", "column", "value", "message"), IMPOSSIBLE)
def test_the_damage_is_named(sentinelnn, results, tmp_path, table, column, value, message):
    broken = tmp_path / "broken.h5"
    broken.write_bytes(results["paired"].read_bytes())
    with h5py.File(broken, "r+") as file:
        rows = file[table][()]
        rows[column][0] = value
        file[table][...] = rows
    for command in (["summarize"], ["merge", "--output", tmp_path / "all.h5"]):
        outcome = sentinelnn.run([*command, broken])
        assert outcome.code == 65, outcome.err
        assert len(outcome.messages) == 1 and str(broken) in outcome.err
        assert message[:40] in outcome.err, outcome.err


def test_trials_beyond_the_plan_are_named(sentinelnn, results, tmp_path):
    broken = tmp_path / "broken.h5"
    for table, column, value, message in (
        ("trials", "id", 2**40, "id is 1099511627776, and the plan of point"),
        ("points", "trials", 0, "/trials, row 0: id is 0, and the plan of point 0"),
    ):
        broken.write_bytes(results["simple"].read_bytes())
        with h5py.File(broken, "r+") as file:
            rows = file[table][()]
            rows[column][-1 if table == "trials" else slice(None)] = value
            file[table][...] = rows
        outcome = sentinelnn.run(["summarize", broken])
        assert outcome.code == 65 and message in outcome.err, outcome.err


def test_numbers_of_another_kind_are_named(sentinelnn, results, tmp_path):
    broken = tmp_path / "broken.h5"
    source = results["simple"].read_bytes()
    for column, kind in {"correct": "f8", "id": "i8", "masked": "u8", "probability": "i8"}.items():
        broken.write_bytes(source)
        with h5py.File(broken, "r+") as file:
            rows = file["trials"][()]
            types = [(name, kind if name == column else rows.dtype[name]) for name in rows.dtype.names]
            del file["trials"]
            file["trials"] = rows.astype(types)
        outcome = sentinelnn.run(["summarize", broken])
        assert outcome.code == 65, outcome.err
        assert f"column {column} has a type of another kind" in outcome.err, outcome.err
    for name, value in {"seed": 1.5, "complete": 2.0, "schema_version": 1.0}.items():
        broken.write_bytes(source)
        with h5py.File(broken, "r+") as file:
            file.attrs[name] = value
        outcome = sentinelnn.run(["summarize", broken])
        assert outcome.code == 65 and f"attribute {name}" in outcome.err, outcome.err


def test_faults_of_another_place_are_named(sentinelnn, results, tmp_path):
    wrong = {"tensor": 10**6, "element": 2**63, "bit": 32, "word_bits": 64}
    wrong |= {"image": 10**6, "effect": 5, "length": 33}
    for column, value in wrong.items():
        broken = tmp_path / f"{column}.h5"
        broken.write_bytes(results["paired"].read_bytes())
        with h5py.File(broken, "r+") as file:
            rows = file["faults/sites"][()]
            rows[column][0] = value
            file["faults/sites"][...] = rows
        outcome = sentinelnn.run(["merge", broken, "--output", tmp_path / "all.h5"])
        assert outcome.code == 65 and f"/faults/sites, row 0: {column} is" in outcome.err


def test_names_that_are_too_long_are_no_bug(sentinelnn, campaign, tmp_path):
    for length in (245, 253, 300):
        name = tmp_path / ("a" * length)
        outcome = sentinelnn.run(campaign.args(name, trials=1))
        assert outcome.code == 71 and "File name too long" in outcome.err, outcome.err
        outcome = sentinelnn.run(["summarize", name])
        assert outcome.code == 65, outcome.err


JOBS = {
    "dots": "[campaign]\n" + ".".join("a" * 100_000) + " = 1\n",
    "table": "[" + ".".join("a" * 100_000) + "]\nb = 1\n",
    "keys": "[campaign]\n" + "".join(f"a.{'b.' * 30}c{i} = 1\n" for i in range(10_000)),
    "arrays": "[campaign]\nber = " + "[" * 100_000 + "]" * 100_000 + "\n",
    "inline": "[campaign]\nber = " + "{a=" * 100_000 + "1" + "}" * 100_000 + "\n",
    "large": "# " + "x" * (2 << 20) + "\n",
}


@pytest.mark.parametrize("name", JOBS)
def test_deep_and_large_jobs_are_bad_usage(sentinelnn, tmp_path, name):
    job = tmp_path / f"{name}.toml"
    job.write_text(JOBS[name])
    outcome = sentinelnn.run(["campaign", "--job", job])
    assert outcome.code == 64 and str(job) in outcome.err, outcome.err[:500]
    assert len(outcome.messages) == 1


def test_deep_json_in_a_checkpoint_is_refused(sentinelnn, campaign, tmp_path):
    import zipfile

    for name, text in {"lists": "[" * 200_000, "objects": '{"a":' * 200_000}.items():
        target = tmp_path / f"{name}.pth"
        with zipfile.ZipFile(campaign.checkpoint) as source, zipfile.ZipFile(target, "w") as copy:
            for entry in source.infolist():
                deep = entry.filename.endswith("sentinelnn.json")
                copy.writestr(entry.filename, text if deep else source.read(entry))
        evaluate = ["evaluate", "--data", campaign.data, "--checkpoint", target]
        for args in (["inspect", target], evaluate):
            outcome = sentinelnn.run(args)
            assert outcome.code == 65 or (args[0] == "inspect" and outcome.code == 0), outcome.err
            assert "nested more than 100 deep" in outcome.err + outcome.out


def test_more_flips_than_bits_are_refused_by_plan(sentinelnn, campaign, tmp_path):
    args = ["plan", "--data", campaign.data, "--checkpoint", campaign.checkpoint, "--images", "4"]
    args += ["--output", tmp_path / "r.h5", "--fault-count", "exact:99999999999"]
    outcome = sentinelnn.run(args)
    assert outcome.code == 64 and "more faults than the model has bits" in outcome.err
