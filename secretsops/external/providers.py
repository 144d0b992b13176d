"""The `provider` part of a store: one kind of value per provider, found by its name in a table. Pure.

A provider says which credentials it needs and, given them, how its source is reached; a new one is a file beside
`vault.py` with such a value, an access in `secretsops/sources.py`, an adapter, and a line in two tables.

What never lives here: a provider's fields, credentials themselves, connections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from secretsops.external.aws import read_aws
from secretsops.external.held import Held
from secretsops.external.kubernetes import read_kubernetes
from secretsops.external.references import AccountRef, KeyRef, Scope, invalid, retries, unsupported
from secretsops.external.vault import read_vault
from secretsops.external.webhook import read_webhook
from secretsops.secret import Plaintext
from secretsops.sources import Access, ListedAccess


class Provider(Protocol):
    """What every provider says of itself."""

    @property
    def refs(self) -> Sequence[KeyRef]:
        """Give every reference to a value."""

    @property
    def accounts(self) -> Sequence[AccountRef]:
        """Give every service account tokens are made for."""

    def access(self, held: Held) -> Access:
        """Give the access with its credentials; raises `StoreRefused` where these are not what they should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Values written into the store itself (the peer's `fake` provider, for trials); by key and version joined."""

    values: Mapping[str, Plaintext]
    validation: int = 0

    @property
    def refs(self) -> Sequence[KeyRef]:
        """Give every reference to a value: there are none."""
        return ()

    @property
    def accounts(self) -> Sequence[AccountRef]:
        """Give every service account: there are none."""
        return ()

    def access(self, _held: Held) -> ListedAccess:
        """Give the values."""
        return ListedAccess(values=self.values)


def read_provider(spec: Mapping[str, Any], scope: Scope, *, store: tuple[str, str, str]) -> Provider:
    """Give the provider a store's spec names; `store` is its kind, name and namespace.

    Raises:
        InvalidManifest: it cannot be used; reason `Unsupported` names what is not built, `InvalidSpec` the rest.
    """
    providers = spec.get("provider")
    if not isinstance(providers, dict) or len(providers) != 1:
        raise invalid("exactly one provider has to be named", "fill in spec.provider")
    ((kind, body),) = providers.items()
    body = body if isinstance(body, dict) else {}
    match kind:
        case "vault":
            return read_vault(body, scope, retries(spec))
        case "aws":
            return read_aws(body, scope, retries(spec), store=store)
        case "kubernetes":
            return read_kubernetes(body, scope)
        case "webhook":
            return read_webhook(body, scope)
        case "fake":
            return _listed(body)
    raise unsupported(f"provider {str(kind)[:40]}", "use vault, aws, kubernetes, webhook or fake")


def _listed(body: Mapping[str, Any]) -> Listed:
    values: dict[str, Plaintext] = {}
    entries = body.get("data")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            # Compat: key and version are joined without a separator, as the peer does.
            key = f"{entry.get('key') or ''}{entry.get('version') or ''}"
            values[key] = Plaintext(str(entry.get("value") or "").encode())
    result = body.get("validationResult")
    return Listed(values=values, validation=result if isinstance(result, int) else 0)
