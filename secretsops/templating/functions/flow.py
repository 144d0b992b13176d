"""`fail`: ends a rendering. What it is given never leaves. Pure."""

from __future__ import annotations

from typing import NoReturn

from secretsops.templating.signature import CallFailed, Function, function


def _fail(_text: bytes) -> NoReturn:
    # Compat: the peers put the text into status and events, where whoever may not read the Secret reads it.
    raise CallFailed("the template asked to fail (its message is kept back, it may hold a secret)")


TABLE: dict[str, Function] = {"fail": function("string", _fail)}
