"""The spine: one request in, one answer out. Who is it, may they, what is meant, do it, show it.

    1. who asks              access.Tokens, impersonation
    2. what is asked         the path: group, version, resource, namespace, name, subresource
    3. may they              access.Rbac
    4. carry it out          verbs, watches, discovery, reviews, proxy
    5. show it               the version asked for, as an object, its metadata or a table

Follows `k8s.io/apiserver/pkg/endpoints` (`request/requestinfo.go` for step 2). Never here: HTTP's own rules.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from drills.sandbox.embedded import discovery, protobuf, watches
from drills.sandbox.embedded.access import (
    Attributes,
    Rbac,
    Tokens,
    User,
    attributes_of,
    refusal,
    subject_of,
    verdict,
)
from drills.sandbox.embedded.http import Answer, Request, Response
from drills.sandbox.embedded.kinds import Kind, definition_rows
from drills.sandbox.embedded.proxy import Proxy
from drills.sandbox.embedded.status import Refused, bad_request, no_such_path, not_found, success
from drills.sandbox.embedded.store import Entry, Store, dumps, shown
from drills.sandbox.embedded.tables import table
from drills.sandbox.embedded.verbs import Verbs
from drills.sandbox.embedded.writes import APPLY_PATCH, NAMESPACE, Deletion, Done, Options, Target
from secretsops.errors import InvalidManifest
from secretsops.manifest import load_all

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "GET": "get", "HEAD": "get", "DELETE": "delete"}
_ANYBODY = ("/healthz", "/livez", "/readyz", "/version")
_EVERY_USER = ("/api", "/apis", "/openapi", *_ANYBODY)
COMPACT = "/secretsops/compact"
"""Not Kubernetes': forget history, as etcd's compaction does."""
AGGREGATED = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request is about, read from its path."""

    verb: str
    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""

    @property
    def target(self) -> Target:
        """Give it as the target of a write."""
        return Target(kind=self.kind, namespace=self.namespace, name=self.name, subresource=self.subresource)

    @property
    def attributes(self) -> Attributes:
        """Give it as what is to be allowed."""
        kind = self.kind
        return Attributes(
            verb=self.verb,
            group=kind.group,
            version=kind.version,
            resource=kind.plural,
            subresource=self.subresource,
            namespace=self.namespace or (self.name if kind.storage == NAMESPACE else ""),
            name=self.name,
        )


_SHOWN_WHEN_DELETED = frozenset({
    "Pod", "Service", "ServiceAccount", "PodTemplate", "ResourceQuota", "PersistentVolume", "PersistentVolumeClaim",
    "StorageClass", "VolumeAttachment", "CSINode", "CSIDriver",
})  # fmt: skip
"""Kinds whose deletion answers with the object (`ReturnDeletedObject`); the others answer with a Status."""

Heard = Callable[[Request, User | None, Asked | None, Answer, dt.datetime], None]
"""Told of every answer, for the audit log."""


class Api:
    """Answers requests."""

    def __init__(
        self, store: Store, verbs: Verbs, tokens: Tokens, proxy: Proxy, now: Callable[[], dt.datetime], heard: Heard
    ) -> None:
        self._store = store
        self._verbs = verbs
        self._tokens = tokens
        self._rbac = Rbac(store)
        self._proxy = proxy
        self._now = now
        self._heard = heard

    def handle(self, request: Request) -> Answer | Awaitable[Answer]:
        """Answer one request; whatever is refused becomes a Status."""
        begun, user, asked = self._now(), None, None
        answer: Answer | Awaitable[Answer]
        try:
            user = self._who(request)
            asked = self._read(request)
            self._admit(request, user, asked)
            answer = self._paths(request) if asked is None else self._objects(request, user, asked)
        except Refused as refused:
            answer = Response(code=refused.code, body=dumps(refused.body()), headers=refused.headers)
        except (RecursionError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            # A body of a shape that nobody thought of: its sender's mistake, and not to be ours.
            _report(request, error)
            puzzled = bad_request(f"the request cannot be understood ({type(error).__name__})")
            answer = Response(code=400, body=dumps(puzzled.body()))
        if not isinstance(answer, Awaitable):
            self._heard(request, user, asked, answer, begun)
        return answer

    # --- 1. who asks -----------------------------------------------------------------------------------

    def _who(self, request: Request) -> User | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        user = self._tokens.user(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            if request.path in _ANYBODY or request.path.startswith(("/livez/", "/readyz/", "/healthz/")):
                return None
            raise Refused(401, "Unauthorized", "Unauthorized")
        wanted = request.headers.get("impersonate-user")
        if not wanted:
            return user
        groups = [each.strip() for each in request.headers.get("impersonate-group", "").split(",") if each.strip()]
        for resource, name in (("users", wanted), *(("groups", each) for each in groups)):
            right = Attributes(verb="impersonate", resource=resource, name=name)
            if not self._rbac.allows(user, right):
                raise refusal(user, right)
        return User(name=wanted, groups=(*groups, "system:authenticated"))

    # --- 2. what is asked ------------------------------------------------------------------------------

    def _read(self, request: Request) -> Asked | None:
        """Read the path; None for one that is about no object."""
        parts = request.parts
        if len(parts) >= 3 and parts[0] == "api":
            group, version, rest = "", parts[1], parts[2:]
        elif len(parts) >= 4 and parts[0] == "apis":
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            return None
        namespace = ""
        if rest[0] == "watch":
            raise no_such_path()
        if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = self._store.kinds.at(group, version, rest[0])
        if kind is None or (namespace and not kind.namespaced):
            raise no_such_path()
        name = rest[1] if len(rest) > 1 else ""
        subresource = rest[2] if len(rest) > 2 else ""
        verb = _VERBS.get(request.method, "")
        if not name and verb == "get":
            verb = "watch" if request.query.get("watch") in ("true", "1") else "list"
        if not name and verb == "delete":
            verb = "deletecollection"
        return Asked(
            verb=verb,
            kind=kind,
            namespace=namespace,
            name=name,
            subresource=subresource,
            # As it was sent: what follows `proxy/` is the other server's.
            rest=request.path.partition("/proxy/")[2] if subresource == "proxy" else "",
        )

    # --- 3. may they -----------------------------------------------------------------------------------

    def _admit(self, request: Request, user: User | None, asked: Asked | None) -> None:
        if user is None:
            return
        if asked is None:
            if request.path == "/" or request.path.startswith(_EVERY_USER):
                return
            right = Attributes(verb=request.method.lower(), path=request.path)
        else:
            if asked.verb not in (*asked.kind.verbs, "get", "create") and asked.subresource == "":
                raise Refused(
                    405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
                )
            if asked.kind.plural in ("selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews"):
                return
            right = asked.attributes
        if not self._rbac.allows(user, right):
            raise refusal(user, right)

    # --- 4. carry it out -------------------------------------------------------------------------------

    def _paths(self, request: Request) -> Answer:
        """Answer what is about no object."""
        if (request.method, request.path) == ("POST", COMPACT):
            self._store.compact()
            return Response(body=dumps(success()))
        if request.method not in ("GET", "HEAD"):
            raise no_such_path()
        path, kinds = request.path.rstrip("/"), self._store.kinds
        if path.startswith(("/healthz", "/livez", "/readyz")):
            return Response(body=b"ok", content_type="text/plain; charset=utf-8")
        together = AGGREGATED in request.headers.get("accept", "")
        if path in ("/api", "/apis") and together:
            body: Any = discovery.aggregated(kinds, core=path == "/api")
            return Response(body=dumps(body), content_type=f"application/json;{AGGREGATED}")
        parts = request.parts
        body = None
        if path == "/version":
            body = discovery.version()
        elif path == "/api":
            body = discovery.core_versions()
        elif path == "/apis":
            body = discovery.groups(kinds)
        elif path == "/openapi/v3":
            body = discovery.openapi_index(kinds)
        elif parts[:2] == ["openapi", "v3"] and len(parts) in (4, 5):
            body = discovery.openapi(kinds, parts[3] if len(parts) == 5 else "", parts[-1])
        elif parts[:1] == ["apis"] and len(parts) == 2:
            body = discovery.group(kinds, parts[1])
        elif parts[:1] in (["api"], ["apis"]) and len(parts) in (2, 3):
            body = discovery.resources(kinds, parts[1] if parts[0] == "apis" else "", parts[-1])
        if body is None:
            raise no_such_path()
        return Response(body=dumps(body))

    def _objects(self, request: Request, user: User | None, asked: Asked) -> Answer | Awaitable[Answer]:
        if asked.subresource == "proxy":
            return self._proxy.carry(request, asked.kind.plural, asked.namespace, asked.name, asked.rest)
        if asked.kind.group in ("authorization.k8s.io", "authentication.k8s.io") and asked.verb == "create":
            return self._review(request, user, asked)
        if asked.subresource in ("token", "eviction", "binding", "scale", "finalize"):
            return self._special(request, user, asked)
        if asked.subresource and asked.subresource not in asked.kind.subresources:
            raise no_such_path()
        if asked.verb in ("list", "watch"):
            return self._many(request, asked)
        if asked.verb == "get":
            return self._one(request, asked, self._entry(asked))
        if asked.verb in ("delete", "deletecollection"):
            return self._delete(request, asked)
        return self._write(request, user, asked)

    def _entry(self, asked: Asked) -> Entry:
        entry = self._store.find(asked.kind.storage, asked.namespace, asked.name)
        if entry is None:
            raise not_found(asked.kind.plural, asked.kind.group, asked.name)
        return entry

    def _many(self, request: Request, asked: Asked) -> Answer:
        query, kind = request.query, asked.kind
        selection = watches.Selection(
            kind=kind,
            namespace=asked.namespace,
            labels=query.get("labelSelector", ""),
            fields=query.get("fieldSelector", ""),
        ).checked()
        form = self._form(request)
        if asked.verb == "watch":
            return watches.Watch(self._store, selection, query, lambda entry: self._encoded(kind, entry, form)).stream()
        entries, metadata = watches.page(self._store, selection, query)
        if form == "Table":
            bodies = [shown(kind, entry.body) for entry in entries]
            whole = query.get("includeObject") == "Object"
            return Response(body=dumps(table(kind, bodies, metadata, self._now(), whole=whole)))
        partial = form == "PartialObjectMetadata"
        name = "PartialObjectMetadataList" if partial else f"{kind.kind}List"
        head = {"kind": name, "apiVersion": "meta.k8s.io/v1" if partial else kind.api_version, "metadata": metadata}
        items = b",".join(self._encoded(kind, entry, form) if form else entry.in_list(kind) for entry in entries)
        return Response(body=dumps(head)[:-1] + b',"items":[' + items + b"]}")

    @staticmethod
    def _form(request: Request) -> str:
        """Say in which form objects are wanted: the first of the accepted types that we have."""
        for accepted in request.headers.get("accept", "").split(","):
            for form in ("Table", "PartialObjectMetadataList", "PartialObjectMetadata"):
                if f"as={form};" in f"{accepted.strip()};":
                    return form.removesuffix("List")
            if "as=" not in accepted and "json" in accepted:
                return ""
        return ""

    def _encoded(self, kind: Kind, entry: Entry, form: str) -> bytes:
        if form == "PartialObjectMetadata":
            return dumps({"kind": form, "apiVersion": "meta.k8s.io/v1", "metadata": entry.body["metadata"]})
        if form == "Table":
            return dumps(table(kind, [shown(kind, entry.body)], {}, self._now(), whole=False))
        return entry.json(kind)

    def _one(self, request: Request, asked: Asked, entry: Entry) -> Answer:
        form = self._form(request)
        if form == "Table":
            whole = request.query.get("includeObject") == "Object"
            metadata = {"resourceVersion": str(entry.version)}
            body = table(asked.kind, [shown(asked.kind, entry.body)], metadata, self._now(), whole=whole)
            return Response(body=dumps(body))
        return Response(body=self._encoded(asked.kind, entry, form))

    def _write(self, request: Request, user: User | None, asked: Asked) -> Answer:
        content_type = request.headers.get("content-type", "").partition(";")[0]
        options = Options(
            manager=_manager(request, user),
            dry_run=request.query.get("dryRun") == "All",
            force=request.query.get("force") in ("true", "1"),
            validation=request.query.get("fieldValidation") or "Warn",
        )
        body = _loaded(request)
        if asked.verb == "create":
            name = str((body.get("metadata") or {}).get("name") or "") if isinstance(body, dict) else ""
            done = self._verbs.create(replace(asked.target, name=asked.name or name), body, options)
        elif asked.verb == "update":
            done = self._verbs.update(asked.target, body, options)
        elif content_type == APPLY_PATCH:
            if not request.query.get("fieldManager"):
                raise bad_request(
                    'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
                )
            done = self._verbs.apply(asked.target, body, options)
        else:
            done = self._verbs.patch(asked.target, body, content_type, options)
        return _written(done)

    def _delete(self, request: Request, asked: Asked) -> Answer:
        body = _loaded(request) if request.body else {}
        how = _deletion(body if isinstance(body, dict) else {}, request.query)
        if asked.verb == "deletecollection":
            selection = watches.Selection(
                kind=asked.kind,
                namespace=asked.namespace,
                labels=request.query.get("labelSelector", ""),
                fields=request.query.get("fieldSelector", ""),
            ).checked()
            for (namespace, name), entry in self._store.entries(asked.kind.storage, asked.namespace):
                if selection.holds(entry):
                    self._verbs.delete(Target(kind=asked.kind, namespace=namespace, name=name), how)
            head = {"kind": f"{asked.kind.kind}List", "apiVersion": asked.kind.api_version}
            return Response(
                body=dumps({**head, "metadata": {"resourceVersion": str(self._store.version)}, "items": []})
            )
        old, is_gone = self._verbs.delete(asked.target, how)
        if not is_gone or asked.kind.kind in _SHOWN_WHEN_DELETED:
            return Response(body=dumps(old))
        kind = asked.kind
        details = {"name": asked.name, "kind": kind.plural, "uid": old["metadata"]["uid"]}
        return Response(body=dumps(success(**details, **({"group": kind.group} if kind.group else {}))))

    # --- subresources and reviews ----------------------------------------------------------------------

    def _special(self, request: Request, user: User | None, asked: Asked) -> Answer:
        options = Options(manager=_manager(request, user), dry_run=request.query.get("dryRun") == "All")
        if asked.subresource == "token" and asked.verb == "create" and asked.kind.kind == "ServiceAccount":
            return Response(code=201, body=dumps(self._tokens.mint(self._entry(asked).body, _loaded(request))))
        if asked.subresource == "eviction" and asked.kind.kind == "Pod":
            self._verbs.delete(replace(asked.target, subresource=""), Deletion(dry_run=options.dry_run))
            return Response(code=201, body=dumps(success()))
        if asked.subresource == "binding" and asked.kind.kind == "Pod":
            node = str((_loaded(request).get("target") or {}).get("name") or "")
            target = replace(asked.target, subresource="")
            self._verbs.patch(target, {"spec": {"nodeName": node}}, "application/merge-patch+json", options)
            return Response(code=201, body=dumps(success()))
        if asked.subresource == "finalize" and asked.kind.storage == NAMESPACE:
            return _written(self._verbs.update(replace(asked.target, subresource=""), _loaded(request), options))
        if asked.subresource == "scale" and "scale" in asked.kind.subresources:
            if asked.verb == "get":
                return Response(body=dumps(_scale_of(asked.kind, self._entry(asked).body)))
            replicas = int((_loaded(request).get("spec") or {}).get("replicas", 0))
            done = self._verbs.scale(asked.target, replicas, options)
            return Response(body=dumps(_scale_of(asked.kind, done.body)))
        raise no_such_path()

    def _review(self, request: Request, user: User | None, asked: Asked) -> Answer:
        body = _loaded(request)
        spec = body.get("spec") or {}
        assert user is not None
        if asked.kind.kind == "TokenReview":
            audiences = [str(each) for each in spec.get("audiences") or ()] or None
            found = self._tokens.user(str(spec.get("token") or ""), *([audiences] if audiences else []))
            status: Any = {"authenticated": False, "error": "the token is not known here"}
            if found is not None:
                status = {
                    "authenticated": True,
                    "user": found.info(),
                    "audiences": audiences or ["https://kubernetes.default.svc"],
                }
            spec = {name: value for name, value in spec.items() if name != "token"}
        elif asked.kind.kind == "SelfSubjectReview":
            status = {"userInfo": user.info()}
        elif asked.kind.kind == "SelfSubjectRulesReview":
            rules = self._rbac.rules(user, str(spec.get("namespace") or ""))
            status = {
                "resourceRules": [rule for rule in rules if rule.get("resources")],
                "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
                "incomplete": False,
            }
        else:
            whom = user if asked.kind.kind == "SelfSubjectAccessReview" else subject_of(spec)
            status = verdict(self._rbac.allows(whom, attributes_of(spec)))
        answer = {
            "kind": asked.kind.kind,
            "apiVersion": asked.kind.api_version,
            "metadata": {"creationTimestamp": None},
        }
        return Response(code=201, body=dumps({**answer, "spec": spec, "status": status}))


# --- pieces --------------------------------------------------------------------------------------------


def _report(request: Request, error: Exception) -> None:
    """Say on standard error where a request went wrong; never with what text, which may hold a value."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = f"{request.method} {request.path}: {type(error).__name__} at {frame.name}:{frame.lineno}"
    print(line, file=sys.stderr, flush=True)  # noqa: T201 -- the process's log


def _loaded(request: Request) -> Any:
    """Read a body: JSON, or YAML where apply may send it. What is wrong with it is not repeated: it may be a value."""
    if request.headers.get("content-type", "").startswith(protobuf.CONTENT_TYPE):
        table = definition_rows()
        try:
            return protobuf.read(request.body, table["definitions"], table["roots"])
        except (ValueError, KeyError, OverflowError):
            raise bad_request("error decoding the body: it is no protobuf of a kind that is served") from None
    if "yaml" in request.headers.get("content-type", "") and not request.body.lstrip().startswith(b"{"):
        try:
            (found,) = load_all(request.body)
        except (InvalidManifest, ValueError):
            raise bad_request("error decoding YAML: the body is not one YAML object") from None
        return found.body
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        raise bad_request("error decoding the body: it is no JSON") from None


def _manager(request: Request, user: User | None) -> str:
    """Give the field manager: the one named, else the first word of the user agent (`managedfields`)."""
    named = request.query.get("fieldManager")
    if named:
        return named[:128]
    agent = request.headers.get("user-agent", "").partition("/")[0]
    return agent or (user.name if user is not None else "unknown")


def _deletion(body: Mapping[str, Any], query: Mapping[str, str]) -> Deletion:
    conditions = body.get("preconditions") or {}
    grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    propagation = body.get("propagationPolicy") or query.get("propagationPolicy")
    if body.get("orphanDependents"):
        propagation = "Orphan"
    if propagation not in (None, "Background", "Foreground", "Orphan"):
        raise Refused(
            422, "Invalid", "propagationPolicy: Unsupported value: supported values: Foreground, Background, Orphan"
        )
    return Deletion(
        propagation=propagation or "Background",
        uid=str(conditions.get("uid") or ""),
        resource_version=str(conditions.get("resourceVersion") or ""),
        grace=int(grace) if grace is not None else None,
        dry_run="All" in (body.get("dryRun") or []) or query.get("dryRun") == "All",
    )


def _written(done: Done) -> Response:
    headers = {}
    if done.warnings:
        told = [each.replace('"', '\\"') for each in done.warnings]
        headers = {"Warning": ", ".join(f'299 - "{each}"' for each in told)}
    return Response(code=201 if done.created else 200, body=done.raw, headers=headers)


def _scale_of(kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
    def at(path: str) -> Any:
        found: Any = body
        for name in path.split(".")[1:]:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    metadata = body["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": at(kind.scale_paths.get("specReplicasPath", ".spec.replicas")) or 0},
        "status": {"replicas": at(kind.scale_paths.get("statusReplicasPath", ".status.replicas")) or 0},
    }
