"""What `helm template` is asked for, from an application's fields. Pure.

Rules: argo-cd v3.6 `util/helm/{cmd,helm}.go`, `reposerver/repository/repository.go` (`helmTemplate`,
`getResolvedValueFiles`). Value precedence, low to high: the chart's values.yaml, value files in order, `values` or
`valuesObject`, parameters, forced texts, file parameters. Never here: rendering (the Renderer door), reading Git.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recovery.app import App, Source
from recovery.environment import expanded
from recovery.globs import doublestar
from secretsops.errors import RenderFailed
from secretsops.ports import HelmTemplate

_COMMA = re.compile(r"([^\\]),")
_GLOB = re.compile(r"[*?\[{]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where value files are looked up: the whole repository of the source, and those lent by `ref`."""

    repository: Mapping[str, bytes] = field(repr=False)
    lent: Mapping[str, Mapping[str, bytes]] = field(repr=False, default_factory=dict)


def template_of(
    app: App, source: Source, files: Files, variables: Mapping[str, str], *, api_versions: Sequence[str] = ()
) -> HelmTemplate:
    """Give the request for one chart in a folder of a repository.

    Raises:
        RenderFailed: a value file is missing, outside the repository, or at a URL.
    """
    helm = source.helm
    chart = _below(files.repository, source.path)
    if "Chart.yaml" not in chart:
        raise RenderFailed(f"{source.path or '.'} holds no Chart.yaml", reason="NoChart")
    values = [content for _, content in _value_files(source, files, variables)]
    if helm.values:
        values.append(helm.values.encode())
    return HelmTemplate(
        files=chart,
        release=expanded(helm.release, variables) or app.name,
        namespace=helm.namespace or app.destination,
        values=values,
        sets=[(p.name, _set_text(expanded(p.value, variables))) for p in helm.parameters if not p.as_text],
        set_strings=[(p.name, _set_text(expanded(p.value, variables))) for p in helm.parameters if p.as_text],
        set_files=[(name, _one_file(source, files, expanded(path, variables))) for name, path in helm.file_parameters],
        kube_version=helm.kube_version,
        api_versions=helm.api_versions or tuple(api_versions),
        crds=not helm.skip_crds,
        check_schema=not helm.skip_schema,
    )


def _set_text(value: str) -> str:
    """Escape commas, unless the value is a list in braces (`cleanSetParameters`)."""
    if value.startswith("{") and value.endswith("}"):
        return value
    return _COMMA.sub(r"\1\\,", value)


def _below(files: Mapping[str, bytes], folder: str) -> dict[str, bytes]:
    prefix = f"{folder}/" if folder else ""
    return {path.removeprefix(prefix): content for path, content in files.items() if path.startswith(prefix)}


def _value_files(source: Source, files: Files, variables: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Give the value files in order: a glob stands for its matches by name, a repeated file counts once.

    An explicit entry keeps its own place even where a glob before it matches it too.
    """
    explicit = {
        _place(source, expanded(text, _keep_ref(text, files, variables)))
        for text in source.helm.value_files
        if not _GLOB.search(text)
    }
    found: dict[tuple[str, str], bytes] = {}
    for text in source.helm.value_files:
        ref, path = _place(source, expanded(text, _keep_ref(text, files, variables)))
        tree = files.lent[ref] if ref else files.repository
        if _GLOB.search(path):
            matching = sorted(name for name in tree if doublestar(path).fullmatch(name))
            if not matching and not source.helm.ignore_missing_files:
                raise RenderFailed(f"no value file matches {text}", reason="NoValueFile")
            found |= {(ref, name): tree[name] for name in matching if (ref, name) not in {*found, *explicit}}
        elif path in tree:
            found.setdefault((ref, path), tree[path])
        elif not source.helm.ignore_missing_files:
            raise RenderFailed(f"value file {text} is not in the repository", reason="NoValueFile")
    return [(path, content) for (_, path), content in found.items()]


def _keep_ref(text: str, files: Files, variables: Mapping[str, str]) -> Mapping[str, str]:
    """Leave `$ref/…` alone: it names a source, not a variable."""
    name = text[1:].partition("/")[0] if text.startswith("$") else ""
    return {**variables, name: f"${name}"} if name in files.lent else variables


def _place(source: Source, text: str) -> tuple[str, str]:
    """Give (ref, path in that repository) of a value file as an application writes it."""
    if "://" in text:
        raise RenderFailed(
            f"value file {text.partition('?')[0]} is at a URL, which Git does not keep",
            reason="NotInGit",
            hint="commit the file, or add its repository as a source with a ref",
        )
    if text.startswith("$"):
        ref, _, path = text[1:].partition("/")
        return ref, _normal(path, text)
    return "", _normal(text.lstrip("/") if text.startswith("/") else f"{source.path}/{text}", text)


def _normal(path: str, shown: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not parts:
                raise RenderFailed(f"value file {shown} leaves the repository", reason="OutsideRepository")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _one_file(source: Source, files: Files, text: str) -> bytes:
    ref, path = _place(source, text)
    tree = files.lent[ref] if ref else files.repository
    if path not in tree:
        raise RenderFailed(f"file parameter {text} is not in the repository", reason="NoValueFile")
    return tree[path]
