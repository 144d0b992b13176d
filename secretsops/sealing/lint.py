"""`seal lint`: SealedSecrets that will not open, and Secrets that should have been sealed, told from files alone. Pure.

Without keys the structure is judged: text, base64, length against RSA moduli, YAML that means something else than it
shows. With private keys every item is opened, and what does not open gets its cause (`diagnosis.py`). With an earlier
revision an unchanged ciphertext whose place changed is found without any key.

What never lives here: files, Git, printing.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from secretsops.errors import CannotUnseal, InvalidManifest
from secretsops.escrow.attestation import Statement, item_digest
from secretsops.manifest import load_values
from secretsops.sealing import envelope as wire
from secretsops.sealing.diagnosis import CURES, Cause, Diagnosis, Place, Places, diagnose
from secretsops.sealing.findings import Counts, Finding, Severity
from secretsops.sealing.keys import KeyRing
from secretsops.sealing.scope import PREFIX, Scope
from secretsops.sealing.sealed_file import Found, is_sealed_secret, sealed_secrets
from secretsops.sealing.yaml_edit import Node, nodes

_MODULI = (256, 384, 512, 1024)
"""Bytes of an RSA part that occurs: 2048, 3072, 4096 and 8192 bits."""
_E, _W = Severity.ERROR, Severity.WARNING
_SCOPES = (PREFIX + "cluster-wide", PREFIX + "namespace-wide")
_TEXTS = (
    ("spec", "encryptedData"),
    ("spec", "template", "data"),
    ("spec", "template", "metadata", "annotations"),
    ("spec", "template", "metadata", "labels"),
    ("metadata", "annotations"),
    ("metadata", "labels"),
    ("stringData",),
    ("data",),
)
"""Mappings whose keys and values have to be text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file to lint; `before` is what it held at an earlier revision, None where it wasn't there."""

    path: str
    content: bytes = field(repr=False)
    before: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """A document that is judged, with the lines of its mappings' keys."""

    path: str
    value: Mapping[str, Any]
    node: Node | None

    def line(self, *keys: str) -> int:
        """Give the line of a key, else that of the nearest mapping above it; 0 without marks."""
        line, node = (self.node.line, self.node) if self.node else (0, None)
        for key in keys:
            found = (
                [(one, value) for one, value in node.pairs if one.text == key] if node and node.kind == "map" else []
            )
            if not found:
                break
            line, node = found[0][0].line, found[0][1]
        return line


def lint(
    sources: Sequence[Source], ring: KeyRing, attested: Mapping[str, Statement] | None = None
) -> tuple[list[Finding], Counts]:
    """Give every finding, by file and line, and what was looked at.

    `attested` is what a controller says of items, by digest: asked where there are no keys.
    """
    labels = sorted({one.label for one in attested.values()}) if attested else []
    findings: list[Finding] = []
    documents: list[tuple[Source, _Document]] = []
    for source in sources:
        if not _concerns(source.content):
            continue
        try:
            documents += [(source, document) for document in _documents(source)]
        except InvalidManifest as error:
            findings.append(_finding("invalid-yaml", _E, source.path, error.problem + _at(error), "write valid YAML"))
    places = _places([document for _, document in documents])
    objects = items = opened = files = 0
    seen = ""
    for source, document in documents:
        files, seen = files + (source.path != seen), source.path
        findings += _unquoted(document)
        if not is_sealed_secret(document.value):
            findings += _plaintext(document)
            continue
        one = Found(document=0, manifest=_manifest(document.value))
        objects, items = objects + 1, items + len(one.items)
        found = [*_shape(one, document), *_moved(one, document, source)]
        for item, diagnosis in _diagnosed(one, ring, places):
            opened += diagnosis.cause is Cause.OPENS
            found += _told(one, item, diagnosis, document)
        if attested is not None and not len(ring):
            for item, text in one.items.items():
                told = attested.get(item_digest(one.label, item, text)) if isinstance(text, str) else None
                opened += told is not None and told.opened
                found += _attested(one, item, attested, labels, document)
        findings += found
    judged = len(ring) or attested is not None
    counts = Counts(files=files, objects=objects, items=items, opened=opened if judged else None)
    return sorted(_once(findings), key=lambda one: (one.path, one.line, one.rule, one.item)), counts


def _concerns(content: bytes) -> bool:
    """Say whether a file can hold what is judged: templates of charts and the like are not parsed for nothing."""
    return b"SealedSecret" in content or (b"Secret" in content and (b"data:" in content or b"Data" in content))


def _documents(source: Source) -> Iterator[_Document]:
    values = list(load_values(source.content, source=""))
    marks: list[Node | None] = []
    with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):  # a stream of JSON objects is judged without lines
        marks += nodes(source.content.decode("utf-8-sig"))
    if len(marks) != len(values):
        marks = [None] * len(values)
    for value, node in zip(values, marks, strict=True):
        if not isinstance(value, dict):
            continue
        inner = value.get("items")
        if str(value.get("kind", "")).endswith("List") and isinstance(inner, list):
            for item in inner:
                if isinstance(item, dict):
                    yield _Document(path=source.path, value=item, node=None)
        else:
            yield _Document(path=source.path, value=value, node=node)


def _places(documents: Sequence[_Document]) -> Places:
    """Give the names and namespaces that occur: one of them is where a stray ciphertext belongs."""
    names: set[str] = set()
    namespaces: set[str] = {"default"}
    for document in documents:
        metadata = document.value.get("metadata")
        if isinstance(metadata, dict):
            names.add(str(metadata.get("name") or ""))
            namespaces.add(str(metadata.get("namespace") or ""))
        if document.value.get("kind") == "Namespace" and isinstance(metadata, dict):
            namespaces.add(str(metadata.get("name") or ""))
    return Places(names - {""}, namespaces - {""})


# --- rules ---------------------------------------------------------------------------------------------


def _shape(one: Found, document: _Document) -> Iterator[Finding]:
    """Judge what needs no key: names, scope annotations, the form of every item."""
    where, metadata = _name(one), one.manifest.metadata
    if not one.manifest.name:
        yield _finding(
            "name-missing",
            _E,
            document.path,
            "metadata.name is missing",
            "it is part of what is sealed",
            line=document.line(),
        )
    own = _below(metadata, "annotations")
    template = _below(one.manifest.spec, "template", "metadata", "annotations")
    for key in _SCOPES:
        if key in own and own[key] != "true":
            yield _finding(
                "scope-without-effect",
                _W,
                document.path,
                f"{key} is not the text 'true' and has no effect",
                'write "true", or take it away',
                line=document.line("metadata", "annotations", key),
                object_=where,
            )
    if template and Scope.of(template) is not one.scope:
        yield _finding(
            "scope-mismatch",
            _W,
            document.path,
            f"the template says {Scope.of(template)}, the SealedSecret itself {one.scope}, and the latter counts",
            "put the same scope annotation on both",
            line=document.line("spec", "template", "metadata", "annotations"),
            object_=where,
        )
    for item, text in one.items.items():
        yield from _item_shape(one, item, text, document)


def _item_shape(one: Found, item: str, text: object, document: _Document) -> Iterator[Finding]:
    cause = Cause.OPENS
    if not isinstance(text, str):
        cause = Cause.NOT_TEXT
    else:
        try:
            size = len(wire.parse(text).wrapped)
            cause = cause if size in _MODULI else Cause.DAMAGED
        except CannotUnseal:
            # A text that does not even begin like an RSA part was never sealed.
            cause = Cause.TRUNCATED if _begins_sealed(text) else Cause.NOT_BASE64
        except InvalidManifest:
            cause = Cause.NOT_BASE64
    if cause is not Cause.OPENS:
        yield from _told(one, item, Diagnosis(cause=cause), document)


def _begins_sealed(text: str) -> bool:
    try:
        head = base64.b64decode("".join(text.split())[:4])
    except ValueError:
        return False
    return int.from_bytes(head[:2], "big") in _MODULI


def _moved(one: Found, document: _Document, source: Source) -> Iterator[Finding]:
    """Find ciphertexts that did not change while what they are bound to did."""
    if source.before is None:
        return
    try:
        before = sealed_secrets(source.before, source="")
    except InvalidManifest:
        return
    old = {text: other for other in before for text in other.items.values() if isinstance(text, str)}
    for item, text in one.items.items():
        other = old.get(text) if isinstance(text, str) else None
        if (
            other is None
            or other.label == one.label
            or any(text in again.items.values() and again.label == one.label for again in before)
        ):
            continue
        cause = Cause.SCOPE_CHANGED if other.scope is not one.scope else Cause.WRONG_PLACE
        if cause is Cause.WRONG_PLACE and other.manifest.name == one.manifest.name:
            cause = Cause.WRONG_NAMESPACE
        elif cause is Cause.WRONG_PLACE and other.manifest.namespace == one.manifest.namespace:
            cause = Cause.WRONG_NAME
        was = other.scope.value if cause is Cause.SCOPE_CHANGED else _name(other)
        yield from _told(one, item, Diagnosis(cause=cause, sealed_for=was), document)


def _diagnosed(one: Found, ring: KeyRing, places: Places) -> Iterator[tuple[str, Diagnosis]]:
    if not len(ring):
        return
    place = Place(namespace=one.manifest.namespace, name=one.manifest.name, scope=one.scope)
    for item, text in one.items.items():
        yield item, diagnose(text, place, ring, places, hint=one.hint.key_of(item))


def _attested(
    one: Found, item: str, attested: Mapping[str, Statement], labels: Sequence[str], document: _Document
) -> Iterator[Finding]:
    """Judge an item by its controller's word: it opens, it does not, it was seen elsewhere, or it was never seen."""
    text = one.items[item]
    if not isinstance(text, str):
        return
    told = attested.get(item_digest(one.label, item, text))
    if told is not None and told.opened:
        return
    elsewhere = [label for label in labels if item_digest(label.encode(), item, text) in attested] if not told else []
    severity, rule, cure = _E, "does-not-open", "see why: kubectl describe, or lint it with the private keys"
    if told is not None:
        message = f"does not open in the cluster, by its controller's word of {told.at}"
    elif elsewhere:
        rule, cure = "attested-elsewhere", CURES[Cause.WRONG_PLACE]
        message = f"is attested for {elsewhere[0] or 'the whole cluster'}, not for where it stands"
    else:
        severity, rule, cure = _W, "not-attested", "new ones are attested once the cluster has them; else seal it anew"
        message = "was not seen by the controller yet: nothing says that it opens"
    line = document.line("spec", "encryptedData", item)
    yield _finding(
        rule, severity, document.path, f"item {item} {message}", cure, line=line, object_=_name(one), item=item
    )


def _told(one: Found, item: str, diagnosis: Diagnosis, document: _Document) -> Iterator[Finding]:
    if diagnosis.cause is Cause.OPENS:
        return
    place = f"{one.manifest.namespace}/{one.manifest.name} {one.scope}"
    key = diagnosis.key and f" ({diagnosis.key})"
    elsewhere = diagnosis.sealed_for or "a place not known here"
    messages = {
        Cause.NOT_TEXT: "is no text",
        Cause.NOT_BASE64: "is not base64 of a sealed value",
        Cause.TRUNCATED: "is shorter than it says itself",
        Cause.DAMAGED: f"is damaged: key and place are right, its bytes are not{key}",
        Cause.UNKNOWN_KEY: f"opens with none of the keys given; it is said to be sealed with {diagnosis.key}"
        if diagnosis.key
        else "opens with none of the keys given, and nothing says which key sealed it",
        Cause.WRONG_NAMESPACE: f"was sealed for {diagnosis.sealed_for}, and stands in {place}{key}",
        Cause.WRONG_NAME: f"was sealed for {diagnosis.sealed_for}, and stands in {place}{key}",
        Cause.WRONG_PLACE: f"was sealed for {elsewhere}, and stands in {place}{key}",
        Cause.WRONG_SCOPE: f"was sealed {diagnosis.sealed_for}, and the object is {one.scope}{key}",
        Cause.SCOPE_CHANGED: f"was sealed {diagnosis.sealed_for}, then its annotation became {one.scope}{key}",
    }
    message = messages[diagnosis.cause]
    if diagnosis.cause is Cause.DAMAGED and not diagnosis.key:
        message = "begins like no RSA ciphertext of 2048, 3072, 4096 or 8192 bits"
    yield _finding(
        diagnosis.cause.value,
        _E,
        document.path,
        f"item {item} {message}",
        CURES[diagnosis.cause],
        line=document.line("spec", "encryptedData", item),
        object_=_name(one),
        item=item,
    )


def _plaintext(document: _Document) -> Iterator[Finding]:
    """Find v1 Secrets with values. SOPS files and empty Secrets are none."""
    value = document.value
    if value.get("kind") != "Secret" or value.get("apiVersion") != "v1" or "sops" in value:
        return
    held = [
        key
        for field_ in ("data", "stringData")
        for key, text in (value[field_].items() if isinstance(value.get(field_), dict) else ())
        if text not in (None, "") and not str(text).startswith("ENC[")
    ]
    if held:
        metadata = value.get("metadata") if isinstance(value.get("metadata"), dict) else {}
        name = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"  # type: ignore[union-attr]
        yield _finding(
            "plaintext-secret",
            _E,
            document.path,
            f"a Secret with {len(held)} readable value{'' if len(held) == 1 else 's'}",
            "seal it, take it out of Git and its history, and change the values: they are known now",
            line=document.line("stringData" if "stringData" in value else "data"),
            object_=name,
        )


def _unquoted(document: _Document) -> Iterator[Finding]:
    """Find plain scalars that YAML 1.1 reads as something else than text: y, n, on, off, octal and other numbers."""
    if not (is_sealed_secret(document.value) or document.value.get("kind") == "Secret"):
        return
    for path in _TEXTS:
        mapping = _node(document.node, path)
        for key, value in mapping.pairs if mapping and mapping.kind == "map" else ():
            for node, role in ((key, "key"), (value, "value")):
                meaning = _meaning(node)
                if meaning:
                    metadata = document.value.get("metadata")
                    name = metadata if isinstance(metadata, dict) else {}
                    shown = f"key {node.text!r}" if role == "key" else f"the value of {key.text}"
                    yield _finding(
                        "unquoted-value",
                        _E,
                        document.path,
                        f"{shown} under {'.'.join(path)} is read as {meaning}, not as text",
                        "put it in quotes",
                        line=node.line,
                        object_=f"{name.get('namespace') or ''}/{name.get('name') or ''}",
                        item=key.text if path[-1] in ("encryptedData", "data", "stringData") else "",
                    )


def _meaning(node: Node) -> str:
    """Say what a plain scalar is read as where that is no text; the value itself is not quoted."""
    if node.kind != "scalar" or not node.plain or len(node.text) > 64:
        return ""
    try:
        [value] = load_values(node.text.encode())
    except (InvalidManifest, ValueError):
        return ""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int) and node.text.lstrip("+-").startswith("0") and len(node.text) > 1:
        return "an octal number"
    return "a number" if isinstance(value, int | float) else ""


# --- small parts ---------------------------------------------------------------------------------------


def _finding(
    rule: str,
    severity: Severity,
    path: str,
    message: str,
    cure: str,
    *,
    line: int = 0,
    object_: str = "",
    item: str = "",
) -> Finding:
    return Finding(
        rule=rule, severity=severity, path=path, line=line, object=object_, item=item, message=message, cure=cure
    )


def _once(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Give one finding per rule and item: shape and diagnosis can meet the same fault."""
    seen: set[tuple[str, int, str, str, str]] = set()
    for finding in findings:
        place = (finding.path, finding.line, finding.object, finding.item)
        told = (*place, "" if finding.item and finding.rule in set(Cause) else finding.message)
        if told not in seen:
            seen.add(told)
            yield finding


def _at(error: InvalidManifest) -> str:
    return f" ({error.where})" if error.where else ""


def _name(one: Found) -> str:
    return f"{one.manifest.namespace}/{one.manifest.name}"


def _manifest(value: Mapping[str, Any]) -> Any:
    from secretsops.manifest import Manifest

    return Manifest(dict(value))


def _below(value: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    found: Any = value
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _node(node: Node | None, path: Sequence[str]) -> Node | None:
    for key in path:
        if node is None or node.kind != "map":
            return None
        node = next((value for one, value in node.pairs if one.text == key), None)
    return node
