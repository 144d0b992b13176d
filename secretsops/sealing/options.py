"""What the commands of `seal` have in common: options with kubeseal's names, and the values they come to.

Each option is also read from kubeseal's environment variable (`SEALED_SECRETS_SCOPE` for `--scope`, v0.38.4), the
ones for the connection too, which are kubectl's (`k8s.io/client-go/tools/clientcmd/overrides.go`).

What never lives here: what a command does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click

from secretsops.errors import UsageError

if TYPE_CHECKING:
    from secretsops.ports import Cluster, Doors
    from secretsops.sealing.certificate import Certificate

_KUBECTL: Mapping[str, str] = {
    "cluster": "Cluster of the kubeconfig.",
    "user": "User of the kubeconfig.",
    "server": "Address of the API server.",
    "token": "Bearer token. Others on this machine can read it: prefer a kubeconfig.",
    "as": "User to impersonate.",
    "as-uid": "UID to impersonate.",
    "certificate-authority": "CA file of the API server.",
    "client-certificate": "Client certificate file.",
    "client-key": "Client key file.",
    "tls-server-name": "Name the API server's certificate is checked for.",
    "proxy-url": "Proxy to the API server.",
    "username": "User name for basic authentication.",
    "password": "Password for basic authentication. Others on this machine can read it.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the cluster and its controller are reached: kubectl's options by name in `overrides`; seconds."""

    kubeconfig: str = ""
    context: str = ""
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    timeout: float = 0.0
    controller_name: str = "sealed-secrets-controller"
    controller_namespace: str = "kube-system"

    def cluster(self, doors: Doors) -> Cluster:
        """Connect; imports the doors' types only now, so that sealing with a file loads none of them."""
        from secretsops.ports import ClusterTarget

        target = ClusterTarget(
            kubeconfig=self.kubeconfig, context=self.context, user_agent="seal", overrides=self.overrides
        )
        return doors.cluster(replace(target, timeout=self.timeout) if self.timeout else target)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateWishes:
    """Which certificates to seal with: files or URLs, `NAME=FILE` for several clusters; none asks the cluster."""

    sources: tuple[str, ...]
    pins: tuple[str, ...] = ()
    allow_expired: bool = False
    kubeseal: bool = False


Named = tuple[str, "Certificate"]
"""A cluster's name ("" where only one is meant) and its certificate."""


def option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """Make an option that is also read from kubeseal's environment variable."""
    long = max((name for name in names if name.startswith("--")), key=len)
    return click.option(*names, envvar="SEALED_SECRETS_" + long[2:].replace("-", "_").upper(), **settings)


def flag(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """Make a flag that is also read from kubeseal's environment variable."""
    return option(*names, is_flag=True, **settings)


def connection(command: Any) -> Any:
    """Add the options that say which cluster and controller are meant; `access` turns them into a value."""
    for name, text in reversed(list(_KUBECTL.items())):
        short = ("-s",) if name == "server" else ()
        command = option(f"--{name}", *short, f"kubectl_{name.replace('-', '_')}", default="", hidden=True, help=text)(
            command
        )
    for decorate in (
        option("--as-group", "kubectl_as_group", multiple=True, hidden=True, help="Group to impersonate."),
        flag("--insecure-skip-tls-verify", "kubectl_insecure_skip_tls_verify", hidden=True, help="Trust any server."),
        flag("--disable-compression", "kubectl_disable_compression", hidden=True, help="Without effect."),
        option("--request-timeout", "kubectl_request_timeout", default="", hidden=True, help="As kubectl: 0, 30s, 5m."),
        option("--context", default="", help="Context of the kubeconfig."),
        option("--kubeconfig", default="", metavar="FILE", help="Kubeconfig file; kubectl's other options work too."),
        option("--controller-namespace", default="kube-system", show_default=True, help="Namespace of the Service."),
        option(
            "--controller-name",
            default="sealed-secrets-controller",
            show_default=True,
            help="Service of the controller.",
        ),
    ):
        command = decorate(command)
    return command


def access(options: dict[str, Any]) -> Access:
    """Take the connection out of a command's options.

    Raises:
        UsageError: a timeout that is no duration.
    """
    overrides = {name: options.pop(name) for name in [name for name in options if name.startswith("kubectl_")]}
    overrides.pop("kubectl_disable_compression")
    return Access(
        timeout=_seconds(overrides.pop("kubectl_request_timeout")),
        overrides={
            name.removeprefix("kubectl_").replace("_", "-"): value if isinstance(value, tuple) else (str(value),)
            for name, value in overrides.items()
            if value
        },
        **{name: options.pop(name) for name in ("kubeconfig", "context", "controller_name", "controller_namespace")},
    )


def _seconds(text: str) -> float:
    if not text or text == "0":
        return 0.0
    from secretsops.durations import parse_duration

    return parse_duration(text if not text.isdigit() else f"{text}s")


def certificate_options(command: Any) -> Any:
    """Add the options that say what to seal with; `certificate_wishes` turns them into a value."""
    for decorate in (
        flag("--allow-expired", help="Seal with an expired certificate, with a warning."),
        option(
            "--cert-fingerprint",
            multiple=True,
            metavar="SHA256:…",
            help="Refuse any certificate whose key has another fingerprint.",
        ),
        option(
            "--cert",
            multiple=True,
            metavar="[NAME=]FILE|URL",
            help="Certificate to seal with; without it the cluster is asked. NAME=FILE again and again: one "
            "SealedSecret for each cluster.",
        ),
    ):
        command = decorate(command)
    return command


def certificate_wishes(options: dict[str, Any], *, kubeseal: bool = False) -> CertificateWishes:
    """Take the certificates out of a command's options."""
    sources: tuple[str, ...] = options.pop("cert")
    if kubeseal:
        sources = sources[-1:]  # Compat: of a flag given twice the peer takes the last
    return CertificateWishes(
        sources=tuple(source for source in sources if source),
        pins=options.pop("cert_fingerprint"),
        allow_expired=options.pop("allow_expired"),
        kubeseal=kubeseal,
    )


def key_options(command: Any) -> Any:
    """Add the private keys of an offline command."""
    return option(
        "--recovery-private-key", multiple=True, metavar="FILE", help="Private key: PEM, key Secret, List; repeatable."
    )(command)


def key_files(options: dict[str, Any]) -> tuple[str, ...]:
    """Take the private keys' files out of a command's options; one option may name several, by commas."""
    return tuple(path for text in options.pop("recovery_private_key") for path in text.split(",") if path)


def pairs(texts: tuple[str, ...], *, name: str) -> dict[str, str]:
    """Give `KEY=VALUE` texts as a mapping.

    Raises:
        UsageError: a text without `=`.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{name} {text[:64]!r} is not KEY=VALUE", reason="NotAPair", hint=f"{name} team=payments")
        found[key] = value
    return found
