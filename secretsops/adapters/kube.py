"""The Kubernetes API server as our door `Cluster`: raw objects over the official client's connection.

Typed models of that client drop unknown fields and cost 3 to 8 times as much, so bodies stay what the server sent.
Merging is left to the server. Requests the server turned away with Retry-After are sent again, whatever their verb
(client-go `rest/with_retry.go`); a broken connection only where a second try cannot do harm.
Never here: credentials and TLS (`kube_session.py`), what objects mean.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlencode

from secretsops.adapters.kube_discovery import discover
from secretsops.adapters.kube_session import Session
from secretsops.adapters.kube_status import api_error
from secretsops.clock import SystemClock
from secretsops.errors import ApiError, Gone, Invalid, ServerFailure, TooManyRequests, UnknownKind, Unreachable
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Answer, Clock, ClusterTarget, EventType, Page, PatchType, Resource, WatchEvent

RESPONSE_LIMIT = 256 * 1024 * 1024
"""Bytes of one answer: a page of 500 objects of the largest size etcd takes is far below."""
LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of one watch event; etcd's own limit for an object is 1.5 MiB."""
ATTEMPTS = 5
RETRY_AFTER_LIMIT = 30.0
"""Seconds that we wait at most because the server asks for it."""
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_APPLY = "application/apply-patch+yaml"
_JSON = "application/json"


def connect(target: ClusterTarget, *, clock: Clock | None = None) -> KubeCluster:
    """Give the cluster a target names; no request is sent yet.

    Raises:
        UsageError: there is no such kubeconfig or context.
        Unauthorized: the kubeconfig's credential plugin, which runs now, gave no credential.
        MissingExtra: the extra `cluster` is not installed.
    """
    return KubeCluster(Session(target), clock=clock or SystemClock(), before_write=target.before_write)


class KubeCluster:
    """One API server. Satisfies `secretsops.ports.Cluster`; thread-safe."""

    def __init__(self, session: Session, *, clock: Clock, before_write: Callable[[], None] = lambda: None) -> None:
        self._session = session
        self._before_write = before_write
        self._clock = clock
        self._lock = threading.Lock()
        self._resources: Mapping[GroupVersionKind, Resource] = {}

    @property
    def server(self) -> str:
        """Give the base URL of the API server."""
        return self._session.server

    # --- discovery -------------------------------------------------------------------------------------

    def resources(self, *, refresh: bool = False) -> Sequence[Resource]:
        """List what the server serves, preferred versions of a group first."""
        with self._lock:
            if refresh or not self._resources:
                self._resources = {resource.kind: resource for resource in discover(self._document)}
            return list(self._resources.values())

    def resource(self, kind: GroupVersionKind) -> Resource:
        """Look one kind up, asking discovery again once; raises `UnknownKind`."""
        known = self._resources.get(kind)
        if known is None:
            self.resources(refresh=True)
            known = self._resources.get(kind)
        if known is None:
            raise UnknownKind(
                f"the cluster serves no {kind.kind} in {kind.api_version}",
                reason="UnknownKind",
                hint="is its CustomResourceDefinition installed? kubectl api-resources",
            )
        return known

    def _document(self, path: str, accept: str) -> dict[str, Any]:
        found = self._json("GET", path, headers={"Accept": accept})
        return found if isinstance(found, dict) else {}

    # --- reading ---------------------------------------------------------------------------------------

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        """Read one object; raises `NotFound`."""
        return Manifest(self._json("GET", self._path(kind, name, namespace)))

    def page(
        self,
        kind: GroupVersionKind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        resume: str = "",
        metadata_only: bool = False,
    ) -> Page:
        """Read one page; `resourceVersion` is left unset, which reads the newest state (consistent read)."""
        query = {"limit": str(limit), "continue": resume}
        query |= {"labelSelector": label_selector, "fieldSelector": field_selector}
        path = self.resource(kind).path(namespace=namespace)
        body = self._json("GET", path, query, headers={"Accept": _METADATA_LIST} if metadata_only else None)
        head = {"apiVersion": kind.api_version, "kind": kind.kind}
        metadata = body.get("metadata") or {}
        items = body.get("items") or []
        return Page(
            items=[_metadata_of(item, kind) if metadata_only else Manifest({**head, **item}) for item in items],
            resource_version=str(metadata.get("resourceVersion") or ""),
            resume=str(metadata.get("continue") or ""),
        )

    def list(
        self, kind: GroupVersionKind, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Sequence[Manifest]:
        """Read all pages; in one piece when the pages expire on the way (`client-go/tools/pager`)."""

        def read(resume: str, limit: int = 500) -> Page:
            return self.page(
                kind,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                limit=limit,
                resume=resume,
            )

        page = read("")
        found = [*page.items]
        while page.resume:
            try:
                page = read(page.resume)
            except Gone:
                return read("", limit=0).items
            found.extend(page.items)
        return found

    @contextmanager
    def watch(
        self,
        kind: GroupVersionKind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        timeout: float = 300.0,
        metadata_only: bool = False,
    ) -> Iterator[KubeWatch]:
        """Stream changes after `resource_version`; the request is on its way when this returns."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, int(timeout))),
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "resourceVersion": resource_version,
        }
        path = _url(self.resource(kind).path(namespace=namespace), query)
        accept = {"Accept": _METADATA} if metadata_only else None
        with ExitStack() as stack:

            def attempt() -> Any:
                with ExitStack() as opened:
                    response = opened.enter_context(
                        self._session.request("GET", path, timeout=timeout + 15.0, headers=accept)
                    )
                    if response.status >= 400:
                        raise _error(response, what=f"watch {kind.kind}", secret=False)
                    stack.push(opened.pop_all())
                    return response

            slim = kind if metadata_only else None
            watch = KubeWatch(self._again(attempt, harmless=True), what=f"the watch of {kind.kind}", slim=slim)
            try:
                yield watch
            finally:
                watch.close()

    # --- writing ---------------------------------------------------------------------------------------

    def create(self, manifest: Manifest, *, field_manager: str = "", dry_run: bool = False) -> Manifest:
        """POST; raises `AlreadyExists`."""
        path = self._collection(manifest)
        return self._write("POST", path, manifest.body, _JSON, manifest.kind, _query(field_manager, dry_run=dry_run))

    def replace(
        self, manifest: Manifest, *, subresource: str = "", field_manager: str = "", dry_run: bool = False
    ) -> Manifest:
        """PUT; with a resourceVersion in the body a stale one raises `Conflict`."""
        path = self._path(manifest.kind, manifest.name, manifest.namespace, subresource)
        return self._write("PUT", path, manifest.body, _JSON, manifest.kind, _query(field_manager, dry_run=dry_run))

    def patch(
        self,
        kind: GroupVersionKind,
        name: str,
        patch: Any,
        *,
        namespace: str = "",
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Manifest:
        """PATCH with a JSON-able body."""
        path = self._path(kind, name, namespace, subresource)
        return self._write("PATCH", path, patch, patch_type.value, kind, _query(field_manager, dry_run=dry_run))

    def apply(
        self,
        manifest: Manifest,
        *,
        field_manager: str,
        force: bool = False,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Manifest:
        """Server-side apply; raises `Conflict` naming the other managers unless `force`."""
        path = self._path(manifest.kind, manifest.name, manifest.namespace, subresource)
        query = {**_query(field_manager, dry_run=dry_run), "force": "true" if force else ""}
        body = {key: value for key, value in manifest.body.items() if key != "status" or subresource}
        metadata = {key: value for key, value in manifest.metadata.items() if key != "managedFields"}
        return self._write("PATCH", path, {**body, "metadata": metadata}, _APPLY, manifest.kind, query)

    def delete(
        self,
        kind: GroupVersionKind,
        name: str,
        *,
        namespace: str = "",
        propagation: str = "Background",
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
    ) -> None:
        """DELETE with preconditions; raises `NotFound`, or `Conflict` when a precondition fails."""
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if given := {key: value for key, value in preconditions.items() if value}:
            options["preconditions"] = given
        if dry_run:
            options["dryRun"] = ["All"]
        self._json("DELETE", self._path(kind, name, namespace), body=options, content_type=_JSON)

    def raw(self, method: str, path: str, *, body: bytes = b"", content_type: str = "") -> Answer:
        """Send one request as it is and give the answer, whatever its code; raises only `Unreachable`."""
        headers = {"Accept": "*/*", **({"Content-Type": content_type} if content_type else {})}
        with self._session.request(method, path, body=body or None, headers=headers) as response:
            content = _content(response)
            return Answer(code=int(response.status), headers=dict(response.headers), body=content)

    # --- one request -----------------------------------------------------------------------------------

    def _path(self, kind: GroupVersionKind, name: str, namespace: str, subresource: str = "") -> str:
        resource = self.resource(kind)
        if resource.namespaced and not namespace:
            raise Invalid(f"{kind.kind} {name} names no namespace", reason="NoNamespace", hint="set metadata.namespace")
        if not name:
            raise Invalid(f"a {kind.kind} names no name", reason="NoName", hint="set metadata.name")
        return resource.path(namespace=namespace, name=name, subresource=subresource)

    def _collection(self, manifest: Manifest) -> str:
        resource = self.resource(manifest.kind)
        if resource.namespaced and not manifest.namespace:
            raise Invalid(f"{manifest.key} names no namespace", reason="NoNamespace", hint="set metadata.namespace")
        return resource.path(namespace=manifest.namespace)

    def _write(
        self, method: str, path: str, body: Any, content_type: str, kind: GroupVersionKind, query: Mapping[str, str]
    ) -> Manifest:
        secret = kind.kind == "Secret" and not kind.group
        found = self._json(method, path, query, body=body, content_type=content_type, secret=secret)
        return Manifest({"apiVersion": kind.api_version, "kind": kind.kind, **found})

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
        secret: bool = False,
    ) -> Any:
        """Send a request and give its JSON; `secret` keeps the server's words about values out of errors."""
        url = _url(path, query or {})
        sent = dict(headers or {})
        if content_type:
            sent["Content-Type"] = content_type
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        harmless = method == "GET" or content_type == _APPLY

        def attempt() -> Any:
            if method != "GET":
                self._before_write()
            with self._session.request(method, url, body=content, headers=sent) as response:
                if response.status >= 400:
                    raise _error(response, what=f"{method} {path}", secret=secret)
                try:
                    return json.loads(_content(response) or b"{}")
                except ValueError:
                    raise ServerFailure(f"{method} {path}: the answer is no JSON", reason="NotJson") from None

        return self._again(attempt, harmless=harmless)

    def _again(self, attempt: Callable[[], Any], *, harmless: bool) -> Any:
        """Carry a request out, again where the server says when, or where nothing was sent or nothing can go wrong."""
        for count in range(1, ATTEMPTS + 1):
            try:
                return attempt()
            except (TooManyRequests, ServerFailure) as error:
                # A 500 or 504 with a delay (etcd timed out) may have been carried out, a 429 or 503 was not.
                refused = error.code in (429, 503)
                if not error.retry_after or count == ATTEMPTS or not (harmless or refused):
                    raise
                self._clock.sleep(min(error.retry_after, RETRY_AFTER_LIMIT))
            except Unreachable as error:
                # A connect that fails is not repeated for long: whoever waits for a start asks again himself.
                if count >= 3 or not (harmless or error.reason == "ConnectFailed"):
                    raise
                self._clock.sleep(random.uniform(0.1, 0.2) * 2**count)  # noqa: S311 - jitter
        raise AssertionError("the loop returns or raises")


class KubeWatch:
    """A watch stream; `close` from any thread ends the iteration at once and without an error."""

    def __init__(self, response: Any, *, what: str, slim: GroupVersionKind | None = None) -> None:
        self._response = response
        self._slim = slim
        self._what = what
        self._closed = threading.Event()
        self._events = self._read()

    def close(self) -> None:
        """End the stream."""
        if not self._closed.is_set():
            self._closed.set()
            try:
                self._response.shutdown()
            except (OSError, ValueError, RuntimeError):
                return  # it ended by itself

    def __iter__(self) -> Iterator[WatchEvent]:
        """Give events as they come; a stream that breaks off raises `Unreachable`, an ERROR line its ApiError.

        A loop that was left is taken up where it stopped by the next one.
        """
        return self._events

    def _read(self) -> Iterator[WatchEvent]:
        import urllib3

        waiting = b""
        try:
            # Not `stream`: behind a proxy that does not chunk it would wait until its buffer is full.
            while chunk := self._response.read1(65536):
                *lines, waiting = (waiting + chunk).split(b"\n")
                for line in lines:
                    if self._closed.is_set():
                        return
                    if line:
                        yield _event(line, self._what, self._slim)
                if len(waiting) > LINE_LIMIT:
                    raise ServerFailure(f"{self._what} sent a line over {LINE_LIMIT >> 20} MiB", reason="TooLarge")
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
            if self._closed.is_set():
                return  # closing takes the socket from under the reader, who may meet it in any of these ways
            raise Unreachable(f"{self._what} broke off ({type(error).__name__})", reason="NoAnswer") from None
        if waiting and not self._closed.is_set():
            raise Unreachable(f"{self._what} ended in the middle of an event", reason="NoAnswer")


def _metadata_of(body: Mapping[str, Any], kind: GroupVersionKind) -> Manifest:
    """Give an object without all but its metadata, also from a server that sends everything."""
    return Manifest({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": body.get("metadata") or {}})


def _event(line: bytes, what: str, slim: GroupVersionKind | None = None) -> WatchEvent:
    try:
        body = json.loads(line)
        told, content = body["type"], body["object"]
        if told != "ERROR":
            return WatchEvent(EventType(told), _metadata_of(content, slim) if slim else Manifest(content))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ServerFailure(f"{what} sent what is no event", reason="NotJson") from None
    raise api_error(content or {}, what=what)


def _content(response: Any) -> bytes:
    """Read a whole answer, bounded; raises `Unreachable` when it breaks off."""
    import urllib3

    parts: list[bytes] = []
    size = 0
    try:
        for part in response.stream(1 << 20):
            parts.append(part)
            size += len(part)
            if size > RESPONSE_LIMIT:
                raise ServerFailure(f"an answer is larger than {RESPONSE_LIMIT >> 20} MiB", reason="TooLarge")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unreachable(f"an answer broke off ({type(error).__name__})", reason="NoAnswer") from None
    return b"".join(parts)


def _error(response: Any, *, what: str, secret: bool) -> ApiError:
    content = _content(response)
    try:
        status = json.loads(content)
    except ValueError:
        status = {}
    return api_error(
        status if isinstance(status, dict) else {},
        what=what,
        code=int(response.status),
        retry_after=str(response.headers.get("Retry-After") or ""),
        secret=secret,
    )


def _query(field_manager: str, *, dry_run: bool) -> dict[str, str]:
    return {"fieldManager": field_manager, "dryRun": "All" if dry_run else ""}


def _url(path: str, query: Mapping[str, str]) -> str:
    given = urlencode({key: value for key, value in query.items() if value})
    return f"{path}?{given}" if given else path
