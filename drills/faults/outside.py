"""Faults outside clusters: a store, Git or a registry is down or refuses; custodians are missing.

Never here: clusters (`clusters.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drills.kinds import Kind, Table
from drills.sandbox.gate import Refusal
from drills.scene import Scene
from secretsops.errors import WorldFailed

_DENIED = {
    "vault": Refusal(status=403, body=b'{"errors":["permission denied"]}'),
    "aws": Refusal(
        status=400,
        body=b'{"__type":"AccessDeniedException","Message":"not authorized to perform: secretsmanager:GetSecretValue"}',
        content_type="application/x-amz-json-1.1",
    ),
    "git": Refusal(status=403, body=b"denied\n", content_type="text/plain"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """A part of the world does not answer: connections are reset."""

    part: Literal["vault", "aws", "git", "charts"]


def down(scene: Scene, fault: Down) -> str:
    """Shut its gate."""
    scene.gate(fault.part).shut()
    return f"{fault.part} is down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """A part of the world answers every request with a denial, in its own words."""

    part: Literal["vault", "aws", "git"]


def denied(scene: Scene, fault: Denied) -> str:
    """Let its gate refuse."""
    scene.gate(fault.part).refuse(_DENIED[fault.part])
    return f"{fault.part} denies access"


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """A part of the world answers again."""

    part: Literal["vault", "aws", "git", "charts"]


def back(scene: Scene, act: Back) -> str:
    """Open its gate."""
    scene.gate(act.part).open()
    return f"{act.part} answers again"


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodiansMissing:
    """Some of those who hold a share of the recovery identity cannot be reached."""

    count: int


def custodians_missing(scene: Scene, fault: CustodiansMissing) -> str:
    """Take their shares away."""
    present = [path for path in scene.custody.shares if path.exists()]
    if len(present) < fault.count:
        raise WorldFailed(f"there are {len(present)} custodians", reason="NoCustodian")
    for path in present[: fault.count]:
        path.unlink()
    return f"{fault.count} of {len(present)} custodians are missing"


TABLE: Table = {
    "down": Kind(parameters=Down, act=down),
    "denied": Kind(parameters=Denied, act=denied),
    "custodians-missing": Kind(parameters=CustodiansMissing, act=custodians_missing),
}
ACTS: Table = {"back": Kind(parameters=Back, act=back)}
