"""`dataFrom[].rewrite`: new keys for what a provider gave, by expression, template or merging. Pure.

Rules of External Secrets 2.9.0 (`runtime/esutils/utils.go`, `RewriteMap`, `RewriteMerge`).

Compat: two keys that become one are an error; with the peer the last one of a random order wins.

What never lives here: the template engine (it comes as an argument), key conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from secretsops.errors import InvalidManifest, SecretsOpsError
from secretsops.external.entries import MergeRewrite, RegexpRewrite, Rewrite
from secretsops.external.patterns import replaced
from secretsops.external.rawjson import decode, encode
from secretsops.external.select import rendered
from secretsops.secret import Plaintext

Transform = Callable[[str, str], str]
"""Renders a template over one key: template, key; gives the new key."""


def rewritten(
    values: Mapping[str, Plaintext], operations: Sequence[Rewrite], transform: Transform
) -> dict[str, Plaintext]:
    """Give the values under their new keys.

    Raises:
        SecretsOpsError: an operation does not work out; it is numbered, keys are named, values never.
    """
    current = dict(values)
    for number, operation in enumerate(operations):
        try:
            current = _applied(current, operation, transform)
        except SecretsOpsError as error:
            raise InvalidManifest(
                f"error applying rewrite to keys: failed rewrite operation[{number}]: {error.message}",
                reason=error.reason if error.reason != "InvalidManifest" else "InvalidRewrite",
                hint=error.hint,
            ) from None
    return current


def _applied(values: Mapping[str, Plaintext], operation: Rewrite, transform: Transform) -> dict[str, Plaintext]:
    if isinstance(operation, MergeRewrite):
        return _merged(values, operation)
    new: dict[str, Plaintext] = {}
    for key in sorted(values):
        if isinstance(operation, RegexpRewrite):
            name = replaced(operation.source, operation.target, key)
        else:
            name = transform(operation.template, key)
        if name in new:
            raise _problem(f"two keys become {name[:253]!r}", "let the rewrite keep what tells them apart")
        new[name] = values[key]
    return new


def _merged(values: Mapping[str, Plaintext], operation: MergeRewrite) -> dict[str, Plaintext]:
    if operation.as_json and not operation.into:
        raise _problem("merge failed with empty 'into' value", "name the key that takes the merged object")
    missing = [key for key in operation.priority if key not in values]
    if missing and not operation.ignore_missing:
        raise _problem(f"merge failed with key {missing[0]!r} not found", "correct priority, or priorityPolicy")
    named = [key for key in operation.priority if key in values]
    merged: dict[str, Any] = {}
    conflicts: set[str] = set()
    for key in [*sorted(set(values) - set(named)), *named]:
        inner = _object(values[key], key)
        conflicts |= inner.keys() & merged.keys()
        merged |= inner
    if conflicts and not operation.ignore_conflicts:
        raise _problem(f"merge failed with conflicts: {', '.join(sorted(conflicts))}", "use conflictPolicy: Ignore")
    if operation.as_json:
        whole = encode(merged, html=False)
        return {**values, operation.into: Plaintext(whole.encode("utf-8", "surrogateescape"))}
    return {key: rendered(value) for key, value in merged.items()}


def _object(value: Plaintext, key: str) -> dict[str, Any]:
    try:
        found = decode(value.reveal().decode("utf-8", "surrogateescape"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _problem(f"merge needs a JSON object at {key[:253]!r}", "leave that key out, or store an object")
    return found


def _problem(text: str, hint: str) -> InvalidManifest:
    return InvalidManifest(text, reason="InvalidRewrite", hint=hint)
