"""What a cluster holds and Git legitimately lacks, as documents that leave it encrypted: which objects, how. Pure.

All of Argo CD's own configuration, what its own export omits included (argo-cd v3.6 `admin/backup.go` has no
argocd-cmd-params-cm, argocd-gpg-keys-cm, notifications, definitions), Secrets made by hand, and objects that nobody in
Git makes. Plain YAML inside, as `kubectl apply` takes it: whoever opens it with stock `age` needs nothing of ours.
Never here: clusters, encryption, places, what a gap is (`proof/gap.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from recovery.app import CONTROL_NAMESPACE
from recovery.marks import LAST_APPLIED
from recovery.setup import SECRET_TYPE
from secretsops.errors import BrokenEscrow, InvalidManifest
from secretsops.escrow import canonical
from secretsops.escrow.signing import Signer, signed, signed_by
from secretsops.manifest import Manifest, dump_all, load_all
from secretsops.sealing.keys import KEY_LABEL
from secretsops.secret import Plaintext

PREFIX, KIND, VERSION = "export-", "RecoveryExport", 1
ARGO = ("Application", "ApplicationSet", "AppProject")
_CONFIG = ("argocd-cm", "argocd-cmd-params-cm", "argocd-gpg-keys-cm", "argocd-notifications-cm", "argocd-rbac-cm")
_MAPS = frozenset((*_CONFIG, "argocd-ssh-known-hosts-cm", "argocd-tls-certs-cm"))
_SECRETS = frozenset(("argocd-secret", "argocd-notifications-secret"))
_FLEETING = (
    "uid",
    "resourceVersion",
    "managedFields",
    "creationTimestamp",
    "generation",
    "selfLink",
    "deletionTimestamp",
)
_NEVER = frozenset(
    (
        ("", "Pod"),
        ("", "Event"),
        ("", "Node"),
        ("", "Endpoints"),
        ("apps", "ReplicaSet"),
        ("apps", "ControllerRevision"),
    )
)
_MINTED = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1")
"""Types of Secrets that a cluster or a tool makes anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export: `number` counts in its place, `previous` is the digest of the one before, `sha256` of the file."""

    number: int
    previous: str
    created: str
    cluster: str
    file: str
    sha256: str
    size: int
    recipients: Sequence[str]
    objects: Sequence[str]
    signatures: Sequence[Mapping[str, str]] = ()

    @property
    def name(self) -> str:
        """Give the name of its document."""
        return f"{PREFIX}{self.number:08d}.json"

    def body(self) -> dict[str, Any]:
        """Give the document."""
        fields = {**asdict(self), "recipients": list(self.recipients), "objects": list(self.objects)}
        fields["signatures"] = [dict(each) for each in self.signatures]
        return {"apiVersion": "secretsops.dev/v1", "kind": KIND, "version": VERSION, **fields}

    def text(self) -> bytes:
        """Give its bytes."""
        return canonical.encode(self.body())

    def signed_with(self, signers: Sequence[Signer]) -> Export:
        """Give it with these signatures."""
        return replace(self, signatures=tuple(signed(self.body(), signers)["signatures"])) if signers else self

    @property
    def signed_by(self) -> frozenset[str]:
        """Give the keys whose signature is valid."""
        return signed_by(self.body())


def read_exports(files: Mapping[str, bytes]) -> list[Export]:
    """Give the exports of a place, oldest first, each proven to follow the one before.

    Raises:
        BrokenEscrow: one is unreadable, missing or changed.
    """
    found: list[Export] = []
    for number, name in enumerate(sorted(files), start=1):
        body = canonical.decode(files[name])
        try:
            if body is None or (body.pop("kind"), body.pop("version"), body.pop("apiVersion")) != (
                KIND,
                VERSION,
                "secretsops.dev/v1",
            ):
                raise _broken(name)
            one = Export(**{**body, **{key: tuple(body[key]) for key in ("recipients", "objects", "signatures")}})
            sound = one.text() == files[name] and (one.number, one.name) == (number, name)
        except (KeyError, TypeError, ValueError, AttributeError):
            sound = False
        if not sound or one.previous != (canonical.digest(found[-1].text()) if found else ""):
            raise _broken(name)
        found.append(one)
    return found


def _broken(name: str) -> BrokenEscrow:
    return BrokenEscrow(
        f"{name} is no export, or does not follow the one before", reason="BrokenExport", hint="take another copy"
    )


def is_of_argo(manifest: Manifest) -> bool:
    """Say whether an object is part of an Argo CD installation's own state."""
    kind, name = manifest.kind, manifest.name
    if kind.group == "argoproj.io":
        return kind.kind in ARGO
    if (kind.group, kind.kind) == ("apiextensions.k8s.io", "CustomResourceDefinition"):
        return manifest.spec.get("group") == "argoproj.io"
    if kind.group or manifest.namespace != CONTROL_NAMESPACE:
        return False
    if kind.kind == "ConfigMap":
        return name in _MAPS
    return kind.kind == "Secret" and (name in _SECRETS or SECRET_TYPE in manifest.labels)


def is_portable(manifest: Manifest) -> bool:
    """Say whether an object means anything in another cluster: what controllers make, keys in escrow, tokens do not."""
    kind = (manifest.kind.group, manifest.kind.kind)
    if kind in _NEVER or manifest.name == "kube-root-ca.crt":
        return False
    if kind == ("", "Secret"):
        return KEY_LABEL not in manifest.labels and manifest.body.get("type") not in _MINTED
    return True


def cleaned(manifest: Manifest) -> Manifest:
    """Give an object free of what belongs to its cluster alone; a status and an operation are never restored.

    Compat: an Application restored with its status makes the peer believe that it had synced (the peer's own export
    keeps it). Owners stay, without their UIDs, which the import finds anew (the peer's export loses them).
    """
    body = {key: value for key, value in manifest.body.items() if key not in ("status", "operation")}
    metadata = {key: value for key, value in manifest.metadata.items() if key not in _FLEETING}
    annotations = {key: value for key, value in manifest.annotations.items() if key != LAST_APPLIED}
    if manifest.kind.kind == "Secret" and manifest.annotations:  # a copy of the values, which nobody rotates
        metadata["annotations"] = annotations
    owners = [
        {key: value for key, value in owner.items() if key != "uid"} for owner in metadata.get("ownerReferences") or []
    ]
    body["metadata"] = {**metadata, "ownerReferences": owners} if owners else metadata
    return Manifest(body)


def pack(manifests: Iterable[Manifest]) -> tuple[Plaintext, list[str]]:
    """Give the documents and the keys of what is in them, both in order."""
    ordered = sorted((cleaned(manifest) for manifest in manifests), key=lambda one: str(one.key))
    return Plaintext(dump_all([one.body for one in ordered]).encode()), [str(one.key) for one in ordered]


def unpack(content: Plaintext, export: Export) -> list[Manifest]:
    """Give the objects of an export; raises `BrokenEscrow` where others are in it than its document lists."""
    try:
        found = load_all(content.reveal(), source=export.file)
    except InvalidManifest as error:
        raise BrokenEscrow(f"the export opens, but does not hold: {error.problem}", reason="BrokenExport") from None
    if [str(manifest.key) for manifest in found] != list(export.objects):
        raise BrokenEscrow("the export opens, but holds other objects than it lists", reason="BrokenExport")
    return found
