"""`recover verify`: would Git and the escrow give back every Secret that the estate needs? The spine of the proof.

Read the estate → ask of every Secret who makes it → judge sealed items by what is known of their keys → matrix,
secret-zero manifest, percentages, RPO. Never here: options, printing, how an escrow is read.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from recovery.proof.evidence import (
    Escrowed,
    Known,
    Mode,
    Opener,
    SealedFound,
    Verdict,
    judge_sealed,
    statement_id,
)
from recovery.proof.producers import Inquest, Row, Zero
from recovery.proof.subject import Subject
from recovery.recovery_plan import RecoveryPlan
from secretsops.manifest import Manifest
from secretsops.sealing.sealed_with import SealedWith

State = Callable[[str, str, str], None]
"""Is told (statement id, fingerprint, how) of every item that somebody opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a proof rests on. `opener` asks the controller or an identity; `known` and `state` keep what was found."""

    mode: Mode
    escrowed: Escrowed
    plan: RecoveryPlan = field(default_factory=RecoveryPlan)
    known: Known = lambda _: ""
    state: State = lambda _id, _key, _how: None
    opener: Opener | None = None
    findings: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answer. `rpo` is in seconds, None where it is not known; `problems` are of the plan itself."""

    mode: Mode
    rows: Sequence[Row]
    zero: Sequence[Zero]
    escrowed: Escrowed
    rpo: float | None
    problems: Sequence[str] = ()
    findings: Sequence[str] = ()

    @property
    def holes(self) -> list[Row]:
        """Give every row that does not come back, the unknown ones too; what can be done without is none."""
        return [row for row in self.rows if row.verdict is not Verdict.RECOVERABLE and not row.optional]

    @property
    def ok(self) -> bool:
        """Say whether everything comes back."""
        return not self.holes and not self.problems

    def body(self) -> dict[str, Any]:
        """Give the report as stable plain data; no secret is in it."""
        return {
            "apiVersion": "secretsops.dev/v1",
            "kind": "VerifyReport",
            "mode": self.mode.value,
            "verdict": "recoverable" if self.ok else "holes",
            "percentages": self.percentages(),
            "rpoSeconds": self.rpo,
            "escrow": {
                "epoch": self.escrowed.epoch,
                "created": self.escrowed.created,
                "keys": len(self.escrowed.keys),
                "unproven": self.escrowed.unproven,
                "attested": self.escrowed.attested_at,
            },
            "matrix": [_row(row) for row in self.rows],
            "secretZero": [
                {"type": e.type, "name": e.name, "source": e.source, "neededFor": list(e.needed_for)} for e in self.zero
            ],
            "problems": list(self.problems),
            "findings": list(self.findings),
        }

    def percentages(self) -> dict[str, float]:
        """Give how much of each kind comes back, and of sealed items; 100 where there is none."""
        found = {}
        for kind in ("secret", "repository", "cluster"):
            rows = [row for row in self.rows if row.kind == kind and not row.optional]
            found[kind] = _percent(sum(row.verdict is Verdict.RECOVERABLE for row in rows), len(rows))
        items = Counter({verdict: sum(r.items for r in self.rows if r.verdict is verdict) for verdict in Verdict})
        found["sealedItem"] = _percent(items[Verdict.RECOVERABLE], sum(items.values()))
        return found


def _percent(part: int, whole: int) -> float:
    return round(100.0 * part / whole, 1) if whole else 100.0


def _row(row: Row) -> dict[str, Any]:
    body = asdict(row)
    return {
        "kind": body["kind"],
        "object": body["object"],
        "producer": body["producer"],
        "keys": list(body["keys"]),
        "verdict": row.verdict.value,
        "how": body["how"],
        "items": body["items"],
        "why": body["why"],
        "cure": body["cure"],
        "optional": body["optional"],
        "neededBy": list(body["needed_by"]),
    }


def verify(subject: Subject, proof: Proof, now: dt.datetime) -> Report:
    """Give the whole proof."""

    # An exercise with a real identity opens everything itself: nobody's word stands in for that.
    escrowed = replace(proof.escrowed, attested={}) if proof.mode is Mode.ESCROW else proof.escrowed

    def judged(sealed: Manifest) -> SealedFound:
        return judge_sealed(sealed, escrowed, proof.known, proof.opener and remembering)

    def remembering(sealed: Manifest) -> Mapping[str, str]:
        assert proof.opener is not None
        opened, hints = proof.opener(sealed), SealedWith.read(sealed.annotations)
        for name, told in opened.items():
            key = told or hints.key_of(name)  # the controller opens, and does not tell by which key
            if key:
                proof.state(statement_id(sealed, name, sealed.spec["encryptedData"][name]), key, proof.mode.value)
        return opened

    inquest = Inquest(subject=subject, plan=proof.plan, sealed=judged)
    rows = inquest.rows()
    zero = list(dict.fromkeys([*_keys_zero(rows, proof.escrowed), *inquest.zero]))
    return Report(
        mode=proof.mode,
        rows=rows,
        zero=zero,
        escrowed=proof.escrowed,
        rpo=recovery_point(rows, proof.escrowed, now),
        problems=[str(problem) for problem in subject.estate.problems],
        findings=[*proof.findings, *_findings(rows, proof)],
    )


def _keys_zero(rows: Sequence[Row], escrowed: Escrowed) -> list[Zero]:
    """Give what opens sealed items: the keys of the escrow, and an identity that opens it."""
    users = tuple(dict.fromkeys(row.object for row in rows if row.keys))
    if not users:
        return []
    where = f"escrow epoch {escrowed.epoch} ({', '.join(escrowed.sinks)})" if escrowed.epoch else "no escrow was named"
    keys = sorted({key for row in rows for key in row.keys})
    found = [Zero(type="sealing-key", name=key, source=where) for key in keys]
    holders = ", ".join(escrowed.recipients) or "nobody"
    return [
        *found,
        Zero(type="escrow-identity", name="age identity", source=f"held for {holders}", needed_for=users[:20]),
    ]


def recovery_point(rows: Sequence[Row], escrowed: Escrowed, now: dt.datetime) -> float | None:
    """Give the secret RPO: how old the oldest sealed change that would be lost can be, in seconds.

    0 where every sealed item comes back. What an unescrowed key sealed is younger than the newest epoch, which would
    hold the key otherwise; without an epoch nothing bounds it.
    """
    lost = [row for row in rows if row.items and row.verdict is not Verdict.RECOVERABLE]
    if not lost:
        return 0.0
    try:
        written = dt.datetime.fromisoformat(escrowed.created)
    except ValueError:
        return None
    return max(0.0, (now - written).total_seconds())


def _findings(rows: Sequence[Row], proof: Proof) -> list[str]:
    found = []
    hints = sum(row.items for row in rows if row.how == "hint")
    if hints:
        found.append(f"{hints} sealed item(s) rest on annotations alone: `verify --live` or `--escrow` proves them")
    committed = [row.object for row in rows if "committed as it is" in row.why]
    if committed:
        found.append(f"{len(committed)} Secret(s) are readable in Git: {', '.join(committed[:5])}")
    if proof.escrowed.unproven:
        found.append(proof.escrowed.unproven)
    return [*found, *proof.escrowed.notes]


def table(body: Mapping[str, Any], *, everything: bool) -> str:
    """Give a report's body for a terminal: holes, or the whole matrix."""
    holes = [row for row in body["matrix"] if row["verdict"] != Verdict.RECOVERABLE and not row["optional"]]
    lines = []
    for row in body["matrix"] if everything else holes:
        keys = f" [{', '.join(key[:19] for key in row['keys'])}]" if row["keys"] else ""
        mark = f"({row['verdict']})" if row["optional"] else row["verdict"]
        lines.append(f"{mark:<13}{row['object']}  {row['producer'] or 'no producer'}{keys}: {row['why']}")
        if row["neededBy"] and row["verdict"] != Verdict.RECOVERABLE:
            more = f" and {len(row['neededBy']) - 3} more" if len(row["neededBy"]) > 3 else ""
            lines.append(f"{'':<13}needed by {', '.join(row['neededBy'][:3])}{more}")
        if row["cure"]:
            lines.append(f"{'':<13}cure: {row['cure']}")
    lines += [f"problem: {problem}" for problem in body["problems"]]
    lines += [f"finding: {finding}" for finding in body["findings"]]
    lines.append("secret zero, what must come from outside Git:")
    zero = [f"  {entry['type']:<22} {entry['name']}  from: {entry['source']}" for entry in body["secretZero"]]
    lines += zero or ["  nothing"]
    said = ", ".join(f"{kind} {share:g} %" for kind, share in body["percentages"].items())
    rpo = "unknown" if body["rpoSeconds"] is None else f"{body['rpoSeconds']:.0f} s"
    lines.append(f"comes back: {said}; secret RPO {rpo}; mode {body['mode']}")
    fine = body["verdict"] == "recoverable"
    lines.append("verdict: every secret comes back" if fine else f"verdict: {len(holes)} hole(s)")
    return "\n".join(lines) + "\n"
