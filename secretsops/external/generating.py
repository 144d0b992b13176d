"""Runs generators: reads the one that is named, makes the values, with the credentials of whoever asks.

A generator reads credentials of the namespace that uses it and of no other, also as a ClusterGenerator. What Vault and
AWS give is asked for anew each time and shared with nobody; the Vault token is not given back, because that would end
the leases with it (External Secrets 2.9.0 keeps it, too).

What never lives here: what a recipe means (`secretsops.external.generators`), a vendor's client.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
from collections.abc import Callable, Mapping
from typing import Any

from secretsops.errors import InvalidManifest, NotFound, StoreRefused
from secretsops.external.access import OpenSource, read_credentials, source_of
from secretsops.external.entries import GENERATORS, GeneratorRef
from secretsops.external.generators import (
    CLUSTER_GENERATOR,
    Chance,
    Generator,
    identifier,
    kind_of,
    listed,
    passwords,
    read_generator,
)
from secretsops.external.providers import read_provider
from secretsops.external.rawjson import decode
from secretsops.external.references import Scope, section
from secretsops.external.select import extract, rendered
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, SecretSource
from secretsops.secret import Plaintext

Lookup = Callable[[GroupVersionKind, str, str], Manifest]
"""Reads one object: kind, name, namespace; raises `NotFound`."""


class Generators:
    """Runs generators for ExternalSecrets and PushSecrets. Safe for several threads."""

    def __init__(
        self,
        lookup: Lookup,
        *,
        cluster: Cluster | None = None,
        open_source: OpenSource | None = None,
        chance: Chance = os.urandom,
    ) -> None:
        self._lookup = lookup
        self._cluster = cluster
        self._open_source = open_source
        self._chance = chance

    def find(self, ref: GeneratorRef, namespace: str) -> Generator:
        """Give the generator a reference of a namespace names.

        Raises:
            InvalidManifest: there is none, or it is none that can be run.
        """
        kind = kind_of(ref)
        try:
            manifest = self._lookup(kind, ref.name, "" if ref.kind == CLUSTER_GENERATOR else namespace)
        except NotFound:
            # Compat: the peer's words.
            raise InvalidManifest(
                f'unable to get generator: {ref.kind}.{GENERATORS} "{ref.name}" not found',
                reason="GeneratorMissing",
                hint="create it, or correct the reference",
            ) from None
        return read_generator(manifest, namespace)

    def __call__(self, ref: GeneratorRef, namespace: str) -> Mapping[str, Plaintext]:
        """Make new values; raises what `find` raises, and what the generator's provider says."""
        generator = self.find(ref, namespace)
        match generator.kind:
            case "Fake":
                return listed(generator)
            case "Password":
                return passwords(generator, self._chance)
            case "SSHKey":
                return ssh_keys(generator)
            case "UUID":
                return identifier(self._chance)
            case "VaultDynamicSecret":
                return dynamic(generator, self._opened(generator, {"vault": section(generator.spec, "provider")}))
            case "ECRAuthorizationToken":
                return registry_login(generator, self._opened(generator, _aws(generator)))
            case "STSSessionToken":
                return session(generator, self._opened(generator, _aws(generator)))
            case "Webhook":
                source = self._opened(generator, {"webhook": generator.spec})
                return extract(source.fetch("").document, source.dialect)
        raise InvalidManifest(f"generators of kind {generator.kind!r} are not supported", reason="Unsupported")

    def _opened(self, generator: Generator, provider: Mapping[str, Any]) -> SecretSource:
        """Open what a generator asks, with credentials of its namespace."""
        if self._cluster is None or self._open_source is None:
            raise InvalidManifest(
                f"a generator of kind {generator.kind!r} cannot be run here",
                reason="Unsupported",
                hint="it runs in the controller",
            )
        home = generator.namespace
        spec = {"provider": provider, "retrySettings": generator.spec.get("retrySettings")}
        found = read_provider(spec, Scope(home=home), store=(generator.kind, generator.name, home))
        _, held = read_credentials(self._cluster, found, home)
        return source_of(found, held, self._open_source)


# --- Vault and AWS -------------------------------------------------------------------------------------


def dynamic(generator: Generator, source: SecretSource) -> dict[str, Plaintext]:
    """Give what a path of Vault answers: its data, its auth, or all of it.

    Raises:
        StoreRefused: Vault said no, or nothing.
    """
    spec = generator.spec
    wanted = str(spec.get("method") or "GET")
    method = wanted if wanted in {"GET", "LIST", "DELETE"} else "POST"
    arguments = {"query": section(spec, "getParameters"), "body": section(spec, "parameters")}
    answer = _decoded(source.call(f"{method} {spec.get('path') or ''}", arguments))
    part = {"Auth": "auth", "Raw": ""}.get(str(spec.get("resultType") or "Data"), "data")
    found = answer.get(part) if part else answer
    if not isinstance(found, dict) or not found:
        if spec.get("allowEmptyResponse") is True:
            return {}
        raise StoreRefused(
            "unable to get dynamic secret: empty response from Vault",
            reason="Invalid",
            hint="check path and method, or set allowEmptyResponse: true",
        )
    return {str(key): rendered(value) for key, value in found.items()}


def _aws(generator: Generator) -> dict[str, Any]:
    spec = generator.spec
    if generator.kind == "STSSessionToken" and section(spec, "auth").get("jwt"):
        raise InvalidManifest(
            "jwt auth cannot be used for STS Session Token generation", reason="InvalidSpec", hint="use secretRef"
        )
    region = "us-east-1" if _is_public(generator) else spec.get("region")
    fixed = {"service": "SecretsManager", "region": region, "auth": section(spec, "auth")}
    return {"aws": fixed | ({"role": spec["role"]} if spec.get("role") else {})}


def _is_public(generator: Generator) -> bool:
    return generator.kind == "ECRAuthorizationToken" and generator.spec.get("scope") == "public"


def registry_login(generator: Generator, source: SecretSource) -> dict[str, Plaintext]:
    """Give a login for a container registry of AWS; `expires_at` in seconds since 1970.

    Raises:
        StoreRefused: AWS said no, or something else.
    """
    public = _is_public(generator)
    answer = _decoded(source.call(f"{'ecr-public' if public else 'ecr'}:GetAuthorizationToken", {}))
    found = answer.get("authorizationData")
    entry = found if public else found[0] if isinstance(found, list) and found else None
    try:
        user, _, password = base64.b64decode(str((entry or {})["authorizationToken"])).partition(b":")
        until = _seconds((entry or {})["expiresAt"])
    except (KeyError, TypeError, ValueError):
        raise _odd_answer() from None
    login = {"username": Plaintext(user), "password": Plaintext(password), "expires_at": until}
    if public:
        return login
    return login | {"proxy_endpoint": Plaintext(str((entry or {}).get("proxyEndpoint") or "").encode())}


def session(generator: Generator, source: SecretSource) -> dict[str, Plaintext]:
    """Give credentials of an AWS session; `expiration` in seconds since 1970.

    Raises:
        StoreRefused: AWS said no, or something else.
    """
    asked = section(generator.spec, "requestParameters")
    names = (("sessionDuration", "DurationSeconds"), ("serialNumber", "SerialNumber"), ("tokenCode", "TokenCode"))
    arguments = {theirs: asked[ours] for ours, theirs in names if asked.get(ours)}
    found: Any = _decoded(source.call("sts:GetSessionToken", arguments)).get("Credentials")
    try:
        texts = {
            "access_key_id": found["AccessKeyId"],
            "secret_access_key": found["SecretAccessKey"],
            "session_token": found["SessionToken"],
        }
        until = _seconds(found["Expiration"])
    except (KeyError, TypeError, ValueError):
        raise _odd_answer() from None
    return {key: Plaintext(str(text).encode()) for key, text in texts.items()} | {"expiration": until}


def _seconds(stamp: Any) -> Plaintext:
    moment = dt.datetime.fromisoformat(str(stamp))
    return Plaintext(str(int(moment.timestamp())).encode())


def _decoded(answer: Plaintext) -> dict[str, Any]:
    text = answer.reveal().decode("utf-8", "surrogateescape").strip()
    if text in {"", "null"}:
        return {}
    try:
        found = decode(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _odd_answer()
    return found


def _odd_answer() -> StoreRefused:
    return StoreRefused(
        "the answer is not what it has to be", reason="Invalid", hint="check region, endpoint and path of the generator"
    )


def ssh_keys(generator: Generator) -> dict[str, Plaintext]:
    """Give a new pair of SSH keys, under `privateKey` (OpenSSH's PEM) and `publicKey` (a line of authorized_keys).

    Compat: the comment stands in the public key alone; the peer writes it into the private key as well.

    Raises:
        InvalidManifest: no such keys are made.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    spec = generator.spec
    kind, size = str(spec.get("keyType") or "rsa"), spec.get("keySize")
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    match kind:
        case "ed25519":
            key = ed25519.Ed25519PrivateKey.generate()
        case "ecdsa":
            curves: Mapping[object, type[ec.EllipticCurve]] = {384: ec.SECP384R1, 521: ec.SECP521R1}
            # Compat: any other size makes a key of 256 bits.
            key = ec.generate_private_key(curves.get(size, ec.SECP256R1)())
        case "rsa":
            bits = size if isinstance(size, int) else 2048
            if not 1024 <= bits <= 8192:
                raise InvalidManifest(
                    f"an RSA key of {bits} bits is not made", reason="InvalidSpec", hint="choose 2048 to 8192"
                )
            key = rsa.generate_private_key(65537, bits)
        case _:
            raise InvalidManifest(
                f"unsupported key type: {kind[:40]}", reason="InvalidSpec", hint="use rsa, ecdsa or ed25519"
            )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    comment = " ".join(str(spec.get("comment") or "").split("\n"))
    line = public + (b" " + comment.encode() if comment else b"") + b"\n"
    return {"privateKey": Plaintext(private), "publicKey": Plaintext(line)}
