"""Killed at every single call that changes a file of the result, before it and halfway through it:
nothing acknowledged is lost, and resuming gives the rows of an undisturbed run."""

from __future__ import annotations

from crash import KILLED
from drill import JOURNAL, LOCK, PUBLICATION_ENDS, PUBLICATION_WRITES, REMOVAL, journals


def test_every_call_on_the_journal(crash, tiny):
    calls = crash.undisturbed(JOURNAL)
    assert len(calls) > tiny.points  # a frame for each point at least
    ended_at = crash.each(JOURNAL, range(1, len(calls) + 1), KILLED)
    assert ended_at == {"write", "fdatasync", "remove"}


def test_every_call_on_the_lock(crash):
    calls = crash.undisturbed(LOCK)
    ended_at = crash.each(LOCK, range(1, len(calls) + 1), ["torn"])
    assert ended_at == {"pwrite", "fsync", "unlink"}


def test_the_first_and_the_last_publication(crash, stored):
    """With all that killed publications left behind."""
    for begun in (None, stored):
        # Nobody sees the file yet: some of its some thirty writes stand for all.
        assert crash.chains(PUBLICATION_WRITES, KILLED, begun, step=5) == {"pwrite"}
        assert crash.chains(PUBLICATION_ENDS, KILLED, begun) == {"fsync", "rename"}


def test_every_removal_of_a_journal(crash, stored):
    """The result is complete, and the journals go one by one."""
    removed = len(journals(stored)) + 1
    ended_at = crash.each(REMOVAL, range(1, removed + 1), KILLED, begun=stored)
    assert ended_at == {"remove"}


def test_every_call_on_the_journal_of_a_continued_result(crash, tiny):
    """What is published is copied into the new journal first."""
    begun = crash.new_result("half")
    half = crash.sentinelnn.run(tiny.args(begun, trials=tiny.trials // 2))
    assert half.code == 0, half.err
    assert crash.chains(JOURNAL, KILLED, begun) == {"write", "fdatasync", "remove"}


def test_the_driver_of_two_ranks(crash):
    calls = crash.undisturbed(JOURNAL, ranks=2)
    places = range(1, len(calls) + 1, len(calls) // 4)
    assert "write" in crash.each(JOURNAL, places, KILLED, ranks=2)
