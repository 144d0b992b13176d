"""A file with SealedSecrets in it, and what has to change in it when items come, go or are sealed anew. Pure.

Changes are given as trees for `yaml_edit.edit`: this module says what is wanted, that one how the text gets there.

What never lives here: encryption, files on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from secretsops.errors import InvalidManifest, Refused
from secretsops.manifest import Manifest, load_values
from secretsops.sealing.scope import Scope
from secretsops.sealing.sealed_with import ANNOTATION, SealedWith
from secretsops.sealing.yaml_edit import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One SealedSecret of a file: `document` is its number in the stream, from 0."""

    document: int
    manifest: Manifest

    @property
    def items(self) -> Mapping[str, Any]:
        """Give `spec.encryptedData`, empty where there is none."""
        items = self.manifest.spec.get("encryptedData")
        return items if isinstance(items, dict) else {}

    @property
    def scope(self) -> Scope:
        """Give the scope that its own annotations declare."""
        return Scope.of(_annotations(self.manifest.body))

    @property
    def label(self) -> bytes:
        """Give the OAEP label of its place."""
        return self.scope.label(self.manifest.namespace, self.manifest.name)

    @property
    def hint(self) -> SealedWith:
        """Give which key is said to have sealed what."""
        return SealedWith.read(_annotations(self.manifest.body))


def sealed_secrets(content: bytes, *, source: str) -> list[Found]:
    """Give every SealedSecret of a stream, each being a document of its own.

    Raises:
        InvalidManifest: broken YAML.
    """
    return [
        Found(document=number, manifest=Manifest(value))
        for number, value in enumerate(load_values(content, source=source))
        if is_sealed_secret(value)
    ]


def is_sealed_secret(value: object) -> bool:
    """Say whether a document is a SealedSecret of any version of bitnami.com."""
    return (
        isinstance(value, dict)
        and value.get("kind") == "SealedSecret"
        and str(value.get("apiVersion")).startswith("bitnami.com/")
    )


def the_one(found: list[Found], *, source: str, name: str = "", namespace: str = "") -> Found:
    """Give the SealedSecret that is meant.

    Raises:
        InvalidManifest: there is none (reason `NotASealedSecret`).
        Refused: several, or none of that name.
    """
    fitting = [
        one
        for one in found
        if name in ("", one.manifest.name) and namespace in ("", one.manifest.namespace or namespace)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not found:
        raise InvalidManifest(
            "there is no SealedSecret in it", where=source, reason="NotASealedSecret", hint="seal a Secret first"
        )
    names = ", ".join(f"{one.manifest.namespace}/{one.manifest.name}" for one in found[:20])
    raise Refused(
        f"{source}: {len(fitting) or 'none'} of its SealedSecrets fits ({names})",
        reason="SeveralSealedSecrets" if fitting else "NoSuchSealedSecret",
        hint="say which with --name and --namespace",
    )


def item_changes(found: Found, items: Mapping[str, str | None], keys: Mapping[str, str], *, hint: bool = True) -> Tree:
    """Give what changes where `items` are set, or removed where None; `keys` are fingerprints by item, as far as known.

    A hint which key sealed what is kept true; without `hint` none is begun, and what is no longer known is dropped.
    """
    present = {*found.items, *(key for key, text in items.items() if text is not None)} - {
        key for key, text in items.items() if text is None
    }
    had = ANNOTATION in _annotations(found.manifest.body)
    known = keys if hint else dict.fromkeys(keys, "")
    text = found.hint.changed({**dict.fromkeys(items, ""), **known}, present).text
    spec: Tree = {"encryptedData": dict(items)}
    if not had and not (hint and text):
        return {"spec": spec}
    return {"spec": spec, "metadata": {"annotations": {ANNOTATION: text or None}}}


def merge_changes(found: Found, addition: Mapping[str, Any], fingerprint: str, *, hint: bool) -> Tree:
    """Give what changes where a sealed document's items, template labels and template annotations are laid over."""
    items: Mapping[str, str] = addition["spec"]["encryptedData"]
    tree = dict(item_changes(found, dict(items), dict.fromkeys(items, fingerprint), hint=hint))
    new = addition["spec"]["template"]["metadata"]
    laid = {field: dict(new[field]) for field in ("labels", "annotations") if new.get(field)}
    if laid:
        spec = tree["spec"]
        assert isinstance(spec, Mapping)
        tree["spec"] = {**spec, "template": {"metadata": laid}}
    return tree


def said_items(items: Iterable[str]) -> str:
    """Give item names for people, the first few."""
    names = sorted(items)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _annotations(body: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = body.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}
