"""Which incarnation of the cluster may act, as the sinks' claims say it: this raises and lowers the fence.

What was seen is kept in the ConfigMap of escrow, so that a restart while no sink answers forgets nothing, and a
process without the sealing part (`--controllers external-secrets`) learns it there.
Never here: what a claim is (`secretsops.escrow.claim`), who heeds the fence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from controllers.fence import Fence
from secretsops.errors import NotFound, SecretsOpsError
from secretsops.escrow.claim import Claim
from secretsops.logs import fields
from secretsops.manifest import GroupVersionKind, ObjectKey
from secretsops.ports import Cluster

if TYPE_CHECKING:
    from controllers.loop import Part, Result, Runtime

log = logging.getLogger(__name__)

CONFIGURATION = "secretsops-escrow"
"""Name of the Secret that configures escrow, and of the ConfigMap that says how it stands."""
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
LOOK = 10.0
"""Seconds between two looks at the ConfigMap, in a process that does not look at the sinks itself."""


def judge(fence: Fence, claims: Sequence[Claim] | None, *, uid: Callable[[], str], kept: Callable[[], str]) -> None:
    """Raise the fence where the newest claim is of another incarnation, lower it where it is ours or there is none.

    None says that no sink answered: what was seen before stays. `kept` gives what was seen before the start.
    """
    if claims is None:
        if fence.unknown and not fence.why:
            fence.why = kept()
        return
    holder = claims[-1].incarnation if claims else ""
    why = ""
    if claims and holder != uid():
        why = f"claim {claims[-1].number} of {claims[-1].claimed} is of incarnation {holder}, this is {uid()}"
    if why and fence.why != why:
        log.error("this cluster was replaced: it opens and does nothing else", extra=fields(why=why))
    if fence.why and not why:
        log.warning("this cluster has the claim again")
    fence.why, fence.unknown = why, False


def kept(cluster: Cluster, namespace: str) -> str:
    """Give which claim was seen last, "" for none; raises what the API server answers but `NotFound`."""
    try:
        held = cluster.get(CONFIG_MAP, CONFIGURATION, namespace)
    except NotFound:
        return ""
    return str((held.body.get("data") or {}).get("fenced") or "")


def build(runtime: Runtime) -> Sequence[Part]:
    """Give the part that heeds what the sealing part of another process wrote down."""
    from controllers.loop import Part, Result, Tick

    fence = runtime.fence
    fence.unknown = True

    def look() -> float:
        fence.why, fence.unknown = kept(runtime.cluster, runtime.namespace), False
        return LOOK

    def nothing(_key: ObjectKey) -> Result:
        return Result(action="none")

    return [Part(name="fence", watched=[], reconcile=nothing, ticks=[Tick(name="look", act=look)], workers=0)]


def kept_or_nothing(cluster: Cluster, namespace: str) -> str:
    """Give which claim was seen last, "" also where the API server does not say."""
    try:
        return kept(cluster, namespace)
    except SecretsOpsError:
        return ""
