"""The words in which health tables are written: small rules, tried in order; the first that speaks decides. Pure.

A rule takes an object's body and gives a verdict or None. Never here: which kind has which rules (`health_tables.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recovery.app import Health, HealthState

Clause = Callable[[dict[str, Any]], Health | None]
H, P, D = HealthState.HEALTHY, HealthState.PROGRESSING, HealthState.DEGRADED
S, U, M = HealthState.SUSPENDED, HealthState.UNKNOWN, HealthState.MISSING
MESSAGE = "{message}"
"""Stands for the message of the condition that decides; `{reason}`, `{type}`, `{status}`, `{kind}` for the others."""


def table(*clauses: Clause) -> Callable[[dict[str, Any]], Health | None]:
    """Make a rule of clauses: the first that gives a verdict."""

    def rule(body: dict[str, Any]) -> Health | None:
        return next((found for clause in clauses if (found := clause(body)) is not None), None)

    return rule


def status_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Give the status, empty where there is none."""
    found = body.get("status")
    return found if isinstance(found, dict) else {}


def conditions_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the conditions, whatever else stands there left out."""
    found = status_of(body).get("conditions")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def at(body: Any, path: str) -> Any:
    """Give what a dotted path leads to, None where it leads nowhere."""
    for name in path.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body


def said(text: str, condition: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """Fill a text in from a condition."""
    for name in ("message", "reason", "type", "status"):
        text = text.replace(f"{{{name}}}", str(condition.get(name) or ""))
    return text.replace("{kind}", str(body.get("kind") or ""))


def when(
    type_: str,
    status: str,
    state: HealthState,
    text: str = MESSAGE,
    *,
    reason: Sequence[str] = (),
) -> Clause:
    """Decide where a condition has this status (and one of these reasons)."""

    def clause(body: dict[str, Any]) -> Health | None:
        for one in conditions_of(body):
            if one.get("type") != type_ or str(one.get("status")) != status:
                continue
            why = str(one.get("reason") or "")
            if reason and why not in reason:
                continue
            return Health(state, said(text, one, body))
        return None

    return clause


def each(verdicts: Mapping[tuple[str, str], tuple[HealthState, str]]) -> Clause:
    """Decide by the first condition, in the order of the status, that the table knows as (type, status)."""

    def clause(body: dict[str, Any]) -> Health | None:
        for one in conditions_of(body):
            found = verdicts.get((str(one.get("type")), str(one.get("status"))))
            if found is not None:
                return Health(found[0], said(found[1], one, body))
        return None

    return clause


def field(path: str, verdicts: Mapping[Any, tuple[HealthState, str]], *, text: str = "") -> Clause:
    """Decide by the value of a field; a text that begins with `$` names another field to quote."""

    def clause(body: dict[str, Any]) -> Health | None:
        value = at(body, path)
        found = verdicts.get(value) if isinstance(value, str | int | bool) else None
        if found is None:
            return None
        shown = found[1] or text
        return Health(found[0], str(at(body, shown[1:]) or "") if shown.startswith("$") else shown)

    return clause


def has(path: str, state: HealthState, text: str) -> Clause:
    """Decide where a field is there and not empty."""

    def clause(body: dict[str, Any]) -> Health | None:
        found = at(body, path)
        if found in (None, "", [], {}, False):
            return None
        return Health(state, str(found) if text == "$" else text)

    return clause


def stale(state: HealthState, text: str, *, strict: bool = False) -> Clause:
    """Decide where the status is of an older generation; without a number in it only if `strict`."""

    def clause(body: dict[str, Any]) -> Health | None:
        seen, wanted = status_of(body).get("observedGeneration"), at(body, "metadata.generation")
        if wanted is None or (seen is None and not strict):
            return None
        return Health(state, said(text, {}, body)) if seen != wanted else None

    return clause


def unseen(state: HealthState, text: str) -> Clause:
    """Decide where there is no status yet."""

    def clause(body: dict[str, Any]) -> Health | None:
        return Health(state, said(text, {}, body)) if not status_of(body) else None

    return clause


def otherwise(state: HealthState, text: str) -> Clause:
    """Decide in any case."""
    return lambda body: Health(state, said(text, {}, body))
