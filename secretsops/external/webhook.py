"""The `webhook` provider of a store as a value: an HTTP endpoint whose answer is, or holds, the value. Pure.

The fields are those of External Secrets 2.9.0 (`apis/externalsecrets/v1/secretstore_webhook_types.go`).

What never lives here: requests, templates' evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from secretsops.durations import parse_duration
from secretsops.external.held import Held
from secretsops.external.references import (
    AccountRef,
    KeyRef,
    Scope,
    ca_bundle,
    ca_provider,
    invalid,
    key_ref,
    section,
    unsupported,
)
from secretsops.sources import WebhookAccess

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
NEEDED_LABEL = "external-secrets.io/type=webhook"
"""Compat: a Secret has to carry it, so that whoever may write a store can't send any Secret of the namespace away."""
LONGEST = 60.0
"""Seconds a webhook may take; a worker waits meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An HTTP endpoint; `secrets` gives each name the Secret whose keys templates see under it."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    json_path: str = ""
    timeout: float = 0.0
    secrets: Mapping[str, KeyRef] = field(default_factory=dict)
    ca_pem: str = field(default="", repr=False)
    ca: KeyRef | None = None

    @property
    def refs(self) -> list[KeyRef]:
        """Give every reference to a value."""
        return [*self.secrets.values(), *([self.ca] if self.ca is not None else [])]

    @property
    def accounts(self) -> Sequence[AccountRef]:
        """Give every service account: there are none."""
        return ()

    def access(self, held: Held) -> WebhookAccess:
        """Give the access with its credentials."""
        return WebhookAccess(
            url=self.url,
            method=self.method,
            headers=self.headers,
            body=self.body,
            json_path=self.json_path,
            timeout=self.timeout,
            secrets={name: held.secrets[ref] for name, ref in self.secrets.items()},
            tls=held.tls(self.ca_pem, self.ca),
        )


def read_webhook(body: Mapping[str, Any], scope: Scope) -> Webhook:
    """Give the provider of a store's spec; raises `InvalidManifest`."""
    where = "provider.webhook"
    if not isinstance(body.get("url"), str) or not body["url"]:
        raise invalid(f"{where}.url is missing", "name the URL; it may be a template")
    if section(body, "auth"):
        raise unsupported(f"{where}.auth", "send the credential in a header")
    method = str(body.get("method") or "GET").upper()
    if method not in METHODS:
        raise invalid(f"{where}.method {method[:20]} is none", f"use one of {', '.join(METHODS)}")
    listed = body.get("secrets")
    secrets: dict[str, KeyRef] = {}
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict) or not entry.get("name"):
            raise invalid(f"{where}.secrets needs a name in each entry", "name it; templates use that name")
        ref = key_ref(entry, "secretRef", scope, f"{where}.secrets", key="*")
        secrets[str(entry["name"])] = replace(ref, key="", label=NEEDED_LABEL)
    timeout = parse_duration(str(body["timeout"])) if body.get("timeout") else 0.0
    return Webhook(
        url=body["url"],
        method=method,
        headers={str(name): str(value) for name, value in section(body, "headers").items()},
        body=str(body.get("body") or ""),
        json_path=str(section(body, "result").get("jsonPath") or ""),
        timeout=min(max(timeout, 0.0), LONGEST),
        secrets=secrets,
        ca_pem=ca_bundle(str(body.get("caBundle") or "")),
        ca=ca_provider(section(body, "caProvider"), scope),
    )
