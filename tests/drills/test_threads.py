"""How many threads the program takes by itself, and how they wait."""

from __future__ import annotations

import os
import re

import pytest
from drill import Launcher, sanitized

CHOICES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "SLURM_CPUS_PER_TASK")


@pytest.fixture(scope="module")
def plain(sentinelnn: Launcher) -> Launcher:
    """The program where the user has chosen nothing."""
    launcher = sentinelnn.within()
    launcher.environment = {k: v for k, v in launcher.environment.items() if k not in CHOICES}
    return launcher


def waits(launcher: Launcher, ranks: int = 0, **chosen: str) -> list[tuple[str, str]]:
    """OMP_WAIT_POLICY and GOMP_SPINCOUNT as each rank's OpenMP has them."""
    if sanitized():
        pytest.skip("a program with sanitizers leaves the choice to the user")
    outcome = launcher.within(OMP_DISPLAY_ENV="VERBOSE", **chosen).run(["--version"], ranks)
    assert outcome.code == 0, outcome.err
    policies = re.findall(r"\bOMP_WAIT_POLICY = '(\w+)'", outcome.err)
    counts = re.findall(r"\bGOMP_SPINCOUNT = '(\w+)'", outcome.err)
    if not policies or not counts:
        pytest.skip("this OpenMP does not say how it waits")
    return list(zip(policies, counts))


def threads(launcher: Launcher, campaign, *more: str, ranks: int = 0) -> int:
    outcome = launcher.run(
        ["profile", "--data", campaign.data, "--checkpoint", campaign.checkpoint, "--images", "2"]
        + ["--batch-size", "2", "--warmup", "0", "--runs", "1", *more],
        ranks,
    )
    assert outcome.code == 0, outcome.err
    return int(re.search(r"(\d+) thread\(s\)", outcome.out)[1])


@pytest.mark.parametrize("ranks", [0, 2])
def test_threads_wait_asleep(plain, ranks):
    assert waits(plain, ranks) == [("PASSIVE", "1000")] * max(ranks, 1)


def test_the_users_choice_stays(plain):
    assert waits(plain, OMP_WAIT_POLICY="active")[0][0] == "ACTIVE"
    assert waits(plain, GOMP_SPINCOUNT="77") == [("PASSIVE", "77")]


def test_the_name_of_the_program_and_its_errors_stay(plain):
    outcome = plain.run(["evaluate", "--no-such-option", "with blank"])
    assert outcome.code == 64 and len(outcome.messages) == 1


def test_one_thread_on_one_cpu(plain, campaign):
    cpu = str(min(os.sched_getaffinity(0)))
    bound = plain.within("taskset", "-c", cpu)
    assert threads(bound, campaign) == 1
    assert threads(bound, campaign, "--threads", "2") == 2


def test_ranks_share_their_cpus(plain, campaign):
    allowed = len(os.sched_getaffinity(0))
    assert threads(plain, campaign) <= allowed
    unbound = plain.within(OMPI_MCA_hwloc_base_binding_policy="none")
    assert threads(unbound, campaign, ranks=2) <= max(1, allowed // 2)


def test_variables_say_how_many(plain, campaign):
    assert threads(plain.within(OMP_NUM_THREADS="3"), campaign) == 3
    assert threads(plain.within(OMP_NUM_THREADS="3"), campaign, "--threads", "1") == 1
    assert threads(plain.within(SLURM_CPUS_PER_TASK="1"), campaign) == 1


def test_absurd_numbers_are_refused(plain, campaign):
    for number in ("-1", "10000"):
        outcome = plain.run(["evaluate", "--checkpoint", campaign.checkpoint, "--threads", number])
        assert outcome.code == 64
        assert outcome.messages == [f"sentinelnn: --threads {number} is no number from 0 to 1024"]
