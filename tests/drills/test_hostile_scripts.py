"""TorchScript files are programs: nothing of one runs that is no network. Written by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from drill import ROOT

torch = pytest.importorskip("torch", reason="python3-torch makes the files")
nn = torch.nn
sys.path.append(str(ROOT / "tests/drills"))
import hostile_net  # noqa: E402
from hostile_scripts import HOSTILE, RUNNING, Archive  # noqa: E402


@pytest.fixture(scope="module")
def base(scratch) -> Path:
    path = scratch / "harmless.ts"
    torch.manual_seed(3)
    torch.jit.script(hostile_net.Net().eval()).save(str(path))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("owned")


def evaluated(sentinelnn, path: Path, folder: Path):
    words = ["--model", path, "--dataset", "synthetic", "--images", "2"]
    return sentinelnn.run(["evaluate", *words], cwd=folder)


def check_refused(sentinelnn, path: Path, folder: Path, message: str) -> None:
    outcome = evaluated(sentinelnn, path, folder)
    assert outcome.code == 65 and len(outcome.messages) == 1, outcome.err
    assert message in outcome.messages[0], outcome.messages[0]
    assert not list(folder.iterdir()), "the file wrote another"


def check_inspected(sentinelnn, path: Path, folder: Path) -> None:
    outcome = sentinelnn.run(["inspect", path], cwd=folder)
    assert outcome.code in (0, 65), outcome.err
    assert outcome.code == 65 or "fc.weight" in outcome.out
    assert not list(folder.iterdir()), "the file wrote another"


def changed(base: Path, name: str, change) -> Path:
    archive = Archive(base)
    change(archive)
    path = base.with_name(f"hostile_{name}.ts")
    archive.write(path)
    return path


def test_the_harmless_one(sentinelnn, base, folder):
    outcome = evaluated(sentinelnn, base, folder)
    assert outcome.code == 0, outcome.err
    Archive(base).write(base.with_name("rewritten.ts"))
    outcome = evaluated(sentinelnn, base.with_name("rewritten.ts"), folder)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_before_anything_runs(sentinelnn, base, folder, name):
    change, message = HOSTILE[name]
    path = changed(base, name, change)
    check_refused(sentinelnn, path, folder, message)
    check_inspected(sentinelnn, path, folder)


@pytest.mark.parametrize("name", RUNNING)
def test_bounded_while_it_is_walked(sentinelnn, base, folder, name):
    change, message = RUNNING[name]
    path = changed(base, name, change)
    check_refused(sentinelnn, path, folder, message)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name(sentinelnn, base, folder):
    archive = Archive(base)
    path = base.with_name("twice.ts")
    archive.write(path, twice=archive.network)
    check_refused(sentinelnn, path, folder, "two zip records have one name")


def test_the_file_of_the_issue(sentinelnn, scratch, folder):
    """forward and __setstate__ write files, also under the name of a checkpoint."""
    forward, load = scratch / "forward.pth", scratch / "load.ts"
    torch.jit.script(hostile_net.Writes().eval()).save(str(forward))
    torch.jit.script(hostile_net.Outer().eval()).save(str(load))
    for path, message in ((forward, "from_file"), (load, "__setstate__")):
        check_refused(sentinelnn, path, folder, message)
        outcome = sentinelnn.run(["inspect", path], cwd=folder)
        assert outcome.code == 0 and "its code is refused" in outcome.out, outcome.err
        assert message in outcome.out
    outcome = sentinelnn.run(
        ["evaluate", "--checkpoint", forward, "--dataset", "synthetic"], cwd=folder
    )
    assert outcome.code == 65 and not list(folder.iterdir())


@pytest.mark.parametrize("name", hostile_net.STATEFUL)
def test_paths_and_state(sentinelnn, scratch, folder, name):
    make, message = hostile_net.STATEFUL[name]
    path = scratch / f"stateful_{name}.ts"
    torch.jit.script(make().eval()).save(str(path))
    check_refused(sentinelnn, path, folder, message)


@pytest.mark.parametrize("name", hostile_net.HARMLESS)
def test_usual_idioms(sentinelnn, scratch, folder, name):
    path = scratch / f"usual_{name}.ts"
    net = hostile_net.HARMLESS[name]().eval()
    if name.startswith("traced"):
        torch.jit.trace(net, torch.zeros(1, 3, 32, 32)).save(str(path))
    else:
        torch.jit.script(net).save(str(path))
    exported = scratch / "exported.ts"
    words = ["export", "--model", path, "--dataset", "synthetic", "--output", exported]
    outcome = sentinelnn.run(words, cwd=folder)
    assert outcome.code == 0, outcome.err
    images = torch.randn(70, 3, 32, 32)  # more than the import tries
    with torch.no_grad():
        assert torch.allclose(torch.jit.load(str(exported))(images), net(images), atol=1e-5)  # sums of floats
