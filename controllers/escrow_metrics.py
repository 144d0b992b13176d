"""The metrics of escrow, in Prometheus' text format; no label names a key. Pure.

Never here: when they are read, what escrow does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from secretsops.escrow import backup
from secretsops.escrow.custody import Custodian
from secretsops.escrow.receipt import Receipt


def exposition(
    *,
    now: dt.datetime,
    unescrowed: int,
    fenced: bool,
    receipt: Receipt | None,
    opened: dt.datetime | None,
    custodians: Sequence[Custodian],
) -> str:
    """Give what is known: a figure nobody has is left out, never zero."""
    lines = [
        *_gauge("unescrowed_keys", "Usable sealing keys without a proven backup.", {"": float(unescrowed)}),
        *_gauge("fenced", "1 where another incarnation has the claim.", {"": float(fenced)}),
    ]
    if receipt is not None:
        age = (now - _time(receipt.made)).total_seconds()
        ages = {f'sink="{_escaped(each.sink)}"': age for each in receipt.sinks}
        lines += _gauge("receipt_age_seconds", "Since this sink was read back.", ages)
    if opened is not None:
        since = (now - opened).total_seconds()
        lines += _gauge("verified_restore_age_seconds", "Since somebody opened an epoch.", {"": since})
    if custodians:
        days = [(each.until - now).total_seconds() / 86400 if each.until else 0.0 for each in custodians]
        lines += _gauge("challenge_due_days", "Days until the first recipient is unproven.", {"": max(0.0, min(days))})
    return "\n".join([*lines, ""])


def _time(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, backup.TIME).replace(tzinfo=dt.UTC)


def _gauge(name: str, text: str, values: Mapping[str, float]) -> list[str]:
    full = f"secretsops_escrow_{name}"
    rows = [f"{full}{{{labels}}} {value:g}" if labels else f"{full} {value:g}" for labels, value in values.items()]
    return [f"# HELP {full} {text}", f"# TYPE {full} gauge", *rows]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")[:100]
