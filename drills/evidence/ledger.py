"""The chain in its places: read, append by conditional write, take turns, countersign. Acts; judges nothing.

The first place arbitrates: of two that write the same number one wins, and the other reads again. A start without an
end, younger than its deadline, is the lock: one drill runs at a time, from cron, CI or a cluster alike, and a run that
was killed blocks nobody past its deadline. Further places are brought up to date with the same bytes.

Never here: what a record says, what is wrong with a chain (`chain.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from drills.evidence.chain import (
    HEAD,
    LINK,
    RUNNING,
    Link,
    Stage,
    Verification,
    head_names,
    link_name,
    link_names,
    new_head,
    new_link,
    read_link,
    verify,
)
from drills.record import Run, stamp, started_record
from secretsops.errors import BrokenEscrow, Refused, SecretsOpsError, Timeout, WorldFailed
from secretsops.ports import Clock, Notary, Sink

TRIES = 16
"""Appends that may lose to another in a row; drills take turns, so two is much."""
WINDOW = 64
"""Links looked back for attempts of one slot: they follow each other, with other scenarios' runs in between."""
LATEST = 200
"""Links read for a trend over runs."""
PAUSE = 15.0
"""Seconds between two looks whether a running drill has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The places of one chain, the first of which arbitrates, and who signs what is appended."""

    places: Sequence[Sink]
    notary: Notary
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What came of asking for a turn: the run as it was written down, or the link of the run that the slot had."""

    run: Run
    done: Link | None = None


def read_files(sink: Sink) -> dict[str, bytes]:
    """Give every file of a chain in one place: records and heads by name."""
    names = [*link_names(sink.names(LINK)), *head_names(sink.names(HEAD))]
    return {name: sink.get(name) for name in names}


def read_latest(sink: Sink) -> dict[str, bytes]:
    """Give the last files of a chain, enough for a trend: a long chain is read as a whole by `verify` alone."""
    return {name: sink.get(name) for name in link_names(sink.names(LINK))[-LATEST:]}


def heads_of(files: Mapping[str, bytes]) -> list[bytes]:
    """Give the texts of the heads among files."""
    return [files[name] for name in head_names(files)]


def take_turn(ledger: Ledger, run: Run, *, patience: float, waiting: Callable[[str], None]) -> Turn:
    """Write down that a run starts, before its step one; waits up to `patience` seconds while another runs.

    The attempt is counted here. A slot that has an ended run gives that, and nothing is written.

    Raises:
        Refused: another drill runs (`DrillRunning`), or the chain's end cannot be read (`BrokenLedger`).
        WorldFailed: the first place gives no answer.
    """
    ends, lost, begun = ledger.clock.monotonic() + patience, 0, run
    while lost < TRIES:
        recent = _recent(ledger.places[0])
        mine = [link for link in recent if link.run_id == run.id]
        done = [link for link in mine if link.stage is Stage.ENDED]
        if done and run.slot:
            return Turn(run=run, done=done[-1])
        if _is_start_of(mine, run):
            # Ours, and the answer got lost.
            return Turn(run=replace(begun, attempt=mine[-1].attempt))
        busy = _running(recent, stamp(ledger.clock.now()))
        if busy:
            waiting(busy)
            if ledger.clock.monotonic() + PAUSE > ends:
                raise Refused(
                    busy, reason="DrillRunning", hint="one drill at a time: wait for it (--wait), or for its deadline"
                )
            ledger.clock.sleep(PAUSE)
            continue
        attempt = 1 + sum(1 for link in mine if link.stage is Stage.STARTED)
        now = ledger.clock.now()
        begun = replace(run, attempt=attempt, started=now, deadline=now + (run.deadline - run.started))
        if _put(ledger, recent, Stage.STARTED, started_record(begun)):
            replicate(ledger.places)
            return Turn(run=begun)
        lost += 1
    raise Timeout(f"others appended {TRIES} times in a row", reason="LedgerBusy")


def append(ledger: Ledger, stage: Stage, record: Mapping[str, Any]) -> Link:
    """Append one record to every place; gives its link.

    Raises:
        Refused: the chain's end cannot be read. WorldFailed: the first place gives no answer.
    """
    for _ in range(TRIES):
        recent = _recent(ledger.places[0])
        made = _made(recent, stage, record, ledger.notary)
        same = [link for link in recent if link.stage is stage and link.record == record]
        if same:
            # A put whose answer got lost: what is there is ours.
            return same[-1]
        if _put_text(ledger.places[0], *made):
            replicate(ledger.places)
            found = read_link(made[1])
            assert found is not None
            return found
    raise Timeout(f"others appended {TRIES} times in a row", reason="LedgerBusy")


def replicate(places: Sequence[Sink]) -> list[str]:
    """Bring every further place up to date with the first; gives what could not be, in words.

    A place that is away stays behind until the next record; one that holds other bytes is named, never overwritten.
    """
    if len(places) < 2:
        return []
    source, problems = places[0], []
    names = [*link_names(source.names(LINK)), *head_names(source.names(HEAD))]
    for place in places[1:]:
        try:
            have = set(place.names())
            for name in names:
                if name not in have:
                    place.put(name, source.get(name))
        except SecretsOpsError as error:
            problems.append(f"{place.name}: {error.message} ({error.reason})")
    return problems


def countersign(places: Sequence[Sink], verification: Verification, notary: Notary, *, at: str) -> str:
    """Write the head of a chain that holds to every place; gives its name.

    Raises:
        Refused: the chain does not hold, is empty, or this key signs its records.
    """
    if not verification.holds or not verification.links:
        problem = next((found.message for found in verification.findings if not found.note), "there is no record")
        raise Refused(f"not countersigned: {problem}", reason="BrokenLedger", hint="secretsops drill report verify")
    if notary.public in {link.signer for link in verification.links}:
        raise Refused(
            "this key signs records of the chain", reason="SameSigner", hint="countersign with another person's key"
        )
    name, text = new_head(verification.links, at, notary)
    for place in places:
        place.put(name, text)
    return name


def judged(
    places: Sequence[Sink],
    *,
    runners: frozenset[str] | None,
    countersigners: frozenset[str] | None,
    witnesses: Sequence[bytes] = (),
) -> tuple[Verification, list[str]]:
    """Give the judgement of the longest chain of the places, and in words where places differ.

    Heads of all places and of `witnesses` are held against it.
    """
    copies = {place.name: read_files(place) for place in places}
    name = max(copies, key=lambda each: len(link_names(copies[each])))
    heads = [text for files in copies.values() for text in heads_of(files)]
    found = verify(copies[name], heads={*heads, *witnesses}, runners=runners, countersigners=countersigners)
    return found, list(_differing(copies, name))


def _differing(copies: Mapping[str, Mapping[str, bytes]], longest: str) -> list[str]:
    found = []
    for name, files in copies.items():
        other = [link for link in link_names(files) if files[link] != copies[longest].get(link)]
        behind = len(link_names(copies[longest])) - len(link_names(files))
        if other:
            found.append(f"{name} has another {other[0]} than {longest}")
        elif behind:
            found.append(f"{name} lacks {behind} record(s) of {longest}")
    return found


def _recent(sink: Sink) -> list[Link]:
    """Read the last links, each proven to follow the one before."""
    names = link_names(sink.names(LINK))[-WINDOW:]
    found: list[Link] = []
    for name in names:
        link = read_link(sink.get(name))
        joined = link is not None and (
            not found or (link.previous, link.sequence - 1) == (found[-1].digest, found[-1].sequence)
        )
        if link is None or link_name(link.sequence) != name or not joined:
            raise Refused(
                f"{name} in {sink.name} does not follow the record before it",
                reason="BrokenLedger",
                hint="secretsops drill report verify says what is wrong; keep this ledger, begin another",
            )
        found.append(link)
    return found


def _running(recent: Sequence[Link], now: str) -> str:
    """Say which drill runs now, "" when none does: the last start without an end whose deadline is ahead."""
    lasting = [link for link in recent if link.stage in RUNNING]
    if not lasting or lasting[-1].stage is not Stage.STARTED:
        return ""
    timing = lasting[-1].record.get("schedule")
    deadline = timing.get("deadline") if isinstance(timing, dict) else ""
    ahead = isinstance(deadline, str) and deadline > now
    return f"{lasting[-1].run_id} runs, until {deadline} at most" if ahead else ""


def _is_start_of(mine: Sequence[Link], run: Run) -> bool:
    if not mine or mine[-1].stage is not Stage.STARTED:
        return False
    identity = mine[-1].record.get("identity")
    return isinstance(identity, dict) and identity.get("nonce") == run.nonce


def _made(recent: Sequence[Link], stage: Stage, record: Mapping[str, Any], notary: Notary) -> tuple[str, bytes]:
    sequence = recent[-1].sequence + 1 if recent else 1
    return new_link(sequence, recent[-1].digest if recent else "", stage, record, notary)


def _put(ledger: Ledger, recent: Sequence[Link], stage: Stage, record: Mapping[str, Any]) -> bool:
    return _put_text(ledger.places[0], *_made(recent, stage, record, ledger.notary))


def _put_text(sink: Sink, name: str, text: bytes) -> bool:
    """Write one file; False when another was faster, or when what is there decides after a lost answer."""
    try:
        sink.put(name, text)
    except BrokenEscrow as error:
        if error.reason == "Exists":
            return False
        raise
    except WorldFailed:
        if name in sink.names(LINK):
            return False
        raise
    return True
