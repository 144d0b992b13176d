"""ExternalSecrets outside the controller: what they would write, by the same ribs.

Objects come from files, and where a cluster is given the rest comes from there; nothing is written anywhere. A store is
taken at its word: whether it is ready says nobody here.

What never lives here: printing, the command line.
"""

from __future__ import annotations

import datetime as dt
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from secretsops.errors import InvalidManifest, NotFound, SecretsOpsError, StoreUnavailable
from secretsops.external.access import OpenSource
from secretsops.external.entries import Pull
from secretsops.external.gather import EntryFailed, Gathered, gather
from secretsops.external.generating import Generators
from secretsops.external.model import (
    CLUSTER_SECRET_STORE,
    EXTERNAL_SECRET,
    SECRET,
    SECRET_STORE,
    ExternalSecret,
    read,
)
from secretsops.external.opening import Openings
from secretsops.external.reading import StoreReader, template_texts
from secretsops.external.render import compose
from secretsops.external.template import Filled, fill, transformed
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ownership import Create, Refuse, Update, decide_external
from secretsops.ports import Answer, Clock, Cluster
from secretsops.secret import Plaintext, SecretData

_KINDS = {EXTERNAL_SECRET.kind, SECRET_STORE.kind, CLUSTER_SECRET_STORE.kind}


class Objects:
    """The objects of files, before those of a cluster. As much of `secretsops.ports.Cluster` as reading needs."""

    def __init__(self, manifests: Sequence[Manifest], namespace: str, cluster: Cluster | None = None) -> None:
        self._found = {each.key: each for each in (_placed(each, namespace) for each in manifests)}
        self.cluster = cluster

    @property
    def externals(self) -> list[Manifest]:
        """Give the ExternalSecrets of the files, in order."""
        return [each for key, each in self._found.items() if key.kind == EXTERNAL_SECRET.kind and "ext" in key.group]

    @property
    def stores(self) -> list[Manifest]:
        """Give the stores of the files, in order."""
        return [each for key, each in self._found.items() if key.kind in _KINDS - {EXTERNAL_SECRET.kind}]

    def current(self, manifest: Manifest) -> Manifest:
        """Give an object of the files with the status it has in the cluster, where there is one."""
        try:
            live = self.cluster.get(manifest.kind, manifest.name, manifest.namespace) if self.cluster else None
        except NotFound:
            live = None
        return Manifest({**manifest.body, "status": live.status}) if live is not None else manifest

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        """Read one object; raises `NotFound`."""
        found = self._found.get(ObjectKey(kind.group, kind.kind, namespace, name))
        if found is not None:
            return found
        if self.cluster is None:
            raise NotFound(f"{kind.kind} {name} is in none of the files", code=404)
        return self.cluster.get(kind, name, namespace)

    def raw(self, method: str, path: str, *, body: bytes = b"", content_type: str = "") -> Answer:
        """Send a request to the cluster: tokens of service accounts are made there."""
        if self.cluster is None:
            raise StoreUnavailable("there is no cluster to make a token", hint="give --kubeconfig")
        return self.cluster.raw(method, path, body=body, content_type=content_type)


def _placed(manifest: Manifest, namespace: str) -> Manifest:
    """Put an object that names no namespace into the one that was asked for; encode `stringData`."""
    body = dict(manifest.body)
    wide = {CLUSTER_SECRET_STORE.kind, "ClusterGenerator", "Namespace"}
    if not manifest.namespace and manifest.kind.kind not in wide:
        body["metadata"] = {**manifest.metadata, "namespace": namespace}
    if manifest.kind == SECRET:
        body["data"] = SecretData.of(body).encoded()
        body.pop("stringData", None)
    # v1beta1 is read as v1: it is a subset.
    if manifest.kind.group == EXTERNAL_SECRET.group and manifest.kind.kind in _KINDS:
        body["apiVersion"] = EXTERNAL_SECRET.api_version
    return Manifest(body)


# --- Rendering -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one ExternalSecret would write: the Secret with its values, or why not."""

    namespace: str
    name: str
    action: str = ""
    secret: Manifest | None = field(default=None, repr=False)
    live: Manifest | None = field(default=None, repr=False)
    absent: Sequence[Pull] = ()
    error: SecretsOpsError | None = None
    place: str = ""

    @property
    def values(self) -> Mapping[str, Plaintext]:
        """Give the data it would have."""
        return SecretData.of(self.secret.body) if self.secret is not None else {}


class Rendering:
    """Renders ExternalSecrets without writing anything."""

    def __init__(self, objects: Objects, open_source: OpenSource, clock: Clock) -> None:
        cluster: Any = objects
        self._objects = objects
        self._openings = Openings(cluster, open_source, clock, lookup=objects.get)
        self._generators = Generators(objects.get, cluster=cluster, open_source=open_source)
        self._clock = clock

    def close(self) -> None:
        """Give sessions back."""
        self._openings.close()

    def render(self, manifest: Manifest) -> Outcome:
        """Give what an ExternalSecret would write now."""
        outcome = partial(Outcome, namespace=manifest.namespace, name=manifest.name)
        try:
            wanted = read(manifest)
            gathered = self._gathered(wanted)
            filled = self._filled(wanted, gathered.values)
            live = self._live(wanted)
            secret = compose(wanted, filled, live)
        except EntryFailed as failure:
            return outcome(error=failure.cause, place=failure.place)
        except SecretsOpsError as error:
            return outcome(error=error)
        if not gathered.values and wanted.target.deletion != "Merge":
            action = "delete" if wanted.target.deletion == "Delete" and live is not None else "leave"
            return outcome(action=action, live=live, absent=gathered.absent)
        action = "leave"
        if wanted.target.creation != "None":
            match decide_external(secret, live, name=wanted.name, creation=wanted.target.creation):
                case Create():
                    action = "create"
                case Update():
                    action = "update"
                case Refuse(reason, message):
                    return outcome(error=InvalidManifest(message, reason=reason), live=live)
        return outcome(action=action, secret=secret, live=live, absent=gathered.absent)

    def _gathered(self, wanted: ExternalSecret) -> Gathered:
        stores = {ref: self._openings.find(ref, wanted.namespace) for ref in wanted.stores}
        reader = StoreReader(
            self._openings,
            stores,
            wanted.namespace,
            self._clock.now() - dt.timedelta(minutes=5),
            generate=self._generators,
            serving={ref: ref for ref in stores},
        )
        return gather(wanted.pulls, reader, transformed, skip_absent=wanted.target.deletion != "Retain")

    def _filled(self, wanted: ExternalSecret, values: Mapping[str, Plaintext]) -> Filled:
        if wanted.target.template is None:
            return Filled(values=values, labels=wanted.labels, annotations=wanted.annotations)
        return fill(wanted.target.template, values, template_texts(self._objects.get, wanted.namespace))

    def _live(self, wanted: ExternalSecret) -> Manifest | None:
        if self._objects.cluster is None:
            return None
        try:
            return self._objects.cluster.get(SECRET, wanted.target.name, wanted.namespace)
        except NotFound:
            return None


def changes(outcome: Outcome) -> list[tuple[str, str]]:
    """Give how keys would change, by name: `+`, `-`, `~`; values are compared by a keyed digest of this call alone."""
    run = secrets.token_bytes(32)

    def digests(values: Mapping[str, Plaintext]) -> dict[str, bytes]:
        return {key: hmac.digest(run, value.reveal(), "sha256") for key, value in values.items()}

    new = digests(outcome.values)
    old = digests(SecretData.of(outcome.live.body)) if outcome.live is not None else {}
    if outcome.action in {"leave", ""}:
        return []
    signs = {key: "+" if key not in old else "-" if key not in new else "~" for key in {*old, *new}}
    return sorted(
        (key, sign) for key, sign in signs.items() if not hmac.compare_digest(old.get(key, b""), new.get(key, b""))
    )
