"""What an application adds to its kustomization, written into the file as the peer does before it builds. Pure.

Rules: argo-cd v3.6 `util/kustomize/kustomize.go` (it runs `kustomize edit …`), kustomize v5.8 `kustomize edit`.
Never here: building (the Renderer door), reading Git.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from recovery.app import Kustomize
from recovery.environment import expanded
from secretsops.errors import InvalidManifest, RenderFailed
from secretsops.manifest import load_values

FILES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""Names of the file, in the order in which kustomize takes them."""
_DIGEST = re.compile(r"(?P<name>[^@]*)(?P<digest>@.+)?")


def file_of(files: Mapping[str, bytes], folder: str) -> str:
    """Give the path of the kustomization file in `folder`, "" when there is none.

    Raises:
        RenderFailed: there is more than one, which kustomize refuses too.
    """
    prefix = f"{folder}/" if folder else ""
    found = [prefix + name for name in FILES if prefix + name in files]
    if len(found) > 1:
        raise RenderFailed(f"{folder or '.'} holds several kustomization files: {', '.join(found)}")
    return found[0] if found else ""


def edited(
    files: Mapping[str, bytes], folder: str, wanted: Kustomize, variables: Mapping[str, str]
) -> dict[str, bytes]:
    """Give `files` with the kustomization in `folder` changed as the application asks.

    Raises:
        RenderFailed: no kustomization, not YAML, or a label or annotation that is there already and not forced.
    """
    path = file_of(files, folder)
    if not path:
        raise RenderFailed(f"{folder or '.'} holds no kustomization file", reason="NoKustomization")
    if wanted == Kustomize():
        return dict(files)
    body = _loaded(path, files[path])
    for name, value in (
        ("namePrefix", wanted.name_prefix),
        ("nameSuffix", wanted.name_suffix),
        ("namespace", wanted.namespace),
    ):
        if value:
            body[name] = value
    for image in wanted.images:
        _set_image(body, expanded(image, variables))
    for name, count in wanted.replicas:
        _replace_named(body, "replicas", {"name": name, "count": count})
    _add_labels(body, wanted, variables)
    _add_annotations(body, wanted, variables)
    if wanted.patches:
        body["patches"] = [*_listed(body, "patches"), *(dict(patch) for patch in wanted.patches)]
    _add_components(body, wanted, files, folder)
    return {**files, path: json.dumps(body).encode()}


def _loaded(path: str, content: bytes) -> dict[str, Any]:
    try:
        documents = [value for value in load_values(content, source=path) if value is not None]
    except InvalidManifest as error:
        raise RenderFailed(f"{error.where or path}: {error.problem}", reason=error.reason) from None
    if len(documents) > 1 or not all(isinstance(document, dict) for document in documents):
        raise RenderFailed(f"{path} is not one mapping", reason="InvalidYaml")
    return dict(documents[0]) if documents else {}


def _listed(body: Mapping[str, Any], name: str) -> list[Any]:
    found = body.get(name) or []
    if not isinstance(found, list):
        raise RenderFailed(f"the kustomization's {name} is not a list")
    return list(found)


def _replace_named(body: dict[str, Any], name: str, entry: dict[str, Any]) -> None:
    kept = [one for one in _listed(body, name) if not (isinstance(one, dict) and one.get("name") == entry["name"])]
    body[name] = [*kept, entry]


def _set_image(body: dict[str, Any], text: str) -> None:
    """Set `[old=]name[:tag][@digest]`; what the text leaves open keeps what the file said of that image."""
    old, _, new = text.partition("=") if "=" in text else (text, "", text)
    found = _DIGEST.fullmatch(new)
    bare, digest = (found["name"], (found["digest"] or "")[1:]) if found else (new, "")
    name, tag = _cut_tag(bare)
    wanted = old if "=" in text else name
    wanted = _cut_tag(wanted)[0]
    before = next((one for one in _listed(body, "images") if isinstance(one, dict) and one.get("name") == wanted), {})
    entry: dict[str, Any] = {"name": wanted}
    new_name = name if "=" in text and name not in ("*", wanted) else before.get("newName", "")
    if new_name:
        entry["newName"] = new_name
    if digest:
        entry["digest"] = digest
    elif tag and tag != "*":
        entry["newTag"] = tag
    else:
        entry |= {key: before[key] for key in ("newTag", "digest") if key in before}
    _replace_named(body, "images", entry)


def _cut_tag(image: str) -> tuple[str, str]:
    """Cut `host:5000/name:tag` at the colon that is a tag's."""
    head, colon, tail = image.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (image, "")


def _add_labels(body: dict[str, Any], wanted: Kustomize, variables: Mapping[str, str]) -> None:
    labels = {name: expanded(value, variables) for name, value in wanted.common_labels.items()}
    if not labels:
        return
    if wanted.labels_without_selector:
        entry: dict[str, Any] = {"pairs": labels, "includeSelectors": False}
        if wanted.labels_in_templates:
            entry["includeTemplates"] = True
        paired = {name for one in _listed(body, "labels") for name in (one.get("pairs") or {})}
        _refuse_repeated("label", paired & set(labels), forced=wanted.force_labels)
        body["labels"] = [*_listed(body, "labels"), entry]
        return
    there = dict(body.get("commonLabels") or {})
    _refuse_repeated("label", set(there) & set(labels), forced=wanted.force_labels)
    body["commonLabels"] = {**there, **labels}


def _add_annotations(body: dict[str, Any], wanted: Kustomize, variables: Mapping[str, str]) -> None:
    if not wanted.common_annotations:
        return
    found = {
        name: expanded(value, variables) if wanted.expand_annotations else value
        for name, value in wanted.common_annotations.items()
    }
    there = dict(body.get("commonAnnotations") or {})
    _refuse_repeated("annotation", set(there) & set(found), forced=wanted.force_annotations)
    body["commonAnnotations"] = {**there, **found}


def _refuse_repeated(what: str, names: set[str], *, forced: bool) -> None:
    if names and not forced:
        word = {"label": "forceCommonLabels", "annotation": "forceCommonAnnotations"}[what]
        raise RenderFailed(
            f"{what} {min(names)} is in the kustomization already", hint=f"set kustomize.{word}: true to overrule it"
        )


def _add_components(body: dict[str, Any], wanted: Kustomize, files: Mapping[str, bytes], folder: str) -> None:
    if not wanted.components:
        return
    components = [
        name
        for name in wanted.components
        if not wanted.ignore_missing_components or file_of(files, _joined(folder, name))
    ]
    body["components"] = [*_listed(body, "components"), *components]


def _joined(folder: str, relative: str) -> str:
    parts: list[str] = []
    for part in [*folder.split("/"), *relative.split("/")]:
        if part == "..":
            if not parts:
                return relative
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
