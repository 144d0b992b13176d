"""Secret to SealedSecret and back. Pure: keys, certificate and wishes are arguments, nothing is read or written.

Sealing follows `pkg/kubeseal` and opening `pkg/apis/sealedsecrets/v1alpha1/sealedsecret_expansion.go` of
sealed-secrets v0.38.4, as recorded in `conformance/sealed-secrets`.

What never lives here: who may write the Secret (`secretsops.ownership`), files, clusters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from secretsops.errors import CannotUnseal, InvalidManifest, Refused, UsageError
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.sealing import envelope
from secretsops.sealing.scope import PREFIX, Scope
from secretsops.sealing.sealed_with import SealedWith
from secretsops.sealing.template import rendered
from secretsops.secret import SecretData

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from secretsops.sealing.certificate import Certificate
    from secretsops.sealing.keys import KeyPair, KeyRing
    from secretsops.secret import Plaintext

API_VERSION = "bitnami.com/v1alpha1"
SEALED_SECRET = GroupVersionKind("bitnami.com", "v1alpha1", "SealedSecret")
SECRET = GroupVersionKind("", "v1", "Secret")
SKIP_OWNER = PREFIX + "skip-set-owner-references"
_CLEARTEXT_ANNOTATIONS = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", "kubecfg.ksonnet.io/last-applied-configuration"}
)
_KEPT_METADATA = ("name", "generateName", "namespace", "labels", "annotations", "finalizers", "managedFields")
"""Fields of ObjectMeta that stay in the template. Compat: finalizers and managedFields stay, as kubeseal has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the caller asks of sealing beyond the input; empty fields leave the decision to the input."""

    name: str = ""
    namespace: str = ""
    scope: Scope | None = None
    allow_empty: bool = False
    any_kind: bool = False
    """Take a document without apiVersion and kind for a Secret, as kubeseal does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A SealedSecret opened: the Secret as it should exist, and which key (fingerprint) opened each item."""

    secret: Manifest
    keys: Mapping[str, str]
    volatile: frozenset[str] = frozenset()
    """Keys of the Secret whose templates draw on chance or clock."""


# --- sealing -------------------------------------------------------------------------------------------


def seal_secret(
    secret: Mapping[str, Any], public: RSAPublicKey, wishes: Wishes, *, default_namespace: Callable[[], str]
) -> dict[str, Any]:
    """Give the SealedSecret of a Secret's body, keys in kubeseal's JSON order.

    `default_namespace` is asked only where neither input nor wishes name one and the scope needs it; "" means
    there is none.

    Raises:
        InvalidManifest: the input is no Secret, or a field has the wrong type (values are never quoted).
        Refused: no data, no name, no namespace, or two different namespaces.
    """
    metadata = _own_metadata(secret, any_kind=wishes.any_kind)
    data = SecretData.of(secret)
    if not data and not wishes.allow_empty:
        raise Refused(
            "the Secret has neither data nor stringData",
            reason="EmptySecret",
            hint="is it a Secret at all? --allow-empty-data seals it as it is",
        )
    if wishes.name:
        metadata["name"] = wishes.name
    if not metadata.get("name"):
        raise Refused("metadata.name is missing in the Secret", reason="NameMissing", hint="add it, or give --name")
    annotations = metadata.pop("annotations", {})
    if wishes.scope is not None and wishes.scope is not Scope.STRICT:
        # Compat: `--scope strict`, the default, can't take an annotation of the input away.
        annotations = wishes.scope.applied_to(annotations)
    if annotations:
        metadata["annotations"] = annotations
    scope = Scope.of(annotations)
    _settle_namespace(metadata, scope, wishes.namespace, default_namespace)

    name, namespace = str(metadata["name"]), str(metadata.get("namespace") or "")
    label = scope.label(namespace, name)
    template: dict[str, Any] = {"metadata": _ordered_metadata(metadata)}
    for field in ("type", "immutable"):
        # Go's omitempty drops "" but keeps a pointer to false.
        if secret.get(field) not in (None, ""):
            template[field] = secret[field]
    return {
        "kind": "SealedSecret",
        "apiVersion": API_VERSION,
        "metadata": {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            **({"annotations": scope.annotations()} if scope.annotations() else {}),
        },
        "spec": {
            "template": template,
            "encryptedData": {key: envelope.seal(data[key], label=label, public=public) for key in sorted(data)},
        },
    }


def seal_value(value: Plaintext, public: RSAPublicKey, *, scope: Scope, namespace: str, name: str) -> str:
    """Give one sealed item for a place (`--raw`).

    Raises:
        UsageError: the scope needs a namespace or a name that is not given.
    """
    for option, given, needed in (
        ("--namespace", namespace, scope is not Scope.CLUSTER_WIDE),
        ("--name", name, scope is Scope.STRICT),
    ):
        if needed and not given:
            raise UsageError(
                f"--raw with --scope {scope} needs {option}",
                reason="PlaceMissing",
                hint=f"add {option}, or widen --scope",
            )
    return envelope.seal(value, label=scope.label(namespace, name), public=public)


def _own_metadata(secret: Mapping[str, Any], *, any_kind: bool) -> dict[str, Any]:
    """Give the part of `metadata` that belongs to its author, types checked."""
    kind = secret.get("kind"), secret.get("apiVersion")
    if kind != ("Secret", "v1") and not (any_kind and kind == (None, None)):
        shown = str(kind[0])[:64] if isinstance(kind[0], str) else "a document without kind"
        hint = "split it into its Secrets" if shown.endswith("List") else "only v1 Secrets can be sealed"
        raise InvalidManifest(f"expected a v1 Secret, found {shown}", reason="NotASecret", hint=hint)
    for field in ("metadata", "data", "stringData"):
        if not isinstance(secret.get(field) or {}, dict):
            raise InvalidManifest(f"{field} is not a mapping", reason="InvalidSecret")
    if not isinstance(secret.get("type") or "", str) or not isinstance(secret.get("immutable") or False, bool):
        raise InvalidManifest("type or immutable has the wrong type", reason="InvalidSecret")
    found = secret.get("metadata") or {}
    metadata = {field: found[field] for field in _KEPT_METADATA if found.get(field)}
    for field in ("name", "generateName", "namespace"):
        if not isinstance(metadata.get(field, ""), str):
            raise InvalidManifest(f"metadata.{field} is not a string", reason="InvalidSecret", hint="quote it")
    for field in ("labels", "annotations"):
        if field in metadata:
            metadata[field] = _strings(metadata[field], field)
    if "annotations" in metadata:
        metadata["annotations"] = {
            key: value for key, value in metadata["annotations"].items() if key not in _CLEARTEXT_ANNOTATIONS
        }
    return metadata


def _strings(values: object, field: str) -> dict[str, str]:
    if not isinstance(values, dict):
        raise InvalidManifest(f"metadata.{field} is not a mapping", reason="InvalidSecret")
    for key, value in values.items():
        if not isinstance(value, str | None):
            raise InvalidManifest(f"metadata.{field}: {key!r} is not a string", reason="InvalidSecret", hint="quote it")
    return {key: value or "" for key, value in values.items()}


def _settle_namespace(
    metadata: dict[str, Any], scope: Scope, wished: str, default_namespace: Callable[[], str]
) -> None:
    """Fill `metadata.namespace`; a cluster-wide Secret keeps what it has and gets none."""
    if scope is Scope.CLUSTER_WIDE:
        return
    own = metadata.get("namespace") or ""
    if own and wished and own != wished:
        raise Refused(
            f"the Secret is in namespace {own!r} but {wished!r} was asked for",
            reason="NamespaceMismatch",
            hint="drop --namespace, or change metadata.namespace",
        )
    metadata["namespace"] = own or wished or default_namespace()
    if not metadata["namespace"]:
        raise Refused(
            "the Secret names no namespace",
            reason="NamespaceMissing",
            hint="add metadata.namespace, or give --namespace",
        )


def _ordered_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {field: metadata[field] for field in _KEPT_METADATA if metadata.get(field)}


# --- opening -------------------------------------------------------------------------------------------


def open_sealed(sealed: Manifest, ring: KeyRing, *, first: Iterable[str] = (), accept_v1: bool = True) -> Opened:
    """Give the Secret that a SealedSecret stands for: all items or none.

    Name, namespace and scope come from the SealedSecret's own metadata, never from its template. `first` names
    keys to try before the others; what the SealedSecret's own hint names is tried before those.

    Raises:
        CannotUnseal: an item opens with no key; the message names the items, never why (no oracle).
        InvalidManifest: an item is no text or no base64, or a template does not render.
        Refused: a form that is not opened (reason `DeprecatedFormat`).
    """
    template = _template(sealed.spec)
    if sealed.spec.get("data") is not None:
        if not accept_v1:
            raise Refused("spec.data is not opened here", reason="DeprecatedFormat", hint="seal the Secret anew")
        return _open_deprecated(sealed, ring, _label(sealed))
    values, keys = open_items(sealed, ring, first=first)
    made = rendered(template.get("data"), values)
    body = _secret_body(sealed, template, {**made.values, **values})
    return Opened(secret=Manifest(body), keys=keys, volatile=made.volatile)


def open_items(
    sealed: Manifest, ring: KeyRing, *, first: Iterable[str] = ()
) -> tuple[dict[str, Plaintext], dict[str, str]]:
    """Give the value of every item and which key (fingerprint) opened it; no template is looked at.

    Raises:
        CannotUnseal, InvalidManifest: as `open_sealed`.
    """
    items = sealed.spec.get("encryptedData") or {}
    if not isinstance(items, dict):
        raise InvalidManifest("spec.encryptedData is not a mapping", reason="InvalidSealedSecret")
    hint = SealedWith.read(sealed.annotations)
    return _open_items(items, ring, _label(sealed), _First(hint=hint, others=tuple(first)))


def opens(sealed: Manifest, ring: KeyRing) -> bool:
    """Say whether every item of a SealedSecret opens; its template is neither read nor rendered.

    Raises:
        Refused: an item that is no text, or a form that is none.
    """
    if sealed.spec.get("data") is not None:
        _open_deprecated(sealed, ring, _label(sealed))
    else:
        open_items(sealed, ring)
    return True


def resealed(sealed: Manifest, ring: KeyRing, key: KeyPair) -> dict[str, Any]:
    """Give a SealedSecret with the same values sealed by `key`, as upstream's `/v1/rotate` answers it.

    The scope is that of `metadata.annotations` (CVE-2026-22728: upstream once took the template's). Compat: items
    that this key sealed already keep their ciphertext, and the template stays as it is, `data` unrendered, where
    upstream bakes what it renders into ciphertexts and puts the object's metadata in the template's place.

    Raises:
        CannotUnseal, InvalidManifest: as `open_sealed`.
        Refused: `spec.data` of before 2018.
    """
    if sealed.spec.get("data") is not None:
        raise Refused("spec.data is not rotated", reason="DeprecatedFormat", hint="seal the Secret anew")
    label, public = _label(sealed), key.certificate.public
    values, keys = open_items(sealed, ring)
    items = {
        item: sealed.spec["encryptedData"][item]
        if keys[item] == key.fingerprint
        else envelope.seal(values[item], label=label, public=public)
        for item in sorted(values)
    }
    names = {field: sealed.metadata[field] for field in ("name", "namespace") if sealed.metadata.get(field)}
    scope = Scope.of(sealed.annotations).annotations()
    template = copy.deepcopy(_mapping(sealed.spec.get("template"), "spec.template"))
    template["metadata"] = _mapping(template.get("metadata"), "spec.template.metadata") or dict(names)
    return {
        "metadata": names | ({"annotations": scope} if scope else {}),
        "spec": {"template": template, "encryptedData": items},
    }


def _label(sealed: Manifest) -> bytes:
    return Scope.of(sealed.annotations).label(sealed.namespace, sealed.name)


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value or {}, dict):
        raise InvalidManifest(f"{where} is not a mapping", reason="InvalidSealedSecret")
    return dict(value) if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _First:
    """Which keys to try first: what the object says of an item, what opened the one before, what else is likely."""

    hint: SealedWith
    others: tuple[str, ...]

    def of(self, item: str, last: str) -> tuple[str, ...]:
        return tuple(filter(None, (self.hint.key_of(item), last))) + self.others


def _template(spec: Mapping[str, Any]) -> dict[str, Any]:
    template = spec.get("template") or {}
    if not isinstance(template, dict) or not isinstance(template.get("metadata") or {}, dict):
        raise InvalidManifest("spec.template is not a mapping", reason="InvalidSealedSecret")
    return template


def _open_items(
    items: Mapping[str, Any], ring: KeyRing, label: bytes, first: _First
) -> tuple[dict[str, Plaintext], dict[str, str]]:
    """Open every item, gather what fails, and fail as a whole; a key that opened one is tried first for the next."""
    values: dict[str, Plaintext] = {}
    keys: dict[str, str] = {}
    shut: list[str] = []
    broken: dict[str, list[str]] = {}
    last = ""
    for item in sorted(items):
        try:
            values[item], last = ring.open(items[item], label=label, first=first.of(item, last))
            keys[item] = last
        except CannotUnseal:
            shut.append(item)
        except InvalidManifest as error:
            broken.setdefault(error.problem, []).append(item)
    if broken:
        messages = [f"{message} ({', '.join(names)})" for message, names in sorted(broken.items())]
        if shut:
            messages.append(f"no key could decrypt secret ({', '.join(shut)})")
        raise InvalidManifest("\n".join(messages), reason="InvalidItem", hint="seal these items again")
    if shut:
        raise envelope.cannot_unseal(tried=ring.fingerprints, items=shut)
    return values, keys


def reseal(sealed: Manifest, ring: KeyRing, certificate: Certificate) -> tuple[dict[str, str], dict[str, str]]:
    """Give the items of a SealedSecret that another key sealed, now for `certificate`, and the key of every item.

    Raises:
        CannotUnseal, InvalidManifest: as `open_sealed`.
    """
    values, keys = open_items(sealed, ring)
    label = _label(sealed)
    again = {
        item: envelope.seal(value, label=label, public=certificate.public)
        for item, value in values.items()
        if keys[item] != certificate.fingerprint
    }
    return again, dict.fromkeys(keys, certificate.fingerprint)


def _secret_body(sealed: Manifest, template: Mapping[str, Any], values: Mapping[str, Plaintext]) -> dict[str, Any]:
    metadata = copy.deepcopy(template.get("metadata") or {})
    # The API server sets these; a template made from a live object may carry them.
    for field in ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields"):
        metadata.pop(field, None)
    for field in [key for key, value in metadata.items() if value is None]:
        del metadata[field]
    metadata["name"] = sealed.name
    if sealed.namespace:
        metadata["namespace"] = sealed.namespace
    metadata.pop("ownerReferences", None)
    if (metadata.get("annotations") or {}).get(SKIP_OWNER) != "true":
        metadata["ownerReferences"] = [owner_reference(sealed)]
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    if values:
        body["data"] = SecretData(values).encoded()
    for field in ("type", "immutable"):
        if template.get(field) not in (None, ""):
            body[field] = template[field]
    return body


def owner_reference(sealed: Manifest) -> dict[str, Any]:
    """Give the controller reference that makes the Secret go when its SealedSecret goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": "SealedSecret",
        "name": sealed.name,
        "uid": sealed.uid,
        "controller": True,
    }


def _open_deprecated(sealed: Manifest, ring: KeyRing, label: bytes) -> Opened:
    """Open the form before 2018: `spec.data` is a whole Secret, sealed as one JSON text.

    Raises:
        Refused: both forms at once.
    """
    if sealed.spec.get("encryptedData"):
        raise Refused("spec.data and spec.encryptedData exclude each other", reason="DeprecatedFormat")
    value, key = ring.open(str(sealed.spec["data"]), label=label)
    try:
        import json

        inner = json.loads(value.reveal())
        data = SecretData.of(inner)
        template = {"metadata": inner.get("metadata") or {}, "type": inner.get("type")}
    except (ValueError, AttributeError, RecursionError, InvalidManifest):
        raise InvalidManifest("spec.data holds no Secret", reason="DeprecatedFormat", hint="seal it again") from None
    return Opened(secret=Manifest(_secret_body(sealed, template, data)), keys={"": key})
