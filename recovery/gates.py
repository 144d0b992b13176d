"""Whose rules decide when a step of a sync is through, as a value: the strict gate of a rebuild, or the peer's own.

`STRICT` waits for everything to be healthy at every depth and takes no passing failure for an answer (`plan.py`);
`ARGO` is the peer's behaviour (`operation.py`). `spine.py` carries out what either decides. Pure. Never here: acting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recovery import operation, plan
from recovery.judge import Judge
from recovery.order import Task
from recovery.plan import ChildGate, Decision, Progress, State
from secretsops.errors import SecretsOpsError
from secretsops.manifest import Manifest, ObjectKey

RBAC = "rbac.authorization.k8s.io"
_REQUEST = re.compile(r"[A-Z]+ /\S+: ")
"""What the Cluster door puts before a refusal: method and path."""

Decide = Callable[[Sequence[Task], Mapping[ObjectKey, Manifest], Progress, ChildGate, Judge], Decision]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One set of rules: what is next, and what a write that does not succeed means."""

    name: str
    decide: Decide
    patient: bool
    """Whether a write that failed in passing is waited out, and holds back what comes after it; else it has failed."""
    reconciles_rbac: bool
    """Whether roles and bindings are applied in the peer's two requests."""
    pruned: State
    """What a deletion that was accepted counts as: done, or running until the object is gone."""
    refused: Callable[[SecretsOpsError, Manifest], str]
    """The words for a write that was refused."""


def is_rbac(manifest: Manifest) -> bool:
    """Say whether the peer reconciles the object before it applies it."""
    return manifest.kind.group == RBAC and manifest.kind.version == "v1"


def _refused_by_strict(error: SecretsOpsError, _manifest: Manifest) -> str:
    return f"{error.message} ({error.reason})"


def _refused_by_argo(error: SecretsOpsError, manifest: Manifest) -> str:
    said = _REQUEST.sub("", error.message)
    return f"error running kubectl auth reconcile: {said}" if is_rbac(manifest) else said


STRICT = Gate(
    name="strict",
    decide=plan.decide,
    patient=True,
    reconciles_rbac=False,
    pruned=State.RUNNING,
    refused=_refused_by_strict,
)
ARGO = Gate(
    name="argo",
    decide=operation.decide,
    patient=False,
    reconciles_rbac=True,
    pruned=State.SUCCEEDED,
    refused=_refused_by_argo,
)
