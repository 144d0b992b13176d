"""A part of an estate: the applications one names, with everything below them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recovery.app import App
from recovery.argo import is_application
from recovery.walk import Estate, Planned
from secretsops.errors import UsageError
from secretsops.manifest import Manifest


def narrowed(estate: Estate, names: Sequence[str]) -> tuple[Estate, list[Planned]]:
    """Give the estate with only the applications named (`name` or `namespace/name`) and those below; and the named.

    Of two named, one below the other, only the upper one is among the named.

    Raises:
        UsageError: no application is called so, or several are.
    """
    chosen = {_called(estate, name).app.key for name in names}
    kept: dict[str, Planned] = {}
    for planned in estate.applications:  # parents stand before their children
        if planned.app.key in chosen or planned.parent in kept:
            kept[planned.app.key] = planned
    tops = [kept[key] for key in kept if key in chosen and kept[key].parent not in kept]
    return replace(estate, applications=list(kept.values())), tops


def _called(estate: Estate, name: str) -> Planned:
    found = [planned for planned in estate.applications if name in (planned.app.name, planned.app.key)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(sorted(planned.app.key for planned in (found or estate.applications))[:10])
    raise UsageError(
        f"--only {name}: {'several applications are' if found else 'no application is'} called so",
        reason="NoApplication",
        hint=f"name one of: {known}",
    )


def declaration_of(estate: Estate, planned: Planned) -> tuple[Manifest, App] | None:
    """Give the Application object as its parent applies it, and that parent; None where a set generates it."""
    for parent in estate.applications:
        if parent.app.key != planned.parent:
            continue
        for task in parent.tasks:
            one = task.manifest
            if is_application(one) and one.name == planned.app.name and one.namespace == planned.app.namespace:
                return one, parent.app
    return None
