"""The content of a bundle: the key Secrets of a cluster as plain YAML, as `kubectl apply` takes them. Pure.

Whoever opens a bundle with stock `age` needs nothing of ours: names, labels, type and data are upstream's.
Never here: encryption, places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from secretsops.errors import BrokenEscrow, InvalidManifest
from secretsops.escrow.index import KeyRecord, State
from secretsops.manifest import Manifest, dump_all, load_all
from secretsops.sealing.keys import ACTIVE, COMPROMISED, KEY_LABEL, STATE_ANNOTATION, read_key_secret
from secretsops.secret import Plaintext

PENDING = "pending"
"""Label value of a key whose escrow is not proven yet; upstream ignores it. In a bundle it is what it will become."""
_STATES = {COMPROMISED: State.COMPROMISED, ACTIVE: State.SEALING, PENDING: State.SEALING}


def records(secrets: Iterable[Manifest]) -> list[KeyRecord]:
    """Give what the index says about key Secrets, by name; nothing in it is secret.

    Raises:
        InvalidManifest: one is broken. A backup without it would look complete, so there is none.
    """
    found = []
    for secret in sorted(secrets, key=lambda each: each.name):
        pair = read_key_secret(secret.body)
        found.append(
            KeyRecord(
                name=secret.name,
                fingerprint=pair.fingerprint,
                born=pair.certificate.not_before.strftime("%Y-%m-%dT%H:%M:%SZ"),
                state=state_of(secret),
            )
        )
    return found


def is_whole(secret: Manifest) -> bool:
    """Say whether a key Secret holds a readable pair."""
    try:
        read_key_secret(secret.body)
    except InvalidManifest:
        return False
    return True


def state_of(secret: Manifest) -> State:
    """Give the state that label and annotation of a key Secret say; an unknown label value means retired."""
    state = _STATES.get(secret.labels.get(KEY_LABEL, ""), State.RETIRED)
    said = secret.annotations.get(STATE_ANNOTATION, ACTIVE)
    if state is State.SEALING and said != ACTIVE:
        return State.COMPROMISED if said == COMPROMISED else State.OPEN_ONLY
    return state


def pack(secrets: Iterable[Manifest]) -> Plaintext:
    """Give the key Secrets as YAML documents, free of what belongs to their cluster alone."""
    return Plaintext(dump_all([_portable(secret) for secret in sorted(secrets, key=lambda each: each.name)]).encode())


def unpack(content: Plaintext, expected: Sequence[KeyRecord]) -> list[Manifest]:
    """Give the key Secrets of a bundle, each proven to be what the index says: its key matches its certificate.

    Raises:
        BrokenEscrow: something else is in the bundle than the index promises.
    """
    try:
        found = load_all(content.reveal(), source="bundle")
        held = records(found)
    except InvalidManifest as error:
        raise BrokenEscrow(f"the bundle opens, but a key in it does not hold: {error.problem}") from None
    if held != sorted(expected, key=lambda record: record.name):
        raise BrokenEscrow("the bundle opens, but holds other keys than its index says", reason="WrongContent")
    return found


def _portable(secret: Manifest) -> dict[str, Any]:
    labels = {**secret.labels, KEY_LABEL: ACTIVE} if secret.labels.get(KEY_LABEL) == PENDING else dict(secret.labels)
    kept = {"name": secret.name, "namespace": secret.namespace, "labels": labels}
    annotations = {key: value for key, value in secret.annotations.items() if key == STATE_ANNOTATION}
    metadata = {**kept, **({"annotations": annotations} if annotations else {})}
    body = secret.body
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": body.get("type") or "kubernetes.io/tls",
        "data": {name: (body.get("data") or {})[name] for name in ("tls.crt", "tls.key")},
    }
