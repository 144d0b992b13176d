"""Acts on escrow and sealing keys: back up, escrow before use, renew, gather custodians.

Everything outside the cluster lies in the drill's own folder or in sinks of its world; identities are made for the run.
Never here: restoring (`recovery.py`).
"""

from __future__ import annotations

import base64
import email.utils
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from drills import estate
from drills.acts.clusters import with_arguments
from drills.kinds import Kind, Table
from drills.sandbox.loopback import send
from drills.scene import Scene, until
from drills.strict import Duration, Name
from drills.timeline import PROTECTED
from secretsops.errors import NotFound, WorldFailed
from secretsops.manifest import GroupVersionKind, Manifest

HOME = "kube-system"
DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
SECRET = GroupVersionKind("", "v1", "Secret")
CONFIGURATION = "secretsops-escrow"
BUCKET_REGION = "us-east-1"
"""Where a bucket needs no location constraint."""
KEY_LABEL = "sealedsecrets.bitnami.com/sealed-secrets-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Escrow:
    """Back the sealing keys up to an age recipient; its identity stays outside, whole or split among custodians."""

    cluster: str = ""
    to: Name = "escrow"
    """Folder outside the cluster."""
    copies: tuple[Name, ...] = ()
    """More folders."""
    custodians: int = 0
    threshold: int = 0

    def __post_init__(self) -> None:
        """Refuse a threshold nobody can reach."""
        if self.custodians and not 1 <= self.threshold <= self.custodians:
            raise ValueError("`threshold` is from 1 to `custodians`")


def escrow(scene: Scene, act: Escrow) -> str:
    """Create, then prove with the identity that it opens and covers every key of the cluster."""
    custody = scene.custody
    custody.places = [str(scene.outside / name) for name in (act.to, *act.copies)]
    recipient = scene.notes.get("recipient") or (_ceremony(scene, act) if act.custodians else _identity(scene))
    scene.notes["recipient"] = recipient
    to = [word for place in custody.places for word in ("--to", place)]
    scene.timed(
        "back up", lambda: scene.run("escrow", "create", "--recipient", recipient, *to, *scene.options(act.cluster))
    )
    opening = _opening(scene)
    from_ = [word for place in custody.places for word in ("--from", place)]
    scene.timed("prove", lambda: scene.run("escrow", "verify", *from_, *opening, *scene.options(act.cluster)))
    for path in scene.outside.glob("proof-*"):
        path.unlink()
    scene.mark(PROTECTED)
    return f"{len(custody.places)} place(s) hold the keys, proven to open"


def _identity(scene: Scene) -> str:
    identity, recipient = scene.doors.age().generate()
    scene.custody.identities = [scene.write_outside("identity.txt", identity.reveal() + b"\n")]
    return recipient


def _ceremony(scene: Scene, act: Escrow) -> str:
    folder = scene.outside / "custodians"
    names = [f"custodian-{number}" for number in range(1, act.custodians + 1)]
    custodians = [word for name in names for word in ("--custodian", name)]
    said = scene.run("escrow", "ceremony", "--threshold", str(act.threshold), *custodians, "--out", str(folder))
    scene.custody.shares = [folder / f"{name}.txt" for name in names]
    scene.custody.threshold = act.threshold
    return said.strip().splitlines()[-1]


def _opening(scene: Scene) -> list[str]:
    """Give the options that open the escrow now: the identity, or one put together for the proof alone."""
    if scene.custody.shares and not scene.custody.identities:
        proof = scene.outside / "proof-identity.txt"
        _combine(scene, proof.name)
        return ["--identity", str(proof)]
    return [word for path in scene.custody.identities for word in ("--identity", str(path))]


def _combine(scene: Scene, name: str) -> None:
    present = [path for path in scene.custody.shares if path.exists()][: scene.custody.threshold]
    if not present:
        raise WorldFailed("no custodian is there", reason="NoCustodian")
    shares = [word for path in present for word in ("--share", str(path))]
    scene.run("escrow", "combine", *shares, "--out", str(scene.outside / name))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherCustodians:
    """Put the recovery identity together from the custodians who are there."""


def gather(scene: Scene, _act: GatherCustodians) -> str:
    """Combine their shares; fewer than the threshold are refused."""
    _combine(scene, "combined.txt")
    scene.custody.identities = [scene.outside / "combined.txt"]
    return f"{sum(path.exists() for path in scene.custody.shares)} custodians put it together"


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowBeforeUse:
    """Configure escrow in the cluster: a new key is used only once a locked S3 bucket holds it, read back."""

    cluster: str = ""
    policy: Literal["required", "preferred", "off"] = "required"
    keep_copies: bool = False
    """Also keep sealed copies of what external stores give, for an identity of its own (kept.txt outside)."""
    patience: Duration = 60.0


def escrow_before_use(scene: Scene, act: EscrowBeforeUse) -> str:
    """Make bucket, configuration and a proven custodian, once; hand them to the cluster; wait for the escrow."""
    if scene.custody.config is None:
        scene.custody.config = _configured(scene, act)
    data = {file.name: base64.b64encode(file.read_bytes()).decode() for file in scene.custody.config.iterdir()}
    metadata = {"name": CONFIGURATION, "namespace": HOME}
    secret = Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    scene.door(act.cluster).apply(secret, field_manager="kubectl", force=True)
    if act.policy != "off":
        done = "every sealing key to be escrowed"
        until(scene, done, lambda: standing(scene, act.cluster) == "Escrowed", seconds=act.patience)
        scene.mark(PROTECTED)
    return f"policy {act.policy}, one locked bucket"


def _configured(scene: Scene, act: EscrowBeforeUse) -> Path:
    """Make the bucket and the folder of the configuration, and have the custodian answer a challenge."""
    folder = scene.outside / "config"
    recipient = _identity(scene)
    bucket = _bucket(scene)
    aws = scene.world.aws()
    url = f"s3://{bucket}/drill?region={BUCKET_REGION}&endpoint={scene.gate('aws').url}"
    sink = {"name": "archive", "url": url, "domain": "cloud/aws:2222", "retentionDays": 1}
    body: dict[str, Any] = {
        "apiVersion": "secretsops.dev/v1",
        "kind": "EscrowConfig",
        "cluster": "drill",
        "policy": act.policy,
        "quorum": 1,
        "home": ["cloud/aws:1111"],
        "recipients": [recipient],
        "sinks": [{**sink, "writer": "writer", "reader": "reader"}],
    }
    if act.keep_copies:
        identity, kept = scene.doors.age().generate()
        scene.write_outside("kept.txt", identity.reveal() + b"\n")
        body["lastKnownGood"] = {"recipients": [kept], "versions": 3}
        scene.write_outside("config/names.key", secrets.token_hex(32).encode() + b"\n")
    login = {"accessKeyId": aws.access_key, "secretAccessKey": aws.secret_key}
    # Two names, as SECURITY.md asks; the emulation knows no rights that would tell them apart.
    reader = {**login, "accessKeyId": login["accessKeyId"][:-1] + "1"}
    scene.write_outside("config/escrow.yaml", yaml.safe_dump(body).encode())
    scene.write_outside("config/credentials.yaml", yaml.safe_dump({"writer": login, "reader": reader}).encode())
    challenges = scene.outside / "challenges"
    scene.run("escrow", "challenge", "--config", str(folder), "--out", str(challenges))
    for asked in sorted(challenges.iterdir()):
        answer = scene.run("escrow", "answer", str(asked), "--identity", str(scene.custody.identities[0]))
        place = scene.write_outside("answer.json", answer.encode())
        scene.run("escrow", "answer", str(place), "--record", "--config", str(folder))
    shutil.rmtree(challenges)
    return folder


def standing(scene: Scene, cluster: str) -> str:
    """Give how escrow stands in a cluster, as its controller says: the first word of the status."""
    try:
        found = scene.door(cluster).get(CONFIG_MAP, CONFIGURATION, HOME)
    except NotFound:
        return ""
    return str((found.body.get("data") or {}).get("status") or "")


def _bucket(scene: Scene) -> str:
    aws, name = scene.world.aws(), "drill-escrow"
    scope = f"{aws.access_key}/20260101/{BUCKET_REGION}/s3/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        "x-amz-bucket-object-lock-enabled": "true",
    }
    status, _ = send("PUT", f"{aws.url}/{name}", headers=headers, body=b"")
    if status >= 300:
        raise WorldFailed(f"S3 answered {status} to a new bucket", reason="NoBucket")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewKey:
    """Renew the sealing key ahead of its time, as an operator does: by the controller's --key-cutoff-time."""

    cluster: str = ""
    patience: Duration = 60.0


def renew_key(scene: Scene, act: RenewKey) -> str:
    """Set the cut-off to now, and wait until another key seals."""
    door = scene.door(act.cluster)
    before = published(scene, act.cluster)
    scene.clock.sleep(1.1)  # the cut-off counts whole seconds: the old key must be older
    cutoff = email.utils.format_datetime(scene.clock.now().replace(microsecond=0))
    deployment = door.get(DEPLOYMENT, "secretsops-controller", HOME)
    changed = with_arguments(deployment, (f"--key-cutoff-time={cutoff}",))
    patch = {"spec": {"template": {"spec": {"containers": changed.spec["template"]["spec"]["containers"]}}}}
    door.patch(DEPLOYMENT, "secretsops-controller", patch, namespace=HOME)
    until(scene, "another key to seal", lambda: published(scene, act.cluster) not in ("", before), seconds=act.patience)
    return "another key seals from now on"


def published(scene: Scene, cluster: str) -> str:
    """Give the fingerprint of the certificate that a cluster publishes, "" where there is none yet."""
    try:
        found = scene.door(cluster).get(CONFIG_MAP, "sealed-secrets-certificate", HOME)
    except NotFound:
        return ""
    return str((found.body.get("data") or {}).get("fingerprint") or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepWitness:
    """Keep the newest entry of the escrow elsewhere, as a custodian does on paper: nothing older is believed."""


def keep_witness(scene: Scene, _act: KeepWitness) -> str:
    """Copy it out of the first sink."""
    entry = max(Path(scene.custody.places[0]).glob("epoch-*.json"))
    scene.notes["witnesses"] = [str(scene.write_outside(f"witness/{entry.name}", entry.read_bytes()))]
    return f"{entry.name} is kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class UseEscrow:
    """Go on with another copy of the escrow."""

    place: Name


def use_escrow(scene: Scene, act: UseEscrow) -> str:
    """From now on this folder counts, alone."""
    scene.custody.places = [str(scene.outside / act.place)]
    return f"the escrow in {act.place} counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkCompromised:
    """Mark the sealing key of before the disaster: somebody else may have it, and it never seals again."""

    cluster: str = ""
    repository: str = ""


def mark_compromised(scene: Scene, act: MarkCompromised) -> str:
    """Run `seal keys compromise`; another key seals from then on."""
    work, fingerprint = scene.repository(act.repository).work, str(scene.notes["stolen"])
    scene.run("seal", "keys", "compromise", fingerprint, str(work), "--force", *scene.options(act.cluster))
    until(scene, "another key to seal", lambda: published(scene, act.cluster) not in ("", fingerprint))
    return f"{fingerprint} is compromised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reencrypt:
    """Seal everything in the repository anew with the newest key, and push it."""

    cluster: str = ""
    repository: str = ""


def reencrypt(scene: Scene, act: Reencrypt) -> str:
    """Run `seal reencrypt --commit`."""
    repository = scene.repository(act.repository)
    for name, value in (("user.name", "Drill"), ("user.email", "drill@secretsops.invalid")):
        estate.git(repository.work, "config", name, value)
    scene.run("seal", "reencrypt", str(repository.work), "--commit", *scene.options(act.cluster))
    estate.git(repository.work, "push", "--quiet", repository.push, "HEAD:main")
    return "everything is sealed with the newest key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire:
    """Take the compromised key out of use; refused while anything in the repository or the cluster needs it."""

    cluster: str = ""
    repository: str = ""


def retire(scene: Scene, act: Retire) -> str:
    """Run `seal keys retire`."""
    work, fingerprint = scene.repository(act.repository).work, str(scene.notes["stolen"])
    scene.run("seal", "keys", "retire", fingerprint, str(work), *scene.options(act.cluster))
    return f"{fingerprint} is retired"


TABLE: Table = {
    "keep-witness": Kind(parameters=KeepWitness, act=keep_witness),
    "use-escrow": Kind(parameters=UseEscrow, act=use_escrow),
    "mark-compromised": Kind(parameters=MarkCompromised, act=mark_compromised),
    "reencrypt": Kind(parameters=Reencrypt, act=reencrypt),
    "retire": Kind(parameters=Retire, act=retire),
    "escrow": Kind(parameters=Escrow, act=escrow),
    "gather-custodians": Kind(parameters=GatherCustodians, act=gather),
    "escrow-before-use": Kind(parameters=EscrowBeforeUse, act=escrow_before_use),
    "renew-key": Kind(parameters=RenewKey, act=renew_key),
}
