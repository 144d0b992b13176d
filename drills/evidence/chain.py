"""The chain of records: each names the digest of the file before it, so that none is removed, altered or moved. Pure.

Two files per run, `started` before step one and `ended` after it; a `skipped` one says why a slot had no run, a `noted`
one what came of a run afterwards: a finding with its owner, a review. Whoever
signs the records could write the whole chain anew, or cut off its end: a *head*, signed by somebody else, says how far
the chain went and with which digest. Heads are worth most where the runner cannot reach them.

Never here: reading or writing places (`ledger.py`), who may sign (given as keys).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from drills.evidence.statement import Envelope, read_envelope, read_predicate, sealed
from secretsops.escrow.canonical import digest
from secretsops.ports import Notary

LINK, HEAD = "drill-", "head-"
LIMIT = 100_000
"""Links of one chain: a run an hour for five years."""
_LINK = re.compile(r"drill-(\d{8})\.json")
_HEAD = re.compile(r"head-(\d{8})-[0-9a-f]{16}\.json")


class Stage(StrEnum):
    """What a link says of its run."""

    STARTED = "started"
    ENDED = "ended"
    SKIPPED = "skipped"
    NOTED = "noted"


RUNNING = (Stage.STARTED, Stage.ENDED)
"""What tells whether a drill runs; skips and notes come at any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One file of the chain. `digest` is of the file, `previous` that of the file before, "" for the first."""

    sequence: int
    stage: Stage
    previous: str
    digest: str
    record: Mapping[str, Any] = field(repr=False)
    signer: str
    """The key that the signed text names as its signer; `verify` says whether it was one that may."""
    envelope: Envelope = field(repr=False)

    @property
    def run_id(self) -> str:
        """Give the id of the run, "" where the record has none."""
        identity = self.record.get("identity")
        found = identity.get("runId") if isinstance(identity, dict) else ""
        return found if isinstance(found, str) else ""

    @property
    def attempt(self) -> int:
        """Give the number of the attempt, 0 where the record has none."""
        identity = self.record.get("identity")
        found = identity.get("attempt") if isinstance(identity, dict) else 0
        return found if type(found) is int else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far a chain went, as somebody else saw it: number and digest of its last file, starts and ends up to it."""

    sequence: int
    digest: str
    starts: int
    ends: int
    at: str
    signer: str
    envelope: Envelope = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with a chain: stable `reason`, the file it is about, words. `note` findings don't fail it."""

    reason: str
    where: str
    message: str
    note: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A chain as judged: its links in order, heads that count, findings, and the last file that a head vouches for."""

    links: Sequence[Link]
    heads: Sequence[Head]
    findings: Sequence[Finding]
    vouched: int

    @property
    def holds(self) -> bool:
        """Say whether nothing is wrong."""
        return not any(not finding.note for finding in self.findings)


def link_name(sequence: int) -> str:
    """Give the file name of a link."""
    return f"{LINK}{sequence:08d}.json"


def link_names(names: Iterable[str]) -> list[str]:
    """Give the names of links among file names, oldest first."""
    return sorted(name for name in names if _LINK.fullmatch(name))


def head_names(names: Iterable[str]) -> list[str]:
    """Give the names of heads among file names, oldest first."""
    return sorted(name for name in names if _HEAD.fullmatch(name))


def new_link(
    sequence: int, previous: str, stage: Stage, record: Mapping[str, Any], notary: Notary
) -> tuple[str, bytes]:
    """Give name and text of the next file of a chain."""
    predicate = {
        "sequence": sequence,
        "previous": previous,
        "stage": stage.value,
        "signer": notary.public,
        "record": dict(record),
    }
    return link_name(sequence), sealed(f"{stage}/v1", link_name(sequence), predicate, [notary])


def new_head(links: Sequence[Link], at: str, notary: Notary) -> tuple[str, bytes]:
    """Give name and text of the head that vouches for a chain up to its last link."""
    last = links[-1]
    predicate = {
        "sequence": last.sequence,
        "digest": last.digest,
        "starts": sum(1 for link in links if link.stage is Stage.STARTED),
        "ends": sum(1 for link in links if link.stage is Stage.ENDED),
        "at": at,
        "signer": notary.public,
    }
    text = sealed("head/v1", f"head of {link_name(last.sequence)}", predicate, [notary])
    return f"{HEAD}{last.sequence:08d}-{digest(text)[:16]}.json", text


def read_link(content: bytes) -> Link | None:
    """Give the link of a file, None when it is none; its signature is not looked at."""
    envelope = read_envelope(content)
    if envelope is None:
        return None
    for stage in Stage:
        body = read_predicate(envelope.payload, f"{stage}/v1")
        if body is not None:
            return _link(body, stage, envelope, content)
    return None


def read_head(content: bytes) -> Head | None:
    """Give the head of a file, None when it is none; its signature is not looked at."""
    envelope = read_envelope(content)
    body = read_predicate(envelope.payload, "head/v1") if envelope else None
    if envelope is None or body is None or set(body) != {"sequence", "digest", "starts", "ends", "at", "signer"}:
        return None
    numbers = (body["sequence"], body["starts"], body["ends"])
    texts = (body["digest"], body["at"], body["signer"])
    if not all(type(each) is int for each in numbers) or not all(isinstance(each, str) for each in texts):
        return None
    return Head(**body, envelope=envelope)


def verify(
    files: Mapping[str, bytes],
    *,
    heads: Iterable[bytes] = (),
    runners: frozenset[str] | None = None,
    countersigners: frozenset[str] | None = None,
) -> Verification:
    """Judge a chain: whole, in order, signed by `runners`, as far as every head of `countersigners` saw it.

    Without keys the signature of each file is checked against the key that the file itself names, and a note says
    that nobody vouches for those keys. `heads` are texts of head files, from the place itself and from elsewhere.
    """
    findings: list[Finding] = []
    links = list(_read_links(files, findings))
    findings += [found for link in links for found in _signature(link, runners)]
    findings += _order(links)
    if runners is None and links:
        named = ", ".join(sorted({link.signer for link in links})[:4])
        text = f"no key was given: signatures are of the keys the records name ({named})"
        findings.append(Finding(reason="KeysNotGiven", where="", message=text, note=True))
    counted = _heads(heads, {link.signer for link in links}, countersigners, findings)
    findings += _against_heads(links, counted)
    by_number = {link.sequence: link.digest for link in links}
    vouched = max((head.sequence for head in counted if by_number.get(head.sequence) == head.digest), default=0)
    findings += list(_not_vouched(links, vouched))
    return Verification(links=links, heads=counted, findings=findings, vouched=vouched)


def _link(body: Mapping[str, Any], stage: Stage, envelope: Envelope, content: bytes) -> Link | None:
    if set(body) != {"sequence", "previous", "stage", "signer", "record"} or body["stage"] != stage.value:
        return None
    if type(body["sequence"]) is not int or not isinstance(body["record"], dict):
        return None
    if not isinstance(body["previous"], str) or not isinstance(body["signer"], str):
        return None
    return Link(
        sequence=body["sequence"],
        stage=stage,
        previous=body["previous"],
        digest=digest(content),
        record=body["record"],
        signer=body["signer"],
        envelope=envelope,
    )


def _read_links(files: Mapping[str, bytes], findings: list[Finding]) -> Iterator[Link]:
    names = link_names(files)
    if len(names) > LIMIT:
        findings.append(Finding(reason="TooLarge", where="", message=f"there are more than {LIMIT} files"))
        return
    expected = 1
    for name in names:
        number = int(name[len(LINK) : len(LINK) + 8])
        if number != expected:
            missing = link_name(expected) if number == expected + 1 else f"{link_name(expected)} and more"
            findings.append(Finding(reason="Removed", where=link_name(expected), message=f"{missing} is missing"))
        expected = number + 1
        link = read_link(files[name])
        if link is None:
            findings.append(Finding(reason="Altered", where=name, message=f"{name} is no record of a drill"))
        elif link.sequence != number:
            text = f"{name} holds record {link.sequence}"
            findings.append(Finding(reason="Moved", where=name, message=text))
        else:
            yield link


def _signature(link: Link, runners: frozenset[str] | None) -> Iterator[Finding]:
    name = link_name(link.sequence)
    allowed = frozenset((link.signer,)) if runners is None else runners & {link.signer}
    if not link.envelope.signed_by(allowed):
        who = "by the key it names" if runners is None else "by a key that may"
        yield Finding(reason="NotSigned", where=name, message=f"{name} is not signed {who}")


def _order(links: Sequence[Link]) -> Iterator[Finding]:
    """Find broken joints, ends without a start, and starts without an end."""
    before: Link | None = None
    open_run: Link | None = None
    for link in links:
        name = link_name(link.sequence)
        joined = link.previous == (before.digest if before else "")
        if not joined and (before is None or before.sequence == link.sequence - 1):
            text = f"{name} does not follow the file before it: one of the two was altered"
            yield Finding(reason="Altered", where=name, message=text)
        key = (link.run_id, link.attempt)
        if link.stage is Stage.ENDED:
            if open_run is None or key != (open_run.run_id, open_run.attempt):
                yield Finding(reason="NoStart", where=name, message=f"run {link.run_id} ended without having started")
            open_run = None
        elif link.stage is Stage.STARTED:
            if open_run is not None:
                yield _unfinished(open_run)
            open_run = link
        before = link
    if open_run is not None:
        yield _unfinished(open_run)


def _unfinished(link: Link) -> Finding:
    text = f"run {link.run_id}, attempt {link.attempt}, has no end: it counts as failed"
    return Finding(reason="Unfinished", where=link_name(link.sequence), message=text, note=True)


def _heads(
    texts: Iterable[bytes], runners: set[str], countersigners: frozenset[str] | None, findings: list[Finding]
) -> list[Head]:
    counted = {}
    for text in texts:
        head = read_head(text)
        if head is None:
            findings.append(Finding(reason="BadHead", where="", message="a head cannot be read"))
            continue
        where = f"head of {link_name(head.sequence)}"
        allowed = frozenset((head.signer,)) if countersigners is None else countersigners & {head.signer}
        if not head.envelope.signed_by(allowed):
            findings.append(Finding(reason="BadHead", where=where, message=f"{where} is not signed by a key that may"))
        elif head.signer in runners:
            text_ = f"{where} is signed by a key that signs records: it says nothing about them"
            findings.append(Finding(reason="SameSigner", where=where, message=text_))
        else:
            counted[digest(text)] = head
    return sorted(counted.values(), key=lambda head: (head.sequence, head.at))


def _against_heads(links: Sequence[Link], heads: Sequence[Head]) -> Iterator[Finding]:
    by_number = {link.sequence: link for link in links}
    for head in heads:
        name = link_name(head.sequence)
        link = by_number.get(head.sequence)
        if link is None:
            text = f"somebody saw {name} at {head.at}; it is gone"
            yield Finding(reason="Hidden", where=name, message=text)
        elif link.digest != head.digest:
            text = f"{name} is not the file that somebody saw at {head.at}: the chain was written anew"
            yield Finding(reason="Rewritten", where=name, message=text)
        else:
            upto = [link for link in links if link.sequence <= head.sequence]
            starts = sum(1 for link in upto if link.stage is Stage.STARTED)
            ends = sum(1 for link in upto if link.stage is Stage.ENDED)
            if (starts, ends) != (head.starts, head.ends):
                yield Finding(reason="Hidden", where=name, message=f"runs counted in the head of {name} are not there")


def _not_vouched(links: Sequence[Link], vouched: int) -> Iterator[Finding]:
    after = [link for link in links if link.sequence > vouched]
    if after:
        what = f"{len(after)} file(s) after {link_name(vouched)}" if vouched else "no file"
        text = f"{what} {'have' if vouched else 'has'} {'no head yet' if vouched else 'a head of another signer'}"
        yield Finding(reason="NotCountersigned", where=link_name(after[0].sequence), message=text, note=True)
