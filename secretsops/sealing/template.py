"""`spec.template.data` of a SealedSecret: plain text and templates over what was opened. Pure.

Rules of sealed-secrets v0.38.4 (`sealedsecret_expansion.go`): a template sees the opened items and the text of the
other templates as it is written; an item wins over a template of its name, before it is rendered and after.

Compat: what goes wrong is said without the template's text, values or, while it runs, the place: the author of a
SealedSecret may read its status where it may not read the Secret. What draws on chance or clock is made anew only when
the SealedSecret changes, not at each pass.

What never lives here: opening, the engine (`secretsops.templating`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secretsops.errors import InvalidManifest, TemplateFailed
from secretsops.manifest import Manifest
from secretsops.secret import Plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What the templates make, and which keys of it would be another value the next time."""

    values: Mapping[str, Plaintext] = field(default_factory=dict, repr=False)
    volatile: frozenset[str] = frozenset()


def rendered(templates: Any, items: Mapping[str, Plaintext]) -> Rendered:
    """Give the keys that templates add to the items.

    Raises:
        InvalidManifest: a template does not parse, run or stay within its limits (reasons of `TemplateFailed`).
    """
    if not templates:
        return Rendered()
    if not isinstance(templates, dict):
        raise InvalidManifest("spec.template.data is not a mapping", reason="InvalidSealedSecret")
    from secretsops.templating import DEFAULT_LIMITS, Meter, Template, sprig
    from secretsops.templating.world import REAL, Witness

    texts = {str(key): "" if text is None else str(text) for key, text in templates.items() if key not in items}
    root = {key: text.encode("utf-8", "surrogateescape") for key, text in texts.items()}
    root |= {key: value.reveal() for key, value in items.items()}
    meter, values, volatile = Meter(DEFAULT_LIMITS, REAL.tick), {}, set()
    for key, text in sorted(texts.items()):
        witness = Witness(REAL)
        try:
            template = Template.parse(text, functions=sprig(), missing_key_fails=False, meter=meter)
            values[key] = Plaintext(template.render(root, meter=meter, world=witness.world))
        except TemplateFailed as error:
            raise _failed(key, error) from None
        if witness.was_asked:
            volatile.add(key)
    return Rendered(values=values, volatile=frozenset(volatile))


def kept(secret: Manifest, volatile: frozenset[str], live: Manifest | None) -> Manifest:
    """Give the Secret with the volatile keys as they are in the one that is there."""
    there = (live.body.get("data") or {}) if live is not None else {}
    old = {key: there[key] for key in volatile if key in there}
    if not old:
        return secret
    return Manifest({**secret.body, "data": {**secret.body["data"], **old}})


def _failed(key: str, error: TemplateFailed) -> InvalidManifest:
    where = f": {error.line}:{error.column}" if error.line and error.reason == "TemplateSyntax" else ""
    what = {"TemplateSyntax": "does not parse", "TemplateLimit": "asks for too much"}.get(
        error.reason, "does not render"
    )
    return InvalidManifest(
        f"template.data {what} ({key[:253]}{where})", reason=error.reason, hint=f"in {key[:253]}, {error.message}"
    )
