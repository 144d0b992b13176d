"""Who asks, and what they may: bearer tokens, impersonation, RBAC, and the review kinds.

Sources: `k8s.io/apiserver/pkg/authentication`, `plugin/pkg/auth/authorizer/rbac`, `pkg/serviceaccount/claims.go`.
Left out: the check that nobody grants more than they have, and aggregated ClusterRoles.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hmac
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from drills.sandbox.embedded.status import Refused
from drills.sandbox.embedded.store import Store

ISSUER = "https://kubernetes.default.svc"
_ALGORITHM = ec.ECDSA(hashes.SHA256())
_HOUR = 3600
_SHORTEST = 600
_RBAC = "rbac.authorization.k8s.io"
_KNOWN_TOKENS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """Give a `UserInfo`."""
        found: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            found["uid"] = self.uid
        if self.extra:
            found["extra"] = {name: list(values) for name, values in self.extra.items()}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What is asked: a resource, or a path when `path` is set."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def whole(self) -> str:
        """Give `resource/subresource` as rules name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Tokens:
    """Fixed tokens of the cluster's components, and signed ones of service accounts."""

    def __init__(
        self, fixed: Mapping[str, User], key: ec.EllipticCurvePrivateKey, store: Store, now: Callable[[], dt.datetime]
    ) -> None:
        self._fixed = [(token.encode(), user) for token, user in fixed.items()]
        self._key = key
        self._store = store
        self._now = now
        self._verified: dict[str, dict[str, Any]] = {}

    def user(self, token: str, audiences: Sequence[str] = (ISSUER,)) -> User | None:
        """Give whose token this is, None when it is nobody's (any more)."""
        for known, user in self._fixed:
            if hmac.compare_digest(known, token.encode()):
                return user
        claims = self.claims(token)
        if claims is None or not {*audiences} & {*claims.get("aud", ())}:
            return None
        return self._account(claims)

    def claims(self, token: str) -> dict[str, Any] | None:
        """Give the claims of a token that we signed and that has not expired."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._opened(token)
            if claims is None:
                return None
            if len(self._verified) >= _KNOWN_TOKENS:
                self._verified.clear()
            self._verified[token] = claims
        now = self._now().timestamp()
        return claims if claims["nbf"] - 1 <= now < claims["exp"] else None

    def _opened(self, token: str) -> dict[str, Any] | None:
        try:
            head, payload, signature = token.split(".")
            raw = _bytes(signature)
            pair = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._key.public_key().verify(pair, f"{head}.{payload}".encode(), _ALGORITHM)
            found: dict[str, Any] = json.loads(_bytes(payload))
        except (ValueError, binascii.Error, InvalidSignature):
            return None
        return found

    def _account(self, claims: Mapping[str, Any]) -> User | None:
        about = claims.get("kubernetes.io") or {}
        namespace, account = str(about.get("namespace")), about.get("serviceaccount") or {}
        bound = about.get("pod")
        for kind, reference in (("ServiceAccount", account), ("Pod", bound)):
            if reference is not None:
                entry = self._store.find(("", kind), namespace, str(reference.get("name")))
                if entry is None or entry.body["metadata"]["uid"] != reference.get("uid"):
                    return None
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims.get('jti')}"]}
        if bound is not None:
            extra["authentication.kubernetes.io/pod-name"] = [str(bound.get("name"))]
            extra["authentication.kubernetes.io/pod-uid"] = [str(bound.get("uid"))]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        name = f"system:serviceaccount:{namespace}:{account.get('name')}"
        return User(name=name, groups=groups, uid=str(account.get("uid")), extra=extra)

    def mint(self, account: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a TokenRequest for a service account."""
        spec = request.get("spec") or {}
        seconds = max(int(spec.get("expirationSeconds") or _HOUR), _SHORTEST)
        now = int(self._now().timestamp())
        metadata = account["metadata"]
        about: dict[str, Any] = {
            "namespace": metadata["namespace"],
            "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
        }
        bound = spec.get("boundObjectRef")
        if isinstance(bound, dict) and bound.get("kind") == "Pod":
            pod = self._store.find(("", "Pod"), metadata["namespace"], str(bound.get("name")))
            if pod is None or (bound.get("uid") and bound["uid"] != pod.body["metadata"]["uid"]):
                raise Refused(404, "NotFound", f'pods "{bound.get("name")}" not found')
            about["pod"] = {"name": bound["name"], "uid": pod.body["metadata"]["uid"]}
        audiences = [str(each) for each in spec.get("audiences") or [ISSUER]]
        claims = {
            "aud": audiences,
            "exp": now + seconds,
            "iat": now,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": about,
            "nbf": now,
            "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
        }
        expires = dt.datetime.fromtimestamp(claims["exp"], dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # type: ignore[arg-type]
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound},
            "status": {"token": self._signed(claims), "expirationTimestamp": expires},
        }

    def _signed(self, claims: Mapping[str, Any]) -> str:
        head = _text(json.dumps({"alg": "ES256", "typ": "JWT"}).encode())
        payload = _text(json.dumps(claims).encode())
        r, s = decode_dss_signature(self._key.sign(f"{head}.{payload}".encode(), _ALGORITHM))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{head}.{payload}.{_text(signature)}"


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


# --- RBAC ----------------------------------------------------------------------------------------------


class Rbac:
    """What Roles and bindings grant. Rules of one user are read again once any of these objects changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: dict[tuple[str, tuple[str, ...], str], list[Mapping[str, Any]]] = {}
        for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
            store.listen((_RBAC, kind), lambda _: self._rules.clear())

    def allows(self, user: User, asked: Attributes) -> bool:
        """Say whether a user may do this."""
        if "system:masters" in user.groups:
            return True
        if asked.path:
            return any(_fits_path(rule, asked) for rule in self._of(user, ""))
        places = [""] if not asked.namespace else ["", asked.namespace]
        return any(_fits(rule, asked) for place in places for rule in self._of(user, place))

    def rules(self, user: User, namespace: str) -> list[Mapping[str, Any]]:
        """Give every rule that counts in a namespace."""
        return [*self._of(user, ""), *self._of(user, namespace)]

    def _of(self, user: User, namespace: str) -> list[Mapping[str, Any]]:
        key = (user.name, user.groups, namespace)
        found = self._rules.get(key)
        if found is None:
            found = self._rules[key] = list(self._read(user, namespace))
        return found

    def _read(self, user: User, namespace: str) -> Iterable[Mapping[str, Any]]:
        kind = "RoleBinding" if namespace else "ClusterRoleBinding"
        for _, entry in self._store.entries((_RBAC, kind), namespace):
            subjects = entry.body.get("subjects") or []
            if not any(_is(user, subject, namespace) for subject in subjects):
                continue
            reference = entry.body.get("roleRef") or {}
            home = namespace if reference.get("kind") == "Role" else ""
            role = self._store.find((_RBAC, str(reference.get("kind"))), home, str(reference.get("name")))
            if role is not None:
                yield from role.body.get("rules") or []


def _is(user: User, subject: Mapping[str, Any], namespace: str) -> bool:
    kind, name = subject.get("kind"), subject.get("name")
    if kind == "User":
        return name == user.name
    if kind == "Group":
        return name in user.groups
    return f"system:serviceaccount:{subject.get('namespace') or namespace}:{name}" == user.name


def _fits(rule: Mapping[str, Any], asked: Attributes) -> bool:
    verbs, groups = rule.get("verbs") or [], rule.get("apiGroups") or []
    resources, names = rule.get("resources") or [], rule.get("resourceNames") or []
    if not ({"*", asked.verb} & {*verbs} and {"*", asked.group} & {*groups}):
        return False
    wanted = {"*", asked.whole} | ({f"*/{asked.subresource}"} if asked.subresource else set())
    return bool(wanted & {*resources}) and (not names or asked.name in names)


def _fits_path(rule: Mapping[str, Any], asked: Attributes) -> bool:
    if not {"*", asked.verb} & {*(rule.get("verbs") or [])}:
        return False
    return any(
        url == asked.path or (url.endswith("*") and asked.path.startswith(url[:-1]))
        for url in rule.get("nonResourceURLs") or []
    )


def refusal(user: User, asked: Attributes) -> Refused:
    """Give the 403 as the real server words it (`endpoints/handlers/responsewriters/errors.go`)."""
    if asked.path:
        text = f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"'
        return Refused(403, "Forbidden", text)
    where = f' in the namespace "{asked.namespace}"' if asked.namespace else " at the cluster scope"
    what = f'User "{user.name}" cannot {asked.verb} resource "{asked.whole}" in API group "{asked.group}"{where}'
    group = f".{asked.group}" if asked.group else ""
    about = f'{asked.resource}{group} "{asked.name}"' if asked.name else f"{asked.resource}{group}"
    return Refused(
        403, "Forbidden", f"{about} is forbidden: {what}", name=asked.name, group=asked.group, kind=asked.resource
    )


# --- reviews -------------------------------------------------------------------------------------------


def attributes_of(spec: Mapping[str, Any]) -> Attributes:
    """Read what an access review asks about."""
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if isinstance(resource, dict):
        texts = {
            name: str(resource.get(name) or "")
            for name in ("verb", "group", "version", "resource", "namespace", "name")
        }
        return Attributes(**texts, subresource=str(resource.get("subresource") or ""))
    if isinstance(path, dict):
        return Attributes(verb=str(path.get("verb") or ""), path=str(path.get("path") or "/"))
    problem = "at least one of: resourceAttributes, nonResourceAttributes must be specified"
    raise Refused(422, "Invalid", f"spec: Invalid value: {problem}")


def subject_of(spec: Mapping[str, Any]) -> User:
    """Read whom an access review asks about."""
    return User(name=str(spec.get("user") or ""), groups=tuple(str(each) for each in spec.get("groups") or ()))


def verdict(allowed: bool) -> dict[str, Any]:  # noqa: FBT001 -- the one thing it is about
    """Give the status of an access review."""
    return {"allowed": True, "reason": "RBAC"} if allowed else {"allowed": False}
