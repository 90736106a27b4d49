"""The cluster, and the campaign of tests/drills made long enough to be stopped midway."""

from __future__ import annotations

import importlib.util
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

DRILLS = Path(__file__).resolve().parents[1] / "drills"
sys.path.insert(0, str(DRILLS))

from cluster import Cluster  # noqa: E402
from drill import PROGRAM, ROOT, Launcher, Result  # noqa: E402

spec = importlib.util.spec_from_file_location("drills", DRILLS / "conftest.py")
drills = sys.modules["drills"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drills)
scratch, sentinelnn, small_campaign = drills.scratch, drills.sentinelnn, drills.campaign

SCRIPTS = ROOT / "slurm"


def pytest_sessionstart() -> None:
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        pytest.exit(f"start these tests by {Path(__file__).parent / 'private.sh'}", 64)


@dataclass
class Jobs:
    """Submits slurm/*.sbatch as users do."""

    cluster: Cluster
    environment: dict[str, str]

    def submit(self, output: Path, args: Sequence, *options: str, **variables: str) -> str:
        """campaign.sbatch on two nodes with two ranks each; all it says goes to `output`."""
        size = ("--nodes=2", "--ntasks-per-node=2", f"--output={output}")
        script = SCRIPTS / "campaign.sbatch"
        return self.cluster.submit(*size, *options, script, *args, **(self.environment | variables))

    def sweep(self, folder: Path, args: Sequence, **variables: str) -> list[str]:
        """Numbers of the jobs that submit_sweep.sh submits, elements of two ranks."""
        options = f"--ntasks-per-node=2 --output={folder}/element%a.out"
        own = {"SBATCH_OPTIONS": options, "SBATCH_OUTPUT": f"{folder}/%x.out"}
        return self.cluster.run(
            SCRIPTS / "submit_sweep.sh", *args, **(self.environment | own | variables)
        ).split()


@pytest.fixture(scope="session")
def cluster(scratch: Path):
    # A socket's path has at most 107 characters, pytest's folders may be deep.
    with tempfile.TemporaryDirectory(prefix="slurm") as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def jobs(cluster: Cluster, sentinelnn: Launcher) -> Jobs:
    own = {k: v for k, v in sentinelnn.environment.items() if k.startswith(("OMP_", "OMPI_"))}
    return Jobs(cluster, own | {"SENTINELNN": str(PROGRAM)})


@pytest.fixture(scope="session")
def campaign(small_campaign):
    return replace(small_campaign, trials=200)


@dataclass
class Undisturbed:
    result: Result
    seconds: float


@pytest.fixture(scope="session")
def undisturbed(sentinelnn: Launcher, campaign, scratch: Path) -> Undisturbed:
    """The campaign without SLURM."""
    path = scratch / "undisturbed.h5"
    begin = time.monotonic()
    outcome = sentinelnn.run(campaign.args(path), 2)
    assert outcome.code == 0, outcome.err
    result = Result.read(path)
    assert result.complete and len(result.trials) == 2 * 2 * campaign.trials
    return Undisturbed(result, time.monotonic() - begin)
