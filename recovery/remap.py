"""Names of the lost world to names of the new one: images of a registry, API servers of Applications. Pure.

Rules stand in `recovery.yaml` (`remap`) or on the command line. An object is changed as it is rendered, so that plan,
diff and health see what will live; every change is told with its reason, for Git still says otherwise. Image names are
read as container runtimes read them (distribution/reference v0.6: `nginx` is docker.io/library/nginx). Never here:
where repositories are read from (`mirrors.py`), reading the file (`recovery_plan.py`).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recovery.plain import entries, mapping, text_of
from secretsops.errors import UsageError
from secretsops.manifest import Manifest

HUB = "docker.io"
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_IMAGE = re.compile(r"[A-Za-z0-9._:/@-]{1,512}")
_DEPTH = 40
"""Levels looked at in one object; Kubernetes' deepest schema stays under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRule:
    """Images whose full name is `from_` or lies below it come from `to` instead; tag and digest stay."""

    from_: str
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRule:
    """Destinations that name an API server by its old URL name the cluster instead."""

    server: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remap:
    """All rules of a rebuild. `image_fields` are dotted paths to images in kinds of others (`spec.imageName`)."""

    images: tuple[ImageRule, ...] = ()
    image_fields: tuple[str, ...] = ()
    servers: tuple[ServerRule, ...] = ()
    hold: bool = False
    """Hold back what acts on the outside (`held.py`), but for objects of these keys."""
    spared: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Say whether there is any rule for names."""
        return bool(self.images or self.servers)

    def joined(self, other: Remap) -> Remap:
        """Give these rules and, behind them, those of another: of two for one name the first counts."""
        return replace(
            self,
            images=self.images + other.images,
            image_fields=self.image_fields + other.image_fields,
            servers=self.servers + other.servers,
        )

    def text(self) -> str:
        """Give all rules as one text, for the plan's hash."""
        images = sorted((rule.from_, rule.to) for rule in self.images)
        servers = sorted((rule.server, rule.name) for rule in self.servers)
        return repr((images, sorted(self.image_fields), servers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that is written otherwise than Git says, or (`after` "") stays though it names what is remapped."""

    object: str
    field: str
    before: str
    after: str
    reason: str
    held: bool = False
    """Whether `go-live` takes it back."""

    def __str__(self) -> str:
        arrow = f"{self.before} -> {self.after}" if self.after else self.before
        return f"{self.object} {self.field}: {arrow} ({self.reason})"


def check(remap: Remap) -> Remap:
    """Give the rules if each can mean something.

    Raises:
        UsageError: reason `InvalidRemap`; the rule is named.
    """
    for rule in remap.images:
        host = rule.from_.partition("/")[0]
        for text in (rule.from_, rule.to):
            if not _IMAGE.fullmatch(text) or text.endswith("/") or "@" in text or "//" in text:
                raise _useless(f"{text[:80]!r} is no registry or repository of images", "docker.io=mirror.example/hub")
        if not _is_host(host):
            raise _useless(f"{rule.from_[:80]!r} begins with no registry", "write docker.io/library/nginx in full")
    for one in remap.servers:
        if not re.fullmatch(r"https?://[^\s/]+[^\s]*", one.server) or not one.name or "/" in one.name:
            raise _useless(
                f"{one.server[:80]!r} to {one.name[:80]!r} is no API server and name", "https://old:6443=prod"
            )
    for field in remap.image_fields:
        if not all(re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", step) for step in field.split(".")):
            raise _useless(f"{field[:80]!r} is no path of fields", "spec.imageName")
    return remap


def _useless(message: str, hint: str) -> UsageError:
    return UsageError(message, reason="InvalidRemap", hint=hint)


def remapped(manifest: Manifest, remap: Remap) -> tuple[Manifest, list[Change]]:
    """Give the object by the new names, and what was changed or still names an old one; itself where nothing fits.

    Definitions are left alone: what looks like a container there is a schema.
    """
    kind = manifest.kind
    if not remap or kind.kind in ("CustomResourceDefinition", "SealedSecret"):
        return manifest, []
    found = list(_images(manifest, remap)) if remap.images else []
    if kind.group == "argoproj.io" and kind.kind in ("Application", "ApplicationSet"):
        found += _servers(manifest, remap)
    if not any(after for _, _, after, _ in found):
        return manifest, [_change(manifest, *one) for one in found]
    body = copy.deepcopy(manifest.body)
    for path, _, after, _ in found:
        if after:
            _set(body, path, after)
    return Manifest(body), [_change(manifest, *one) for one in found]


Path = tuple[str | int, ...]
_Found = tuple[Path, str, str, str]
"""Where, what stands there, what shall stand there ("" leaves it), why."""


def _change(manifest: Manifest, path: Path, before: str, after: str, reason: str) -> Change:
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    return Change(object=str(manifest.key), field=field, before=before, after=after, reason=reason)


def _set(body: Any, path: Path, value: str) -> None:
    if path[-2:] == ("destination", "server"):  # a destination names one of both
        target = _at(body, path[:-1])
        del target["server"]
        target["name"] = value
        return
    _at(body, path[:-1])[path[-1]] = value


def _at(body: Any, path: Path) -> Any:
    for step in path:
        body = body[step]
    return body


# --- images --------------------------------------------------------------------------------------------


def _images(manifest: Manifest, remap: Remap) -> Iterator[_Found]:
    """Find every image of a pod, wherever the pod stands in the object, and those of the named fields."""
    changed = set()
    pods = (path for path, value in _nodes(manifest.body) for path in _of_pod(path, value))
    named = (path for field in remap.image_fields for path in _below(manifest.body, tuple(field.split("."))))
    for path in (*pods, *named):
        image = text_of(_at(manifest.body, path))
        rule = _rule(image, remap.images)
        if rule is not None and path not in changed:
            changed.add(path)
            yield path, image, _moved(image, rule), f"images below {rule.from_} come from {rule.to}"
    for path, value in _nodes(manifest.body):
        for step, text in value.items() if isinstance(value, dict) else ():
            place = (*path, step)
            if place in changed or not isinstance(text, str) or path[:1] == ("metadata",):
                continue
            rule = _rule(text, remap.images) if _is_host(text.partition("/")[0]) and "/" in text else None
            if rule is not None:
                yield place, text, "", f"it looks like an image below {rule.from_} and stays: name it in imageFields"


def _nodes(body: Any) -> Iterator[tuple[Path, Any]]:
    """Give every mapping of an object with its path, outermost first."""
    todo: list[tuple[Path, Any]] = [((), body)]
    while todo:
        path, value = todo.pop()
        if len(path) > _DEPTH:
            continue
        if isinstance(value, dict):
            yield path, value
            todo += [
                ((*path, step), inner) for step, inner in reversed(value.items()) if isinstance(inner, dict | list)
            ]
        else:
            todo += [((*path, n), value[n]) for n in range(len(value) - 1, -1, -1) if isinstance(value[n], dict | list)]


def _of_pod(path: Path, value: Mapping[str, Any]) -> Iterator[Path]:
    for field in _CONTAINERS:
        for number, container in enumerate(entries(value.get(field))):
            if text_of(mapping(container).get("image")):
                yield (*path, field, number, "image")
    if any(field in value for field in _CONTAINERS):
        for number, volume in enumerate(entries(value.get("volumes"))):
            if text_of(mapping(mapping(volume).get("image")).get("reference")):
                yield (*path, "volumes", number, "image", "reference")


def _below(body: Any, steps: Sequence[str], path: Path = ()) -> Iterator[Path]:
    """Follow a dotted path, through every entry of a list on the way."""
    if isinstance(body, list):
        for number, entry in enumerate(body):
            yield from _below(entry, steps, (*path, number))
    elif not steps:
        if isinstance(body, str):
            yield path
    elif isinstance(body, dict) and steps[0] in body:
        yield from _below(body[steps[0]], steps[1:], (*path, steps[0]))


def _is_host(text: str) -> bool:
    return "." in text or ":" in text or text == "localhost"


def full_name(image: str) -> str:
    """Give an image with its registry and, on Docker Hub, its `library`; tag and digest stay."""
    host, slash, rest = image.partition("/")
    if not slash or not _is_host(host):
        host, rest = HUB, image
    host = HUB if host in ("index.docker.io", "registry-1.docker.io") else host
    if host == HUB and "/" not in rest.partition("@")[0]:
        rest = f"library/{rest}"
    return f"{host}/{rest}"


def _rule(image: str, rules: Sequence[ImageRule]) -> ImageRule | None:
    """Give the rule with the longest address that the image lies below, at a boundary of its path."""
    if not _IMAGE.fullmatch(image):
        return None
    name = full_name(image)
    fitting = [
        rule for rule in rules if name.startswith(rule.from_) and name[len(rule.from_) : len(rule.from_) + 1] in _ENDS
    ]
    return max(fitting, key=lambda rule: len(rule.from_), default=None)


_ENDS = ("", "/", ":", "@")


def _moved(image: str, rule: ImageRule) -> str:
    return rule.to + full_name(image)[len(rule.from_) :]


# --- destinations --------------------------------------------------------------------------------------


def _servers(manifest: Manifest, remap: Remap) -> Iterator[_Found]:
    names = {rule.server.rstrip("/"): rule.name for rule in reversed(remap.servers)}
    steps: tuple[str, ...] = ("spec",) if manifest.kind.kind == "Application" else ("spec", "template", "spec")
    value: Any = manifest.body
    for step in (*steps, "destination"):
        value = mapping(value).get(step)
    server = text_of(mapping(value).get("server"))
    name = names.get(server.rstrip("/"), "")
    if name and not mapping(value).get("name"):
        yield (*steps, "destination", "server"), server, name, "a rebuilt cluster has its old name and another address"
