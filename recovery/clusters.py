"""Several clusters in one run: environments as overlays or branches of one repository, one report. Pure.

One after the other, as `recovery.yaml` lists them: whoever needs another cluster first puts that one first. A cluster
that fails stops no other. Never here: rebuilding one (`bootstrap.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recovery.remap import Remap, ServerRule
from secretsops.errors import UsageError

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlace:
    """One cluster: its context in the kubeconfig, what differs from the command line, its old addresses."""

    name: str
    context: str
    repo: str = ""
    revision: str = ""
    path: str = ""
    install: tuple[str, ...] = ()
    escrow: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    """API servers that the lost cluster had: destinations that name one mean this cluster now."""


def chosen_clusters(known: Sequence[ClusterPlace], names: Sequence[str]) -> list[ClusterPlace]:
    """Give the clusters that are meant, in the order of the file.

    Raises:
        UsageError: reason `UnknownCluster`.
    """
    wanted = {one.name for one in known} if ALL in names else set(names)
    unknown = sorted(wanted - {one.name for one in known})
    if unknown or not wanted:
        raise UsageError(
            f"recovery.yaml has no cluster {unknown[0] if unknown else ''!r}",
            reason="UnknownCluster",
            hint=f"it has {', '.join(one.name for one in known) or 'none'}",
        )
    return [one for one in known if one.name in wanted]


def options_for(place: ClusterPlace, options: Mapping[str, Any]) -> dict[str, Any]:
    """Give the options of a run for one of several clusters: what the file says of it wins, its journal is its own."""
    said = {name: getattr(place, name) for name in ("context", "repo", "revision", "path", "install", "escrow")}
    own = {name: value for name, value in said.items() if value}
    return {**options, **own, "journal": f"{options['journal']}/{place.name}", "report": None, "clusters": ()}


def names_for(place: ClusterPlace, remap: Remap) -> Remap:
    """Give what goes by another name in this cluster: its own old addresses are `in-cluster`."""
    mine = tuple(ServerRule(server=server.rstrip("/"), name="in-cluster") for server in place.servers)
    return replace(remap, servers=mine + remap.servers)


def one_report(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Give the report of all: ok only if each is."""
    return {"ok": all(body["ok"] for body in reports.values()), "clusters": dict(reports)}
