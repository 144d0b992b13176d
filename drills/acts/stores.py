"""Acts on secret stores: a snapshot of Vault, its restore. Never here: what an outage does (`faults/outside.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from drills.kinds import Kind, Table
from drills.sandbox.openbao import RaftOpenBao
from drills.scene import Scene
from secretsops.errors import WorldFailed


def raft(scene: Scene) -> RaftOpenBao:
    """Give the Vault of the world.

    Raises:
        WorldFailed: it keeps nothing on disk.
    """
    found = scene.world.openbao()
    if not isinstance(found, RaftOpenBao):
        raise WorldFailed("this Vault keeps nothing on disk", reason="NotRaft", hint="world.vault: raft")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultSnapshot:
    """Keep a raft snapshot of Vault outside."""


def vault_snapshot(scene: Scene, _act: VaultSnapshot) -> str:
    """Take it; it is encrypted by Vault's own key."""
    content = raft(scene).snapshot()
    scene.notes["vault-snapshot"] = scene.write_outside("vault.snapshot", content)
    return f"a snapshot of {len(content)} bytes is kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreVault:
    """Start a new Vault where the lost one was and put the snapshot into it; without, it is empty."""

    snapshot: bool = True


def restore_vault(scene: Scene, act: RestoreVault) -> str:
    """Initialise, restore, unseal."""
    if act.snapshot:
        kept = scene.notes.get("vault-snapshot")
        if kept is None:
            raise WorldFailed("no snapshot was kept", reason="NoSnapshot")
        raft(scene).restore(kept.read_bytes())
        return "Vault is what it was at the snapshot"
    raft(scene).start_anew()
    return "an empty Vault answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseVault:
    """Vault is lost: its process killed, its data deleted."""


def lose_vault(scene: Scene, _fault: LoseVault) -> str:
    """Kill it."""
    raft(scene).lose()
    return "Vault is gone"


TABLE: Table = {
    "vault-snapshot": Kind(parameters=VaultSnapshot, act=vault_snapshot),
    "restore-vault": Kind(parameters=RestoreVault, act=restore_vault),
}
FAULTS: Table = {"lose-vault": Kind(parameters=LoseVault, act=lose_vault)}
