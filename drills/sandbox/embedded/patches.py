"""Three of the four patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch. Pure.

The strategic one follows `k8s.io/apimachinery/pkg/util/strategicpatch/patch.go`; apply is in `fields.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from drills.sandbox.embedded.schema import Schema
from drills.sandbox.embedded.status import Refused, bad_request

_OPERATIONS = 10_000
"""Operations of one JSON patch (`apiserver/pkg/endpoints/handlers/patch.go`)."""
_DIRECTIVES = ("$patch", "$retainKeys")


def merge_patch(target: Any, patch: Any) -> Any:
    """Give the result of a JSON merge patch."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_patch(schema: Schema | None, target: Any, patch: Mapping[str, Any]) -> Any:
    """Give the result of a strategic merge patch: lists with a merge key by item, other lists replaced."""
    result: dict[str, Any] = dict(target) if isinstance(target, dict) else {}
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    if isinstance(patch.get("$retainKeys"), list):
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key in _DIRECTIVES or key.startswith("$setElementOrder/"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [each for each in result.get(name) or [] if each not in value]
            continue
        below = schema.child(key) if schema is not None else None
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            if value.get("$patch") == "delete":
                result.pop(key, None)
            else:
                result[key] = strategic_patch(below, result.get(key), value)
        elif isinstance(value, list) and below is not None and "merge" in below.strategy:
            result[key] = _list_patch(below, result.get(key) or [], value, patch.get(f"$setElementOrder/{key}"))
        else:
            result[key] = copy.deepcopy(value)
    return result


def _list_patch(schema: Schema, live: list[Any], patch: list[Any], order: Any) -> list[Any]:
    key = schema.merge_key
    if not key:
        return live + [copy.deepcopy(each) for each in patch if each not in live]
    if any(isinstance(each, dict) and each.get("$patch") == "replace" for each in patch):
        return [copy.deepcopy(each) for each in patch if "$patch" not in each]
    items = list(live)
    for each in patch:
        if not isinstance(each, dict) or key not in each:
            raise bad_request(f"map: {key} is missing: does not contain declared merge key: {key}")
        place = next((at for at, item in enumerate(items) if item.get(key) == each[key]), None)
        if each.get("$patch") == "delete":
            items = [item for item in items if item.get(key) != each[key]]
        elif place is None:
            items.append(strategic_patch(schema.items, {}, each))
        else:
            items[place] = strategic_patch(schema.items, items[place], each)
    named = [each[key] for each in patch if each.get("$patch") != "delete"]
    wanted = [each.get(key) for each in order if isinstance(each, dict)] if isinstance(order, list) else named
    return _ordered(items, wanted, [item.get(key) for item in live], key)


def _ordered(items: list[Any], wanted: list[Any], before: list[Any], key: str) -> list[Any]:
    """Put the patch's items in its order and the others where they stood (`normalizeElementOrder`)."""
    once = [value for place, value in enumerate(wanted) if value not in wanted[:place]]
    left = [item for value in once for item in items if item.get(key) == value]
    right = [item for item in items if item.get(key) not in wanted]
    result: list[Any] = []
    while left and right:
        mine, other = left[0].get(key), right[0].get(key)
        both = mine in before and other in before
        result.append(right.pop(0) if both and before.index(mine) > before.index(other) else left.pop(0))
    return result + left + right


def json_patch(target: Any, operations: Any) -> Any:
    """Give the result of a JSON patch; a test that fails or a path that is not there is a 422."""
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise bad_request("error decoding patch: it has to be a list of operations")
    if len(operations) > _OPERATIONS:
        raise Refused(413, "RequestEntityTooLarge", f"The allowed maximum operations in a JSON patch is {_OPERATIONS}")
    body = {"": copy.deepcopy(target)}
    for operation in operations:
        act, path = operation.get("op"), ["", *_pointer(operation.get("path"))]
        if act in ("move", "copy"):
            source = ["", *_pointer(operation.get("from"))]
            value = copy.deepcopy(_at(body, source))
            if act == "move":
                _remove(body, source)
            _add(body, path, value)
        elif act == "test":
            if _at(body, path) != operation.get("value"):
                raise _rejected(f"testing value {operation['path']} failed: test failed")
        elif act == "remove":
            _remove(body, path)
        elif act == "replace":
            _at(body, path)
            _put(body, path, copy.deepcopy(operation.get("value")))
        elif act == "add":
            _add(body, path, copy.deepcopy(operation.get("value")))
        else:
            raise _rejected(f"unexpected kind: {act}")
    return body[""]


def _rejected(why: str) -> Refused:
    return Refused(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str):
        raise _rejected("a path is missing")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _at(body: Any, path: Sequence[str]) -> Any:
    try:
        for part in path:
            body = body[int(part)] if isinstance(body, list) else body[part]
    except (KeyError, IndexError, ValueError, TypeError):
        raise _rejected("a path is not there") from None
    return body


def _remove(body: Any, path: Sequence[str]) -> None:
    _at(body, path)
    parent = _at(body, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]


def _put(body: Any, path: Sequence[str], value: Any) -> None:
    parent = _at(body, path[:-1])
    if not isinstance(parent, list | dict):
        raise _rejected("a path leads into a value")
    if isinstance(parent, list):
        parent[int(path[-1])] = value
    else:
        parent[path[-1]] = value


def _add(body: Any, path: Sequence[str], value: Any) -> None:
    parent = _at(body, path[:-1])
    if not isinstance(parent, list):
        _put(body, path, value)
        return
    if path[-1] != "-" and not (path[-1].isdigit() and int(path[-1]) <= len(parent)):
        raise _rejected("an index is not there")
    parent.insert(len(parent) if path[-1] == "-" else int(path[-1]), value)
