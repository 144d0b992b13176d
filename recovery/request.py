"""What to rebuild and how, as one value: what the command line, a rehearsal and a drill ask for. Pure.

Never here: how it is carried out (`bootstrap.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recovery.data import DataStep
from recovery.events import Stage
from recovery.kept import Restore
from recovery.remap import Remap
from secretsops.manifest import Manifest
from secretsops.ports import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildRequest:
    """What to rebuild and how."""

    roots: Sequence[Manifest]
    """The root Applications, as one would apply them by hand."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """`url@revision` to commit, where the caller resolved it already; the rest is pinned when the plan is made."""
    install: Sequence[Manifest] = ()
    """Manifests of the controllers (what `secretsops install` prints): CRDs, namespace, RBAC, Deployment, Service."""
    restore_keys: Callable[[Cluster], object] | None = None
    """Called in stage 1 with the cluster, after the namespaces of `install` exist; raises when keys stay missing."""
    restore_secrets: Restore | None = None
    """Called in stage 4 with the cluster and Git's ExternalSecrets before they are applied; their stores may be out."""
    journal: Path | None = None
    """Folder of the journal; None keeps nothing, and a killed run then starts over."""
    resume: bool = False
    """Continue the journal that is there, instead of refusing it."""
    until: Stage = Stage.HEALTH
    """Stop after this stage."""
    patience: float = 300.0
    """Seconds one wait may stand still."""
    deadline: float = 3600.0
    """Seconds for the whole run."""
    hooks: bool = True
    """False leaves out every hook."""
    secrets_first: bool = True
    """Apply and prove all SealedSecrets and ExternalSecrets of the estate before any application (stage 4)."""
    parallel: int = 4
    """Requests in flight at most."""
    override_windows: str = ""
    """Why sync windows do not count in this run; it stands in the report. "" when they do."""
    wave_delay: float = 0.0
    """Seconds to stand still between two waves of an application."""
    only: Sequence[str] = ()
    """Applications (`name` or `namespace/name`) to which the run keeps, with those below; all where empty."""
    prove: Callable[[Cluster], Sequence[str]] | None = None
    """Called in stage 0, before the first write: trust, staleness, the claim. Gives notes, or raises."""
    unfenced: str = ""
    """Why the lost cluster need not be fenced; it stands in journal and report. "" when it was, or needs none."""
    data: Sequence[DataStep] = ()
    """What others bring back in stage 5."""
    hold: bool = False
    """Hold back what acts on the outside, where it is not in the cluster yet, until `golive.go_live`."""
    runner: str = ""
    """Who runs this: a second one is told. "" takes no Lease."""
    remap: Remap = field(default_factory=Remap)
    """What goes by another name in this cluster: images, API servers."""
