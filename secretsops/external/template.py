"""`spec.target.template`: what the values become before they are a Secret's data, labels and annotations. Pure.

Order and precedence of External Secrets 2.9.0 (`pkg/controllers/templating/parser.go`): `templateFrom` in order, each
entry its ConfigMap, its Secret, its literal; then `data`; the later one wins. Provider values come along under
mergePolicy Merge, or where there is no template of data.

Compat: errors name the place and the line, never a value; the peer's events hold what `fail` and parsers print.

What never lives here: the engine (`secretsops.templating`), how ConfigMaps are read, the Secret that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from secretsops.errors import InvalidManifest, SecretsOpsError, TemplateFailed, WorldFailed
from secretsops.external.select import decoded
from secretsops.manifest import load_values
from secretsops.secret import Plaintext
from secretsops.templating import DEFAULT_LIMITS, Template, external_secrets
from secretsops.templating.formatting import format_float
from secretsops.templating.meter import Meter
from secretsops.templating.world import REAL, World

Texts = Callable[[str, str], Mapping[str, bytes] | None]
"""Gives the data of a ConfigMap or Secret: kind, name; None where there is none of that name."""

SOURCE_LIMIT = 100
"""Entries of `templateFrom`; each may cost a request."""
_PLACES = {"data": "Data", "labels": "Labels", "annotations": "Annotations"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a template made of the values. `kind` is the type of the Secret, "" where the template has none."""

    values: Mapping[str, Plaintext] = field(repr=False)
    labels: Mapping[str, str] = field(default_factory=dict, repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict, repr=False)
    finalizers: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    """One text to render: where it stands, under which key, how its output is read, where that goes."""

    shown: str
    key: str
    text: str
    pairs: bool = False
    place: str = "Data"
    decoding: str = ""


def fill(body: Mapping[str, Any], values: Mapping[str, Plaintext], texts: Texts, *, world: World = REAL) -> Filled:
    """Give what a template makes of the values.

    Raises:
        InvalidManifest: a template does not parse or render, or its output is not what it has to be; with key, line
            and column.
        WorldFailed: a ConfigMap or Secret that it names is not there; trying again helps once it is.
    """
    metadata = _map(body, "metadata")
    made: dict[str, dict[str, Any]] = {"Data": {}, "Labels": _texts(metadata, "labels")}
    made["Annotations"] = _texts(metadata, "annotations")
    if body.get("mergePolicy") == "Merge" or not (body.get("data") or body.get("templateFrom")):
        made["Data"] |= values
    root = {key: value.reveal() for key, value in values.items()}
    meter = Meter(DEFAULT_LIMITS, world.tick)
    for source in _sources(body, texts):
        made[source.place] |= _made(source, _rendered(source, root, meter, world))
    return Filled(
        values=made["Data"],
        labels=made["Labels"],
        annotations=made["Annotations"],
        finalizers=tuple(str(name) for name in metadata.get("finalizers") or []),
        kind=str(body.get("type") or ""),
    )


def _sources(body: Mapping[str, Any], texts: Texts) -> Iterator[_Source]:
    entries = body.get("templateFrom") or []
    if len(entries) > SOURCE_LIMIT:
        raise _problem(f"more than {SOURCE_LIMIT} entries of templateFrom", "put the templates into one ConfigMap")
    for number, entry in enumerate(entries):
        yield from _from(entry if isinstance(entry, dict) else {}, number, texts)
    metadata = _map(body, "metadata")
    for place, parts in (("Data", body), ("Labels", metadata), ("Annotations", metadata)):
        for key, text in _texts(parts, place.lower()).items():
            yield _Source(f"{place.lower()} key {key[:253]}", key, text, place=place)


def _from(entry: Mapping[str, Any], number: int, texts: Texts) -> Iterator[_Source]:
    wanted = str(entry.get("target") or "Data")
    place = _PLACES.get(wanted.lower())
    if place is None:
        raise _problem(f"invalid template target {wanted[:40]!r}", "use Data, Labels or Annotations")
    decoding = str(entry.get("valuesDecodingStrategy") or "")
    for name, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
        holder = _map(entry, name)
        if not holder:
            continue
        held = texts(kind, str(holder.get("name") or ""))
        if held is None:
            raise _absent(f'{kind.lower()}s "{holder.get("name")}" not found', f"create the {kind}")
        for item in holder.get("items") or []:
            key = str(item.get("key") or "")
            if key not in held:
                raise _absent(f'{kind.lower()}s "{holder.get("name")}" has no key "{key[:253]}"', "add the key")
            text = held[key].decode("utf-8", "surrogateescape")
            shown = f"key {key[:253]} of {kind} {holder.get('name')}"
            pairs = item.get("templateAs") == "KeysAndValues"
            yield _Source(shown, key, text, pairs=pairs, place=place, decoding=decoding)
    if isinstance(entry.get("literal"), str):
        yield _Source(
            f"templateFrom[{number}].literal", "literal", entry["literal"], pairs=True, place=place, decoding=decoding
        )


def _rendered(source: _Source, root: Mapping[str, bytes], meter: Meter, world: World) -> bytes:
    try:
        template = Template.parse(source.text, functions=external_secrets(), meter=meter)
        return template.render(root, meter=meter, world=world)
    except TemplateFailed as error:
        raise _failed(source, error) from None


def _made(source: _Source, output: bytes) -> Mapping[str, Any]:
    """Give keys and values; data as `Plaintext`, labels and annotations as text."""
    found = _pairs(source, output) if source.pairs else {source.key: output}
    plain = {key: Plaintext(value) for key, value in found.items()}
    if source.decoding not in {"", "None"}:
        plain = {key: _decoded(source, value, key) for key, value in plain.items()}
    if source.place == "Data":
        return plain
    return {key: value.reveal().decode("utf-8", "replace") for key, value in plain.items()}


def _decoded(source: _Source, value: Plaintext, key: str) -> Plaintext:
    try:
        return decoded(value, source.decoding, key)
    except SecretsOpsError as error:
        raise _problem(f"could not apply template: {source.shown}: {error.message}", error.hint) from None


def _pairs(source: _Source, output: bytes) -> dict[str, bytes]:
    """Read output as a YAML mapping of text, as sigs.k8s.io/yaml does into a map[string]string."""
    try:
        found = next(load_values(output, unique_keys=False), None)
    except InvalidManifest as error:
        where = f" at {error.where}" if error.where else ""
        raise _no_mapping(source, f"is no YAML{where}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _no_mapping(source, "is no mapping")
    return {str(key): _text(source, value) for key, value in found.items()}


def _text(source: _Source, value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int):
        return str(value).encode()
    if isinstance(value, float):
        return (("-" if value < 0 else "") + format_float(abs(value), "g", None)).encode()
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    raise _no_mapping(source, "holds a value that is neither text nor number")


def transformed(template: str, key: str) -> str:
    """Give the key that `rewrite.transform` makes of one; `.value` is the key.

    Compat: a name the template does not have renders `<no value>` here, as with the peer.

    Raises:
        TemplateFailed: it does not parse or render.
    """
    made = Template.parse(template, functions=external_secrets(), missing_key_fails=False)
    return made.render({"value": key.encode("utf-8", "surrogateescape")}).decode("utf-8", "replace")


def _map(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def _texts(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {str(key): "" if text is None else str(text) for key, text in sorted(_map(body, name).items())}


def _failed(source: _Source, error: TemplateFailed) -> InvalidManifest:
    return InvalidManifest(
        f"could not apply template: {source.shown}: {error.message}", reason=error.reason, hint=error.hint
    )


def _no_mapping(source: _Source, problem: str) -> InvalidManifest:
    return _problem(
        f"could not apply template: {source.shown}: what it renders {problem}",
        "quote values: {{ .password | quote }}, or use templateAs: Values",
    )


def _absent(problem: str, hint: str) -> WorldFailed:
    return WorldFailed(
        f"could not apply template: error fetching templateFrom data: {problem}", reason="TemplateSource", hint=hint
    )


def _problem(text: str, hint: str) -> InvalidManifest:
    return InvalidManifest(text, reason="TemplateFailed", hint=hint)
