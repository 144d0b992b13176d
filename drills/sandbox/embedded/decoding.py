"""Reading what a client sent into the shape of its kind: what is unknown is dropped, warned about or refused. Pure.

Follows `endpoints/handlers` and the decoders of `k8s.io/apimachinery/pkg/runtime/serializer` in what a client can see.
Never here: what an object of the kind may be (`rules.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drills.sandbox.embedded import fields, rules
from drills.sandbox.embedded.kinds import metadata_schema
from drills.sandbox.embedded.schema import Problem, check, drop_empty, drop_nulls, fill, prune
from drills.sandbox.embedded.status import Refused, bad_request
from drills.sandbox.embedded.writes import Body, Options, Target


def decoded(target: Target, body: Any, options: Options, *, partial: bool = False) -> tuple[Body, list[str]]:
    """Read a body into the shape of its kind: what is unknown is dropped, warned about or refused."""
    kind = target.kind
    if not isinstance(body, dict):
        raise bad_request("couldn't get version/kind; json parse error: the body is no object")
    body.setdefault("apiVersion", kind.api_version)
    body.setdefault("kind", kind.kind)
    if (body["apiVersion"], body["kind"]) != (kind.api_version, kind.kind):
        raise bad_request(
            f"the API version in the data ({body['apiVersion']}, Kind={body['kind']}) does not match the expected "
            f"API version ({kind.api_version}, Kind={kind.kind})"
        )
    metadata = body.get("metadata")
    if metadata is None:
        metadata = body["metadata"] = {}
    if not isinstance(metadata, dict):
        raise bad_request("metadata has to be an object")
    place = str(metadata.get("namespace") or "")
    if kind.namespaced and place and place != target.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if target.name and metadata.get("name") not in (None, "", target.name):
        raise bad_request(
            f"the name of the object ({metadata.get('name')}) does not match the name on the URL ({target.name})"
        )
    if target.name:
        metadata["name"] = target.name
    metadata.pop("namespace", None)
    if kind.namespaced:
        metadata["namespace"] = target.namespace
    drop_nulls(kind.schema, body)
    dropped = list(prune(kind.schema, body))
    if partial:
        _typed(target, body, dropped)
        return body, []
    warnings = [f'unknown field "{path}"' for path in dropped] if options.validation != "Ignore" else []
    if warnings and options.validation == "Strict":
        raise bad_request(f"{_about(body)}strict decoding error: {', '.join(warnings)}")
    if kind.custom:
        drop_empty(metadata_schema(), metadata)
        fill(kind.schema, body)
    else:
        problems = list(check(kind.schema, {**body, "metadata": {}})) + list(_metadata_types(metadata))
        typed = [each for each in problems if each.reason == "FieldValueTypeInvalid"]
        if typed:
            raise bad_request(f"{_about(body)}json: cannot unmarshal into Go struct field {typed[0].field}")
        rules.prepare(kind, body)
    return body, warnings


def _typed(target: Target, body: Body, dropped: Sequence[str]) -> None:
    """Refuse what is no configuration of this kind: undeclared fields, values of another type, an element twice."""
    kind = target.kind
    problems = [*check(kind.schema, {**body, "metadata": {}}), *_metadata_types(body["metadata"])]
    told = [f".{path}: field not declared in schema" for path in dropped]
    told += [f".{each.field}: {each.message}" for each in problems if each.reason == "FieldValueTypeInvalid"]
    told += [
        f"{fields.spoken(path)}: duplicate entries for key {fields.spoken((element,))}"
        for path, element in fields.repeated(kind.schema, {**body, "metadata": {}})
    ]
    if told:
        where = f"{target.namespace}/{target.name}; {kind.api_version}, Kind={kind.kind}"
        raise Refused(500, "", f"failed to create typed patch object ({where}): {told[0]}")


def _about(body: Body) -> str:
    return (
        f'{body["kind"]} in version "{body["apiVersion"].rpartition("/")[2]}" cannot be handled as a {body["kind"]}: '
    )


def _metadata_types(metadata: Mapping[str, Any]) -> Iterable[Problem]:
    for name in ("labels", "annotations"):
        found = metadata.get(name)
        if found is not None and not (
            isinstance(found, dict) and all(isinstance(each, str) for each in found.values())
        ):
            yield Problem(f"metadata.{name}", "FieldValueTypeInvalid", "must be a map of strings")
