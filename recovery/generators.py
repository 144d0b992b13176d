"""The generators of an ApplicationSet: what each turns into, as sets of parameters.

Rules: argo-cd v3.6 `applicationset/generators/*.go`, `applicationset/utils/{utils,template_functions}.go`. Generators
that ask a service outside Git (SCM providers, pull requests, plugins, cluster decisions) are refused by name: what
they gave cannot be derived from a repository. Reads Git through its door; pure otherwise. Never here: templates of
Applications (`appset.py`), what is done with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from recovery.app import IN_CLUSTER, IN_CLUSTER_NAME
from recovery.globs import path_matches
from recovery.setup import SECRET_TYPE, ClusterEntry, Setup, selects
from secretsops.errors import GitUnavailable, InvalidManifest, SyncRefused
from secretsops.manifest import load_values
from secretsops.ports import GitRepos
from secretsops.templating import Template, argo_cd

Params = dict[str, Any]
GoTemplate = Callable[[str, Mapping[str, Any], str], str]
"""Render one Go text/template: text, parameters, what a missing key does (`missingkey=` option, "" for the default)."""


FOREIGN = ("scmProvider", "pullRequest", "plugin", "clusterDecisionResource")
"""Generators whose answer is not in Git."""
KINDS = ("list", "clusters", "git", "matrix", "merge", *FOREIGN)
SET_LIMIT = 5000
"""Sets of parameters one ApplicationSet may have (the peer's own limit for resources in a status)."""
NAME_LIMIT = 253


class GenerationFailed(SyncRefused):
    """A generator gives no answer, so that its ApplicationSet generates nothing at all."""


def go_template(text: str, params: Mapping[str, Any], missing: str) -> str:
    """Render one Go template as Argo CD does: its functions, numbers as float64.

    Raises:
        TemplateFailed: it does not parse, render or stay within its limits.
    """
    template = Template.parse(text, functions=argo_cd(), missing_key_fails=missing == "error")
    return template.render(params).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What generators read: Git at pinned commits, the clusters of the installation, and the template language."""

    git: GitRepos
    pin: Callable[[str, str], str]
    setup: Setup
    go: GoTemplate = go_template


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How the texts of one ApplicationSet are filled in: Go templates, or flat `{{ key }}` replacement."""

    go: GoTemplate | None
    missing: str = ""
    """What a missing key does in a Go template."""

    @property
    def is_go(self) -> bool:
        """Say whether texts are Go templates."""
        return self.go is not None

    def fill(self, value: Any, params: Mapping[str, Any]) -> Any:
        """Give plain data with every text in it, keys included, filled in."""
        if isinstance(value, dict):
            return {self.text(name, params): self.fill(inner, params) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner, params) for inner in value]
        return self.text(value, params) if isinstance(value, str) else value

    def text(self, text: str, params: Mapping[str, Any]) -> str:
        """Give one text filled in.

        Compat: without Go templates an unknown key, or one that is no text, stays as it is written.
        """
        if "{{" not in text:
            return text
        if self.go is not None:
            return self.go(text, params, self.missing)
        return _TAG.sub(lambda found: _flat(found, params), text)


_TAG = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def _flat(found: re.Match[str], params: Mapping[str, Any]) -> str:
    value = params.get(found[1].strip())
    return value if isinstance(value, str) and found[1].strip() else found[0]


def generate(entry: Mapping[str, Any], sources: Sources, language: Language, depth: int = 0) -> list[Params]:
    """Give the parameter sets of one generator, filtered by its selector.

    Raises:
        GenerationFailed: it cannot be read, asks something outside Git, or gives no answer.
    """
    kinds = [kind for kind in KINDS if entry.get(kind) is not None]
    if len(kinds) != 1:
        unknown = sorted(set(entry) - {"selector", "template", *KINDS})
        raise _failed(f"a generator names {' and '.join(kinds) or (unknown[0] if unknown else 'nothing')}")
    kind = kinds[0]
    spec = entry[kind]
    if kind in FOREIGN:
        raise GenerationFailed(
            f"generator {kind} asks a service outside Git: what it gives cannot be derived from a repository",
            reason="NotDerivable",
            hint="commit its last output as a list or git files generator for a rebuild",
        )
    if not isinstance(spec, dict):
        raise _failed(f"generator {kind} is not a mapping")
    found = _READERS[kind](spec, sources, language, depth)
    if len(found) > SET_LIMIT:
        raise _failed(f"generator {kind} gives more than {SET_LIMIT} sets of parameters")
    selector = entry.get("selector")
    if not isinstance(selector, dict) or not selector:
        return found
    try:
        return [params for params in found if selects(selector, _as_labels(params))]
    except InvalidManifest as error:
        raise _failed(f"error parsing label selector: {error.problem}") from None


def _failed(message: str, reason: str = "ApplicationGenerationFromParamsError") -> GenerationFailed:
    return GenerationFailed(message, reason=reason)


def _as_labels(params: Params) -> dict[str, str]:
    return {name: shown(value) for name, value in flattened(params).items()}


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Give nested data as one map with dots (`jeremywohl/flatten`, DotStyle); empty maps and lists go."""
    if isinstance(value, dict):
        pairs: Iterable[tuple[str, Any]] = value.items()
    elif isinstance(value, list):
        pairs = ((str(number), inner) for number, inner in enumerate(value))
    else:
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, inner in pairs:
        found |= flattened(inner, f"{prefix}.{name}" if prefix else str(name))
    return found


def shown(value: Any) -> str:
    """Give a value as Go's `%v` prints what was read from YAML or JSON."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value)) if abs(value) < 1e6 else f"{value:g}".replace("e+0", "e+0")
    return str(value)


def sanitised(text: str) -> str:
    """Give a text as part of a DNS name (`utils.SanitizeName`)."""
    return re.sub(r"[^-a-z0-9.]", "-", text.lower())[:NAME_LIMIT].strip("-.")


# --- list, clusters ------------------------------------------------------------------------------------


def _list(spec: Mapping[str, Any], _sources: Sources, language: Language, _depth: int) -> list[Params]:
    found: list[Params] = []
    for element in _maps(spec, "elements", "list"):
        if language.is_go:
            found.append(dict(element))
            continue
        params: Params = {}
        for name, value in element.items():
            if name == "values":
                if not isinstance(value, dict):
                    raise _failed("error generating params from list: error parsing values map")
                for inner, text in value.items():
                    params[f"values.{inner}"] = _text(text)
            else:
                params[name] = _text(value)
        found.append(params)
    text = spec.get("elementsYaml")
    if text:
        found += _yaml_elements(str(text))
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        # Compat: the peer's words, a slip of its formatting included.
        raise _failed("error generating params from list: error parsing value as string %!w(<nil>)")
    return value


def _yaml_elements(text: str) -> list[Params]:
    try:
        documents = [value for value in load_values(text.encode(), source="elementsYaml") if value is not None]
    except InvalidManifest as error:
        raise _failed(f"error unmarshling decoded ElementsYaml {error.problem}") from None
    elements = documents[0] if documents else []
    if not isinstance(elements, list) or not all(isinstance(one, dict) for one in elements):
        raise _failed("error unmarshling decoded ElementsYaml: not a list of mappings")
    return elements


def _clusters(spec: Mapping[str, Any], sources: Sources, language: Language, _depth: int) -> list[Params]:
    """Give one set per cluster Secret, the cluster itself last unless a selector asks or a Secret names it."""
    selector = spec.get("selector") or {}
    chosen = [one for one in sources.setup.clusters if selects(selector, {SECRET_TYPE: "cluster", **one.labels})]
    wants_local = not selector.get("matchLabels") and not selector.get("matchExpressions")
    if wants_local and not any(one.server == IN_CLUSTER for one in sources.setup.clusters):
        chosen = [*chosen, ClusterEntry(secret="", name=IN_CLUSTER_NAME, server=IN_CLUSTER)]
    found = [_with_values(spec, _cluster_params(one, language), language) for one in chosen]
    return [{"clusters": found}] if spec.get("flatList") is True else found


def _cluster_params(one: ClusterEntry, language: Language) -> Params:
    params: Params = {
        "name": one.name,
        "nameNormalized": sanitised(one.name),
        "server": one.server,
        "project": one.project,
    }
    if language.is_go:
        if one.secret:
            params["metadata"] = {"labels": dict(one.labels), "annotations": dict(one.annotations)}
        return params
    params |= {f"metadata.annotations.{name}": value for name, value in one.annotations.items()}
    return params | {f"metadata.labels.{name}": value for name, value in one.labels.items()}


def _with_values(spec: Mapping[str, Any], params: Params, language: Language) -> Params:
    """Add `values`, each filled in from the other parameters; one value never sees another."""
    values = spec.get("values") or {}
    if not isinstance(values, dict):
        raise _failed("values of a generator are not a mapping")
    filled = {str(name): language.text(str(value), params) for name, value in values.items()}
    if language.is_go:
        return {**params, "values": filled} if values else params
    return params | {f"values.{name}": value for name, value in filled.items()}


def _maps(spec: Mapping[str, Any], field: str, kind: str) -> list[dict[str, Any]]:
    found = spec.get(field) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _failed(f"generator {kind}: {field} is not a list of mappings")
    return found


# --- git -----------------------------------------------------------------------------------------------


def _git(spec: Mapping[str, Any], sources: Sources, language: Language, _depth: int) -> list[Params]:
    url, revision = str(spec.get("repoURL") or ""), str(spec.get("revision") or "")
    prefix = str(spec.get("pathParamPrefix") or "")
    if spec.get("directories"):
        what, read = "error getting directories from repo: error retrieving Git Directories", _directories
    elif spec.get("files"):
        what, read = "error retrieving Git files", _files
    else:
        raise _failed("error generating params from git: git generator names neither directories nor files")
    try:
        files = sources.git.tree(url, sources.pin(url, revision)).files
    except GitUnavailable as error:
        said = "failed to list refs: repository not found"
        if error.reason == "RevisionNotFound":
            said = f"unable to resolve '{revision}' to a commit SHA: revision not found"
        raise GenerationFailed(
            f"error generating params from git: {what}: rpc error: code = Internal desc = "
            f"unable to resolve git revision : {said}",
            reason="ApplicationGenerationFromParamsError",
            hint=error.message,
        ) from None
    found = read(spec, files, prefix, language)
    return [_with_values(spec, params, language) for params in found]


def _directories(spec: Mapping[str, Any], files: Mapping[str, bytes], prefix: str, language: Language) -> list[Params]:
    """Give one set per folder that a pattern takes; folders whose names begin with a dot are never looked into."""
    folders: set[str] = set()
    for path in files:
        parts = path.split("/")[:-1]
        for length in range(1, len(parts) + 1):
            if parts[length - 1].startswith("."):
                break
            folders.add("/".join(parts[:length]))
    wanted, unwanted = _patterns(spec, "directories")
    chosen = sorted(
        folder
        for folder in folders
        if any(path_matches(glob, folder) for glob in wanted) and not any(path_matches(g, folder) for g in unwanted)
    )
    return [_path_params({}, folder, "", prefix, language) for folder in chosen]


def _patterns(spec: Mapping[str, Any], field: str) -> tuple[list[str], list[str]]:
    items = _maps(spec, field, "git")
    wanted = [str(item.get("path") or "") for item in items if item.get("exclude") is not True]
    return wanted, [str(item.get("path") or "") for item in items if item.get("exclude") is True]


def _files(spec: Mapping[str, Any], files: Mapping[str, bytes], prefix: str, language: Language) -> list[Params]:
    """Give the objects in the files that a pathspec takes: `*` crosses `/`, a folder stands for what is below it."""
    wanted, unwanted = _patterns(spec, "files")
    chosen = sorted(
        path
        for path in files
        if any(_is_listed(spec_, path) for spec_ in wanted) and not any(_is_listed(u, path) for u in unwanted)
    )
    return [params for path in chosen for params in _file_params(path, files[path], prefix, language)]


def _is_listed(pathspec: str, path: str) -> bool:
    return fnmatchcase(path, pathspec) or path.startswith(pathspec.rstrip("/") + "/")


def _file_params(path: str, content: bytes, prefix: str, language: Language) -> list[Params]:
    try:
        documents = [value for value in load_values(content, source=path) if value is not None]
    except InvalidManifest as error:
        raise _failed(
            f"error generating params from git: unable to process file '{path}': unable to parse file: {error.problem}"
        ) from None
    value = documents[0] if documents else {}
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in found):
        raise _failed(f"error generating params from git: unable to process file '{path}': unable to parse file")
    folder, _, name = path.rpartition("/")
    result = []
    for one in found or [{}]:
        base = dict(one) if language.is_go else {key: shown(inner) for key, inner in flattened(one).items()}
        result.append(_path_params(base, folder or ".", name, prefix, language))
    return result


def _path_params(params: Params, folder: str, name: str, prefix: str, language: Language) -> Params:
    base = folder.rpartition("/")[2]
    named = {"filename": name, "filenameNormalized": sanitised(name)} if name else {}
    facts = {"basename": base, "basenameNormalized": sanitised(base), **named}
    if language.is_go:
        path = {"path": folder, **facts, "segments": folder.split("/")}
        return {**params, **({prefix: {"path": path}} if prefix else {"path": path})}
    start = f"{prefix}.path" if prefix else "path"
    segments = {f"{start}[{number}]": part for number, part in enumerate(folder.split("/"))}
    return {**params, start: folder, **{f"{start}.{key}": value for key, value in facts.items()}, **segments}


# --- matrix, merge -------------------------------------------------------------------------------------


def _children(spec: Mapping[str, Any], kind: str, depth: int) -> list[dict[str, Any]]:
    if depth > 1:
        raise _failed(f"generator {kind}: generators are nested deeper than one level")
    return _maps(spec, "generators", kind)


def _matrix(spec: Mapping[str, Any], sources: Sources, language: Language, depth: int) -> list[Params]:
    """Give the product of two generators; the second one's own texts are filled in from each set of the first."""
    children = _children(spec, "matrix", depth)
    if len(children) != 2:
        few = "less than two generators, Matrix support only two" if len(children) < 2 else "more than two generators"
        raise _failed(f"error generating params from matrix: found {few}")
    found: list[Params] = []
    for first in generate(children[0], sources, language, depth + 1):
        second = language.fill(children[1], first if language.is_go else _texts_of(first))
        for other in generate(second, sources, language, depth + 1):
            found.append(_united(first, other) if language.is_go else _combined(first, other))
            if len(found) > SET_LIMIT:
                raise _failed(f"generator matrix gives more than {SET_LIMIT} sets of parameters")
    return found


def _texts_of(params: Params) -> Params:
    return {name: value for name, value in params.items() if isinstance(value, str)}


def _combined(first: Params, second: Params) -> Params:
    for name in first.keys() & second.keys():
        if first[name] != second[name]:
            raise _failed(
                "error generating params from matrix: failed to combine string maps with merging params for the "
                f"matrix generator: found duplicate key {name} with different value, "
                f"a: {first[name]} ,b: {second[name]}"
            )
    return {**first, **second}


def _united(first: Params, second: Params) -> Params:
    """Unite two nested maps; where both say something the first wins (`mergo` with override)."""
    result = dict(second)
    for name, value in first.items():
        inside = result.get(name)
        result[name] = _united(value, inside) if isinstance(value, dict) and isinstance(inside, dict) else value
    return result


def _merge(spec: Mapping[str, Any], sources: Sources, language: Language, depth: int) -> list[Params]:
    """Give the first generator's sets with those of the others laid over the ones of equal merge keys.

    Compat: the peer's order is random; here it is that of the first generator.
    """
    children = _children(spec, "merge", depth)
    keys = [str(key) for key in spec.get("mergeKeys") or []]
    if len(children) < 2:
        raise _failed("error generating params from merge: found less than two generators, Merge requires two or more")
    if not keys:
        raise _failed("error generating params from merge: no merge keys were specified, Merge requires at least one")
    base, *others = [_by_keys(generate(child, sources, language, depth + 1), keys) for child in children]
    for other in others:
        for mark, params in other.items():
            if mark in base:
                base[mark] = _united(params, base[mark]) if language.is_go else {**base[mark], **params}
    return list(base.values())


def _by_keys(sets: Sequence[Params], keys: Sequence[str]) -> dict[str, Params]:
    """Index sets by their merge keys. Compat: a key with dots is never found in nested parameters, as in the peer."""
    found: dict[str, Params] = {}
    for params in sets:
        mark = json.dumps({key: params.get(key) for key in sorted(keys)}, sort_keys=True, separators=(",", ":"))
        if mark in found:
            raise _failed(
                "error generating params from merge: the parameters from a generator were not unique by the given "
                f"mergeKeys, Merge requires all param sets to be unique. Duplicate key was {mark}"
            )
        found[mark] = params
    return found


_Reader = Callable[[Mapping[str, Any], Sources, Language, int], list[Params]]
_READERS: Mapping[str, _Reader] = {
    "list": _list,
    "clusters": _clusters,
    "git": _git,
    "matrix": _matrix,
    "merge": _merge,
}
