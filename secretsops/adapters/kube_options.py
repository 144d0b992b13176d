"""kubectl's connection options over what a kubeconfig says (`client-go/tools/clientcmd/overrides.go`, v0.36).

Never here: reading kubeconfigs, requests (`kube_session.py`).
"""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from secretsops.ports import ClusterTarget

_CONTEXT = "secretsops-chosen-by-options"
Overrides = Mapping[str, Sequence[str]]


@contextlib.contextmanager
def kubeconfig_with(target: ClusterTarget) -> Iterator[ClusterTarget]:
    """Give the target with `--cluster` and `--user` as a context of its own, in one more kubeconfig without secrets."""
    cluster, user = (_one(target.overrides, name) for name in ("cluster", "user"))
    if not cluster and not user:
        yield target
        return
    named = target.kubeconfig or os.environ.get("KUBECONFIG", "") or "~/.kube/config"
    current = _context(named, target.context)
    chosen = {"cluster": cluster or current.get("cluster"), "user": user or current.get("user")}
    with tempfile.TemporaryDirectory() as folder:
        extra = Path(folder) / "context"
        body = {"apiVersion": "v1", "kind": "Config", "contexts": [{"name": _CONTEXT, "context": chosen}]}
        extra.write_text(yaml.safe_dump(body))
        yield replace(target, kubeconfig=os.pathsep.join([named, str(extra)]), context=_CONTEXT)


def _context(paths: str, name: str) -> Mapping[str, Any]:
    """Give the context that would have been used; {} when there is none to be read."""
    contexts: dict[str, Any] = {}
    for path in paths.split(os.pathsep):
        try:
            body = yaml.safe_load(Path(path).expanduser().read_bytes())
            name = name or str(body.get("current-context") or "")
            for entry in body.get("contexts") or []:
                contexts.setdefault(str(entry.get("name")), entry.get("context") or {})
        except (OSError, AttributeError, yaml.YAMLError):
            continue  # the client that reads it for good says what is wrong
    found = contexts.get(name)
    return found if isinstance(found, dict) else {}


def apply_overrides(configuration: Any, overrides: Overrides) -> None:
    """Lay the options over the official client's configuration. A credential given here replaces the kubeconfig's.

    The client's own hook, run before each use of a token, reads the kubeconfig into the configuration again: what was
    laid over it is laid over it once more.
    """
    if not overrides:
        return
    _lay_over(configuration, overrides)
    hook = configuration.refresh_api_key_hook
    if hook is not None:

        def refreshed(found: Any) -> None:
            hook(found)
            _lay_over(found, overrides)

        configuration.refresh_api_key_hook = refreshed


def _lay_over(configuration: Any, overrides: Overrides) -> None:
    for option, attribute in (
        ("server", "host"),
        ("certificate-authority", "ssl_ca_cert"),
        ("client-certificate", "cert_file"),
        ("client-key", "key_file"),
        ("tls-server-name", "tls_server_name"),
        ("proxy-url", "proxy"),
    ):
        if value := _one(overrides, option):
            setattr(configuration, attribute, value)
    if "insecure-skip-tls-verify" in overrides:
        configuration.verify_ssl = False
        configuration.ssl_ca_cert = None
    authorization = ""
    if token := _one(overrides, "token"):
        authorization = f"Bearer {token}"
    elif user := _one(overrides, "username"):
        pair = f"{user}:{_one(overrides, 'password')}".encode()
        authorization = "Basic " + base64.b64encode(pair).decode()
    if authorization:
        configuration.api_key = {"authorization": authorization}
        configuration.api_key_prefix = {}
        configuration.refresh_api_key_hook = None  # the kubeconfig's plugin is not asked


def impersonation(overrides: Overrides) -> dict[str, Any]:
    """Give the options `--as…` as the fields of a kubeconfig's user."""
    found: dict[str, Any] = {name: _one(overrides, name) for name in ("as", "as-uid") if _one(overrides, name)}
    if overrides.get("as-group"):
        found["as-groups"] = list(overrides["as-group"])
    return found


def _one(overrides: Overrides, name: str) -> str:
    values = overrides.get(name) or ()
    return values[-1] if values else ""
