"""Which functions a kind of template has: sprig alone, External Secrets' set, Argo CD's set. Pure.

No table has `env`, `expandenv` or `getHostByName`: a template reads no environment and sends nothing out by DNS.

What never lives here: functions themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from secretsops.templating.functions import (
    builtins,
    certificates,
    collections,
    crypto,
    dates,
    encodings,
    flow,
    keystores,
    locations,
    numbers,
    regexes,
    strings,
    versions,
)
from secretsops.templating.gotime import Time
from secretsops.templating.gotypes import Duration, Month, Weekday
from secretsops.templating.signature import Function

_SPRIG_PARTS = (
    strings,
    numbers,
    collections,
    encodings,
    dates,
    regexes,
    versions,
    locations,
    crypto,
    certificates,
    flow,
)


@cache
def sprig() -> Mapping[str, Function]:
    """Give Go's and sprig's functions: what SealedSecret templates have (sealed-secrets 0.38)."""
    table: dict[str, Function] = dict(builtins.TABLE)
    for part in _SPRIG_PARTS:
        table |= part.TABLE
    return table


@cache
def external_secrets() -> Mapping[str, Function]:
    """Give the functions of an ExternalSecret's template (external-secrets 2.9, engine v2)."""
    return {**sprig(), **encodings.YAML, **encodings.HEX, **crypto.HTPASSWD, **keystores.TABLE}


@cache
def argo_cd() -> Mapping[str, Function]:
    """Give the functions of an ApplicationSet with goTemplate (Argo CD 3.6, `applicationset/utils`)."""
    return {**sprig(), **encodings.YAML, **encodings.YAML_ARRAY, **strings.ARGO}


def method(value: Any, name: bytes) -> Function | None:
    """Give the method a template calls on a value, None where it has none of that name."""
    match value:
        case Time():
            return dates.METHODS.get(name)
        case versions.Version():
            return versions.METHODS.get(name)
        case Duration():
            return dates.DURATION_METHODS.get(name)
        case Month() | Weekday() if name == b"String":
            return dates.WORD
    return None
