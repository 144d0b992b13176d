"""For each Secret of an estate: who makes it, and does it come back when the cluster is gone? Pure.

A Secret comes back if one of its makers does: a SealedSecret by an escrowed key, an ExternalSecret by a store whose own
credential survives, a Certificate by its issuer, one committed as it is, one of which recovery.yaml says where from. A
store or issuer is followed to its own Secrets; whoever needs himself is a hole. Unknown is a hole.

Never here: reading escrows or clusters, printing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from recovery.app import CONTROL_NAMESPACE
from recovery.needs import needs
from recovery.plain import entries, inside, mapping, text_of
from recovery.proof.evidence import CURE_OF_NO_KEY, SealedFound, Verdict
from recovery.proof.graph import Graph, Node
from recovery.proof.rules.identity import is_regenerable
from recovery.proof.rules.inside import host_of, hosts_inside
from recovery.proof.subject import Subject
from recovery.recovery_plan import RecoveryPlan, StorePlace
from recovery.setup import Repository
from secretsops.errors import InvalidManifest
from secretsops.external.model import store_refs
from secretsops.external.store import admits
from secretsops.manifest import Manifest, ObjectKey

_OK, _HOLE, _UNKNOWN = Verdict.RECOVERABLE, Verdict.HOLE, Verdict.UNKNOWN
_FILLED_BY_CLUSTER = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the matrix: what is needed, who makes it, with which keys, and whether it comes back."""

    kind: str
    """`secret`, `repository` or `cluster`."""
    object: str
    producer: str
    verdict: Verdict
    why: str
    keys: tuple[str, ...] = ()
    how: str = ""
    items: int = 0
    needed_by: tuple[str, ...] = ()
    optional: bool = False
    cure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Zero:
    """One entry of the secret-zero manifest: what must come from outside Git, of which type, where from, what for."""

    type: str
    name: str
    source: str
    needed_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    verdict: Verdict
    why: str
    zero: tuple[Zero, ...] = ()


Judge = Callable[[Manifest], SealedFound]


@dataclass
class Inquest:
    """Follows Secrets to where they come from; every answer is found once."""

    subject: Subject
    plan: RecoveryPlan
    sealed: Judge
    zero: list[Zero] = field(default_factory=list)
    _rows: dict[ObjectKey, Row] = field(default_factory=dict)
    _asked: set[ObjectKey] = field(default_factory=set)

    @property
    def graph(self) -> Graph:
        """Give who needs whom."""
        return self.subject.graph

    @cached_property
    def _hosts(self) -> Mapping[str, str]:
        return hosts_inside(self.subject)

    def rows(self) -> list[Row]:
        """Give the whole matrix: Secrets in the order of names, then repositories and clusters."""
        wanted: dict[ObjectKey, None] = {}
        for key, made_by in self.graph.made.items():
            if key.kind == "Secret" and any(maker.kind in ("SealedSecret", "ExternalSecret") for maker in made_by):
                wanted[key] = None
        for key in self.graph.asked:
            if key.kind == "Secret":
                wanted[key] = None
        return [self._with_users(key) for key in sorted(wanted)] + self._repositories() + self._clusters()

    def _with_users(self, key: ObjectKey) -> Row:
        edges = self.graph.asked.get(key, ())
        users = tuple(dict.fromkeys(str(edge.needer) for edge in edges))
        optional = bool(edges) and all(edge.need.optional for edge in edges) and not self.graph.made.get(key)
        return replace(self.secret(key), needed_by=users, optional=optional)

    # --- Secrets -------------------------------------------------------------------------------------------

    def secret(self, key: ObjectKey) -> Row:
        """Give the best that is known of a Secret."""
        if key in self._rows:
            return self._rows[key]
        if key in self._asked:
            return self._row(key, "", _HOLE, "it is needed to make itself", cure="keep a sealed copy of it")
        self._asked.add(key)
        candidates = [self._from(key, maker) for maker in self._makers(key)] or [self._by_hand(key)]
        best = max(candidates, key=lambda row: (row.verdict is _OK, row.verdict is _UNKNOWN))
        self._asked.discard(key)
        self._rows[key] = best
        return best

    def _makers(self, key: ObjectKey) -> list[ObjectKey]:
        own = [key] if key in self.graph.nodes else []
        declared = [ObjectKey("", "OutsideSecret", key.namespace, key.name)] if self._outside(key) else []
        return own + list(self.graph.made.get(key, ())) + declared

    def _outside(self, key: ObjectKey) -> str:
        name = f"{key.namespace}/{key.name}"
        return next((one.source for one in self.plan.secrets if one.name == name), "")

    def _row(self, key: ObjectKey, producer: str, verdict: Verdict, why: str, *, cure: str = "") -> Row:
        return Row(kind="secret", object=str(key), producer=producer, verdict=verdict, why=why, cure=cure)

    def _by_hand(self, key: ObjectKey) -> Row:
        self._need_zero("secret", key, "nothing says where it comes from")
        return self._row(
            key,
            "",
            _HOLE,
            "nothing in Git makes it",
            cure="seal it, pull it from a store, or say in recovery.yaml (spec.secrets) where it comes from",
        )

    def _need_zero(self, kind: str, key: ObjectKey, source: str) -> None:
        users = tuple(dict.fromkeys(str(edge.needer) for edge in self.graph.asked.get(key, ())))
        self.zero.append(Zero(type=kind, name=f"{key.namespace}/{key.name}", source=source, needed_for=users))

    def _from(self, key: ObjectKey, maker: ObjectKey) -> Row:
        producer = f"{maker.kind} {maker.namespace}/{maker.name}"
        if maker.kind == "OutsideSecret":
            self._need_zero("secret", key, self._outside(key))
            return self._row(key, "recovery.yaml", _OK, f"it comes from outside Git: {self._outside(key)}")
        node = self.graph.nodes[maker]
        if maker.kind == "SealedSecret":
            return self._from_sealed(key, producer, node)
        if maker.kind == "ExternalSecret":
            answer = self._external(node)
        elif maker.kind == "Certificate":
            answer = self._certificate(node)
        elif maker == key:
            answer = self._committed(node.manifest)
        else:
            answer = _Answer(verdict=_OK, why=f"its operator makes it with {producer}")
        cure = "" if answer.verdict is _OK else "cure what it depends on, or keep a sealed copy"
        return self._row(key, producer, answer.verdict, answer.why, cure=cure)

    def _from_sealed(self, key: ObjectKey, producer: str, node: Node) -> Row:
        found = self.sealed(node.manifest)
        cure = "escrow its key (`secretsops escrow create`), or seal it again with an escrowed one"
        if found.verdict is _UNKNOWN:
            cure = found.cure or CURE_OF_NO_KEY
        row = self._row(key, producer, found.verdict, found.why, cure="" if found.verdict is _OK else cure)
        return replace(row, keys=found.keys, how=found.how, items=found.items)

    def _committed(self, manifest: Manifest) -> _Answer:
        if text_of(manifest.body.get("type")) in _FILLED_BY_CLUSTER:
            return _Answer(verdict=_OK, why="the cluster fills it")
        filled = mapping(manifest.body.get("data")) or mapping(manifest.body.get("stringData"))
        if not filled:
            return _Answer(verdict=_HOLE, why="it stands in Git without data: somebody fills it by hand")
        return _Answer(verdict=_OK, why="it is committed as it is, readable to whoever reads Git")

    # --- external ------------------------------------------------------------------------------------------

    def _external(self, node: Node) -> _Answer:
        manifest = node.manifest
        for entry in entries(manifest.spec.get("dataFrom")):
            generator = inside(mapping(entry), ("sourceRef", "generatorRef"))
            if generator and not is_regenerable(self.subject, node, generator):
                why = f"{generator.get('kind')} {generator.get('name')} makes a new value, and nothing says that it may"
                return _Answer(verdict=_HOLE, why=why)
        for reference in store_refs(manifest):
            namespace = manifest.namespace if reference.kind == "SecretStore" else ""
            key = ObjectKey("external-secrets.io", reference.kind, namespace, reference.name)
            answer = self._store(key, manifest.namespace)
            if answer.verdict is not _OK:
                return answer
        return _Answer(verdict=_OK, why="its store and the store's own credential come back")

    def _store(self, key: ObjectKey, user: str) -> _Answer:
        name = f"{key.kind} {key.namespace + '/' if key.namespace else ''}{key.name}"
        node = self.graph.nodes.get(key)
        if node is None:
            return _Answer(verdict=_HOLE, why=f"its store {name} is not in Git")
        if not self._admits(node.manifest, user):
            return _Answer(verdict=_HOLE, why=f"its store {name} does not admit the namespace {user}")
        provider = mapping(node.manifest.spec.get("provider"))
        declared = self._declared(key)
        if "fake" in provider:
            return _Answer(verdict=_OK, why="the store holds its values itself")
        inner = self._inside(provider)
        if inner and not (declared and declared.restored_by):
            return _Answer(verdict=_HOLE, why=f"its store {name} reads {inner}, which ran in the lost cluster")
        if declared and (declared.survives or declared.retrusted):
            return _Answer(verdict=_OK, why=f"recovery.yaml says that {name} trusts the new cluster")
        return self._credentials(node, name, user)

    def _admits(self, store: Manifest, namespace: str) -> bool:
        if store.kind.kind != "ClusterSecretStore":
            return True
        found = self.graph.nodes.get(ObjectKey("", "Namespace", "", namespace))
        try:
            return admits(store, namespace, dict(found.manifest.labels) if found else {})
        except InvalidManifest:
            return False

    def _declared(self, key: ObjectKey) -> StorePlace | None:
        names = {
            key.name,
            f"{key.namespace}/{key.name}",
            f"{key.kind}/{key.name}",
            f"{key.kind}/{key.namespace}/{key.name}",
        }
        return next((one for one in self.plan.stores if one.name in names), None)

    def _inside(self, provider: Mapping[str, object]) -> str:
        for body in provider.values():
            server = text_of(mapping(body).get("server") or mapping(body).get("url"))
            if server and host_of(server) in self._hosts:
                return server
        return ""

    def _credentials(self, node: Node, name: str, user: str) -> _Answer:
        """Follow what a store signs in with; an identity of the lost cluster is a hole until it is trusted again."""
        provider = mapping(node.manifest.spec.get("provider"))
        auth = mapping(mapping(provider.get("vault")).get("auth"))
        wants = [need.key for need in needs(_at(node.manifest, user)) if need.why.startswith("the store signs in")]
        federated = [key for key in wants if key.kind == "ServiceAccount"]
        if federated or "kubernetes" in auth or "jwt" in auth:
            why = f"its store {name} signs in by an identity of the lost cluster"
            return _Answer(verdict=_HOLE, why=why)
        if not wants:
            why = f"its store {name} names no credential: nobody can say whether its controller's own one survives"
            return _Answer(verdict=_UNKNOWN, why=why)
        for key in wants:
            row = self.secret(key)
            if row.verdict is not _OK:
                return _Answer(verdict=row.verdict, why=f"its store {name} signs in with {key}: {row.why}")
        return _Answer(verdict=_OK, why=f"its store {name} signs in with what comes back")

    # --- certificates ----------------------------------------------------------------------------------------

    def _certificate(self, node: Node) -> _Answer:
        issuer = mapping(node.manifest.spec.get("issuerRef"))
        kind = text_of(issuer.get("kind")) or "Issuer"
        group = text_of(issuer.get("group")) or "cert-manager.io"
        namespace = "" if kind == "ClusterIssuer" else node.key.namespace
        found = self.graph.nodes.get(ObjectKey(group, kind, namespace, text_of(issuer.get("name"))))
        if found is None:
            return _Answer(verdict=_HOLE, why=f"its issuer {kind} {issuer.get('name')} is not in Git")
        if group != "cert-manager.io":
            return _Answer(verdict=_UNKNOWN, why=f"its issuer is of {group}, which is not known here")
        for need in needs(found.manifest):
            if need.key.kind == "Secret" and not need.optional:
                row = self.secret(need.key)
                if row.verdict is not _OK:
                    return _Answer(verdict=row.verdict, why=f"its issuer needs {need.key}: {row.why}")
        if inside(found.manifest.spec, ("vault", "auth", "kubernetes")):
            return _Answer(verdict=_HOLE, why="its issuer signs in to Vault by an identity of the lost cluster")
        return _Answer(verdict=_OK, why=f"{kind} {found.key.name} issues it anew")

    # --- repositories and clusters -----------------------------------------------------------------------------

    def _repositories(self) -> list[Row]:
        """Give one row for each URL and Secret that opens it; a Secret of a project counts in that project alone."""
        users: dict[tuple[str, str], list[str]] = {}
        secrets: dict[tuple[str, str], Repository | None] = {}
        for planned in self.subject.estate.applications:
            for source in planned.app.sources:
                if source.url:
                    found = self.subject.estate.setup.repository(source.url, planned.app.project)
                    place = (source.url, found.name if found else "")
                    secrets[place] = found
                    users.setdefault(place, []).append(planned.app.key)
        rows = [(url, secrets[url, name], list(dict.fromkeys(names))) for (url, name), names in sorted(users.items())]
        return [self._repository(url, found, names) for url, found, names in rows]

    def _repository(self, url: str, found: Repository | None, users: Sequence[str]) -> Row:
        answer = self._reach(url, found.name if found else "", has_login=bool(found and _signs_in(found)))
        if answer.verdict is not _OK:
            self.zero.append(
                Zero(
                    type="repository-credential",
                    name=url,
                    source="nothing says where from",
                    needed_for=tuple(users[:20]),
                )
            )
        producer = f"Secret {CONTROL_NAMESPACE}/{found.name}" if found else ""
        cure = "commit its repository Secret sealed, or describe the host in recovery.yaml (spec.gitHosts)"
        return Row(
            kind="repository",
            object=url,
            producer=producer,
            verdict=answer.verdict,
            why=answer.why,
            needed_by=tuple(users[:20]),
            cure="" if answer.verdict is _OK else cure,
        )

    def _reach(self, url: str, secret: str, *, has_login: bool) -> _Answer:
        if url.startswith("file://"):
            return _Answer(verdict=_OK, why="it is a folder and needs no credential")
        if secret and has_login:
            row = self.secret(ObjectKey("", "Secret", CONTROL_NAMESPACE, secret))
            return _Answer(verdict=row.verdict, why=f"its credential: {row.why}")
        host = next((one for one in self.plan.git_hosts if one.name == host_of(url)), None)
        if host and host.anonymous:
            return _Answer(verdict=_OK, why="recovery.yaml says that it needs no credential")
        if host and host.credential:
            self.zero.append(Zero(type="repository-credential", name=url, source=host.credential))
            return _Answer(verdict=_OK, why=f"its credential comes from outside Git: {host.credential}")
        if secret:
            return _Answer(verdict=_OK, why="its repository Secret names no credential")
        return _Answer(verdict=_UNKNOWN, why="nothing says whether it needs a credential, or where that comes from")

    def _clusters(self) -> list[Row]:
        rows = []
        for entry in self.subject.estate.setup.clusters:
            row = self.secret(ObjectKey("", "Secret", CONTROL_NAMESPACE, entry.secret))
            rows.append(replace(row, kind="cluster", object=entry.name or entry.server))
        return rows


def _signs_in(repository: object) -> bool:
    return any(getattr(repository, name) for name in ("login", "ssh_key", "sealed"))


def _at(manifest: Manifest, namespace: str) -> Manifest:
    """Give a ClusterSecretStore as a user of a namespace sees it: references without one mean the user's."""
    if manifest.namespace:
        return manifest
    references = Manifest({**manifest.body, "metadata": {**manifest.metadata, "namespace": namespace}})
    named = {need.key for need in needs(manifest) if need.why.startswith("the store signs in")}
    return manifest if named else references
