"""What is wrong with ExternalSecrets and stores, found without asking any store.

Everything the controller would refuse, and every template, pattern and store condition, with the place and the cure. No
value is read but those of templates in ConfigMaps and Secrets, and none is in a finding.

What never lives here: printing, what a sync would write (`secretsops.external.offline`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from secretsops.errors import InvalidManifest, NotFound, SecretsOpsError
from secretsops.external.entries import Pull, RegexpRewrite, StoreRef, TransformRewrite
from secretsops.external.generators import kind_of
from secretsops.external.model import CLUSTER_SECRET_STORE, SECRET_STORE, ExternalSecret, read, store_refs
from secretsops.external.offline import Objects
from secretsops.external.patterns import compiled
from secretsops.external.reading import template_texts
from secretsops.external.store import NAMESPACE_LABEL, admits, read_store
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.templating import Template, external_secrets

NAMESPACE = GroupVersionKind("", "v1", "Namespace")
Try = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong; `where` names object and place, `hint` cures it. No value is in it."""

    where: str
    reason: str
    message: str
    hint: str = ""
    fatal: bool = True


def check(objects: Objects) -> list[Finding]:
    """Give what is wrong with the ExternalSecrets and stores of the files, without asking any store."""
    found: list[Finding] = []
    for store in objects.stores:
        where = f"{store.kind.kind} {store.name}"
        found += _refusals(where, [partial(read_store, store)])
        for condition in store.spec.get("conditions") or []:
            expressions = condition.get("namespaceRegexes") if isinstance(condition, dict) else None
            found += _refusals(where, [partial(compiled, str(each)) for each in expressions or []])
    for external in objects.externals:
        found += checked(external, objects)
    return found


def checked(external: Manifest, objects: Objects) -> Iterator[Finding]:
    """Give what is wrong with one ExternalSecret."""
    where = f"ExternalSecret {external.namespace}/{external.name}"
    for ref in store_refs(external):
        yield from _store_findings(where, ref, external.namespace, objects)
    try:
        wanted = read(external)
    except SecretsOpsError as error:
        yield _finding(where, error)
        return
    for pull in wanted.pulls:
        yield from _refusals(f"{where}: {pull.place}", _tries(pull))
    if wanted.target.template is not None:
        yield from _templates(where, wanted, objects)


def _tries(pull: Pull) -> list[Try]:
    tries: list[Try] = []
    if pull.find is not None and pull.find.name:
        tries.append(partial(compiled, pull.find.name))
    if pull.generator is not None:
        tries.append(partial(kind_of, pull.generator))
    for operation in pull.rewrites:
        if isinstance(operation, RegexpRewrite):
            tries.append(partial(compiled, operation.source))
        elif isinstance(operation, TransformRewrite):
            tries.append(partial(_parsed, operation.template))
    return tries


def _parsed(text: str) -> object:
    return Template.parse(text, functions=external_secrets())


def _store_findings(where: str, ref: StoreRef, namespace: str, objects: Objects) -> Iterator[Finding]:
    kind = CLUSTER_SECRET_STORE if ref.kind == CLUSTER_SECRET_STORE.kind else SECRET_STORE
    try:
        store = objects.get(kind, ref.name, "" if kind is CLUSTER_SECRET_STORE else namespace)
    except NotFound:
        text = f'{ref.kind} "{ref.name}" is not there'
        yield Finding(
            where=where,
            reason="StoreMissing",
            message=text,
            hint="give its file too, or a cluster by --kubeconfig",
            fatal=objects.cluster is not None,
        )
        return
    if kind is not CLUSTER_SECRET_STORE:
        return
    try:
        labels = dict(objects.get(NAMESPACE, namespace).labels)
    except NotFound:
        labels = {NAMESPACE_LABEL: namespace}
    try:
        if not admits(store, namespace, labels):
            text = f'using cluster store "{ref.name}" is not allowed from namespace "{namespace}"'
            hint = "spec.conditions of the store would have to name the namespace, a label or a pattern of it"
            yield Finding(where=where, reason="StoreDenied", message=text, hint=hint)
    except InvalidManifest as error:
        yield _finding(where, error)


def _templates(where: str, wanted: ExternalSecret, objects: Objects) -> Iterator[Finding]:
    body = wanted.target.template or {}
    metadata = _map(body, "metadata")
    texts = {
        f"template.{name}.{key}": str(text)
        for name, holder in (("data", body), ("labels", metadata), ("annotations", metadata))
        for key, text in _map(holder, name).items()
    }
    sources = body.get("templateFrom")
    for number, entry in enumerate(sources if isinstance(sources, list) else []):
        texts |= _sources(f"template.templateFrom[{number}]", entry, wanted.namespace, objects)
    for place, text in texts.items():
        yield from _refusals(f"{where}: {place}", [partial(_parsed, text)])


def _sources(place: str, entry: Mapping[str, Any], namespace: str, objects: Objects) -> dict[str, str]:
    """Give the texts of one entry of templateFrom; what is not at hand cannot be checked."""
    found = {f"{place}.literal": str(entry["literal"])} if entry.get("literal") else {}
    held = template_texts(objects.get, namespace)
    for part, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
        named = _map(entry, part)
        texts = held(kind, str(named.get("name") or "")) or {} if named else {}
        for key in [str(item.get("key")) for item in named.get("items") or []]:
            if key in texts:
                found[f"{place}.{part} key {key}"] = texts[key].decode("utf-8", "replace")
    return found


def _map(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name) if isinstance(body, dict) else None
    return found if isinstance(found, dict) else {}


def _refusals(where: str, tries: Sequence[Try]) -> list[Finding]:
    found = []
    for attempt in tries:
        try:
            attempt()
        except SecretsOpsError as error:
            found.append(_finding(where, error))
    return found


def _finding(where: str, error: SecretsOpsError) -> Finding:
    return Finding(where=where, reason=error.reason, message=error.message, hint=error.hint)
