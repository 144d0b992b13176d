"""The doors to the world, as Protocols: Cluster, SecretSource, GitRepos, Sink, Clock.

Each has one real implementation per vendor under `secretsops/adapters`, a behavioural fake under
`tests/fakes`, and one contract suite under `tests/contract` that both pass. No vendor's type or
exception crosses a door: adapters speak the types and errors of this package.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from secretsops.errors import StoreRefused
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.secret import Plaintext
from secretsops.sources import Access


class Clock(Protocol):
    """Time. `now` is aware UTC, `monotonic` in seconds and never goes back."""

    def now(self) -> dt.datetime:
        """Give the wall-clock time, UTC."""

    def monotonic(self) -> float:
        """Give seconds on a clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


# --- Cluster -------------------------------------------------------------------------------------------


class PatchType(StrEnum):
    """Content types of PATCH (`k8s.io/apimachinery/pkg/types/patch.go`); server-side apply has its own method."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One served resource, from discovery: how a kind is reached."""

    kind: GroupVersionKind
    plural: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()
    subresources: frozenset[str] = frozenset()

    def path(self, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Give the URL path of the collection or, with a name, of one object."""
        root = f"/apis/{self.kind.group}/{self.kind.version}" if self.kind.group else f"/api/{self.kind.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = (f"/{name}" if name else "") + (f"/{subresource}" if subresource else "")
        return f"{root}{scope}/{self.plural}{tail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list. `resume` is the continue token, empty on the last page."""

    items: Sequence[Manifest]
    resource_version: str
    resume: str = ""


class EventType(StrEnum):
    """What a watch event says; BOOKMARK only carries a resourceVersion."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch stream. An ERROR line is raised as the ApiError it holds (`Gone` for 410)."""

    type: EventType
    object: Manifest


class Watch(Protocol):
    """A running watch: iterate it; `close` from any thread ends the iteration at once."""

    def __iter__(self) -> Iterator[WatchEvent]: ...

    def close(self) -> None:
        """End the stream; the iterating thread returns from its loop without an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A raw HTTP answer, for paths that are no objects (service proxy, version, readyz)."""

    code: int
    headers: Mapping[str, str]
    body: bytes


class Cluster(Protocol):
    """One Kubernetes API server. Every method may raise an `ApiError` of `secretsops.errors`."""

    @property
    def server(self) -> str:
        """Give the base URL of the API server."""

    def resources(self, *, refresh: bool = False) -> Sequence[Resource]:
        """List what the server serves (preferred and other versions), from a cached discovery."""

    def resource(self, kind: GroupVersionKind) -> Resource:
        """Look one kind up, asking discovery again once when it is not known.

        Raises:
            UnknownKind: the server does not serve it.
        """

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        """Read one object; raises `NotFound`."""

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
        """Read one page; `namespace=""` means all namespaces. Raises `Gone` for an expired `resume`.

        `metadata_only` leaves everything else with the server: of Secrets no value is sent.
        """

    def list(
        self, kind: GroupVersionKind, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Sequence[Manifest]:
        """Read all pages."""

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
    ) -> AbstractContextManager[Watch]:
        """Stream changes after `resource_version`, with bookmarks; ends without error after `timeout` seconds."""

    def create(self, manifest: Manifest, *, field_manager: str = "", dry_run: bool = False) -> Manifest:
        """POST; raises `AlreadyExists`."""

    def replace(
        self, manifest: Manifest, *, subresource: str = "", field_manager: str = "", dry_run: bool = False
    ) -> Manifest:
        """PUT; with a resourceVersion in the body a stale one raises `Conflict`."""

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

    def raw(self, method: str, path: str, *, body: bytes = b"", content_type: str = "") -> Answer:
        """Send one request as it is and give the answer, whatever its code; raises only `Unreachable`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterTarget:
    """Which cluster is meant, in kubectl's terms. Empty fields follow kubectl's rules (KUBECONFIG, in-cluster).

    `overrides` are kubectl's connection options by name (`server`, `token`, `as`, `as-group`, …), which win over the
    kubeconfig. `before_write` is called right before each write request is sent, also before it is sent again, and
    holds it back by raising.
    """

    kubeconfig: str = ""
    context: str = ""
    user_agent: str = "secretsops"
    timeout: float = 30.0
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    before_write: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)


# --- External stores -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a store holds under one key at one version: the document as the provider hands it out.

    `at` is when the request began that brought it, None where nobody took it down.
    """

    document: Plaintext
    version: str = ""
    at: dt.datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, order=True)
class Ask:
    """One document a store is asked for. `metadata` asks for what the provider keeps beside the value instead."""

    key: str
    version: str = ""
    metadata: bool = False
    property: str = ""
    """Only where the store itself is asked for a property (dialect `webhook`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which documents to look for: below `path`, whose name fits `name` (RE2, unanchored), which carry all `tags`."""

    path: str = ""
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """What is to be written into a store: one value, or all of a Secret's, under a key or one property of it.

    `metadata` is what the PushSecret says about the remote object, in the provider's own terms.
    """

    key: str
    property: str = ""
    value: Plaintext | Mapping[str, Plaintext]
    metadata: Mapping[str, Any] = field(default_factory=dict)


class SecretSource(Protocol):
    """One authenticated secret store. Raises `StoreRefused` or `StoreUnavailable`, never a vendor's error.

    Only `dialect`, `fetch` and `probe` are everybody's; a source derives from this class to have the rest refused.
    """

    @property
    def dialect(self) -> str:
        """Name whose property rules count: `vault`, `aws`, `plain`, or `webhook` where the store looks itself."""

    def fetch(self, key: str, version: str = "") -> Fetched:
        """Read one document; raises `StoreRefused` with reason `NotFound` or `Denied`."""

    def fetch_property(self, key: str, version: str, property_path: str) -> Fetched:  # noqa: ARG002 - a default
        """Read a document whose request depends on the property; only where the dialect is `webhook`."""
        return self.fetch(key, version)

    def probe(self) -> None:
        """Check that the credential is accepted, with the cheapest request there is.

        Raises `StoreRefused` with reason `ValidationUnknown` where that can't be told.
        """

    def log_in(self) -> None:
        """Get the credential by which the store is read, where there is one to get; the one that lives is kept."""
        return

    def close(self) -> None:
        """Give back what was got for us alone: a session, a token. Never raises; the source is not used again."""
        return

    @property
    def batch(self) -> int:
        """Give how many documents `fetch_many` reads in one request; 1 where there are no batches."""
        return 1

    def fetch_many(self, asks: Sequence[Ask]) -> Mapping[Ask, Fetched | StoreRefused]:  # noqa: ARG002 - a default
        """Read up to `batch` documents at once. What is left out of the answer is to be asked for one by one.

        Where a batch is not allowed to us the answer is empty: that is not a denial of the documents.
        """
        return {}

    def metadata(self, key: str, version: str = "") -> Fetched:  # noqa: ARG002 - a default
        """Read what the provider keeps beside a value (tags, custom metadata, labels), as a JSON object."""
        raise _not_offered("metadataPolicy: Fetch")

    def find(self, query: Query) -> Mapping[str, Fetched]:  # noqa: ARG002 - a default
        """Read every document that fits, by its full name; empty when none does."""
        raise _not_offered("dataFrom.find")

    def exists(self, key: str, property_path: str = "") -> bool:  # noqa: ARG002 - a default
        """Say whether there is something under a key, and in it the property."""
        raise _not_offered("PushSecret")

    def put(self, put: Put) -> bool:  # noqa: ARG002 - a default
        """Write; says whether there was something to change. What others keep is refused, reason `NotOurs`."""
        raise _not_offered("PushSecret")

    def remove(self, key: str, property_path: str = "") -> None:  # noqa: ARG002 - a default
        """Delete what we once wrote; what is not there, or is not ours, is left alone."""
        raise _not_offered("PushSecret")

    def call(self, operation: str, arguments: Mapping[str, Any]) -> Plaintext:  # noqa: ARG002 - a default
        """Send one request of the provider's own API and give its JSON answer: for what generators make.

        `operation` is a method and a path of Vault (`GET database/creds/app`), or a service and an operation of AWS
        (`sts:GetSessionToken`).
        """
        raise _not_offered("generator")


def _not_offered(what: str) -> StoreRefused:
    return StoreRefused(f"this provider has no {what}", reason="Unsupported", hint="choose a store that has it")


# --- Git -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files of one commit below one folder: path (POSIX, relative) to bytes. Symbolic links are not followed:

    `links` names them with their targets, so that whoever renders can refuse one by name.
    """

    url: str
    revision: str
    files: Mapping[str, bytes] = field(repr=False)
    links: Mapping[str, str] = field(default_factory=dict, repr=False)
    submodules: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Path to pinned commit, of those among `links` that are submodules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit as Git keeps it: `raw` is the object, signature included."""

    sha: str
    parents: tuple[str, ...] = ()
    raw: bytes = field(default=b"", repr=False)


class SignatureState(StrEnum):
    """What a look at a signature found; the words of argo-cd v3.6 `util/git/client.go`."""

    GOOD = "signed"
    UNSIGNED = "unsigned"
    BAD = "bad signature"
    EXPIRED = "expired signature or key"
    REVOKED = "signed with revoked key"
    MISSING_KEY = "signed with key not in keyring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who signed an object: `key` is a fingerprint (or key id), `primary` that of the key it belongs to."""

    state: SignatureState
    key: str = ""
    primary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """Public keys that signatures are checked with: OpenPGP (armored or binary), and lines of SSH `.pub` files."""

    openpgp: tuple[bytes, ...] = field(default=(), repr=False)
    ssh: tuple[str, ...] = ()


class GitRepos(Protocol):
    """Git repositories, read-only. Raises `GitUnavailable`."""

    def resolve(self, url: str, revision: str) -> str:
        """Turn a branch, tag, SHA or `HEAD` into a full commit SHA."""

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Read the files of a commit below `path`."""

    def history(self, url: str, revision: str, *, limit: int = 1) -> Sequence[Commit]:
        """Give a commit and, with a limit above 1, up to so many of its ancestors: children before parents."""

    def annotated_tag(self, url: str, revision: str) -> bytes:
        """Give the raw object of the annotated tag that a revision names, b"" where it names something else."""

    def signatures(self, objects: Sequence[bytes], keys: SigningKeys) -> Sequence[Signature]:
        """Check the signatures of raw commits and tags; raises `WorldFailed` where the program for it is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryLogin:
    """User name and password for a repository and, at a path boundary, what lies below it."""

    url: str
    username: str
    password: Plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One source as a file on disk: a Git bundle of `commits`, or the archive of a chart at its pin."""

    url: str
    commits: tuple[str, ...]
    path: str


class SourceFiles(Protocol):
    """Repositories and charts as files, to be read with no network. Raises `GitUnavailable`."""

    def places(self, url: str, commit: str) -> Sequence[tuple[str, str]]:
        """Give the source itself and the submodules that are read with it, each with its commit."""

    def pack(self, url: str, commits: Sequence[str]) -> bytes:
        """Give one file that holds these commits; the same commits give the same bytes."""

    def opened(self, files: Sequence[SourceFile], folder: str) -> GitRepos:
        """Give the door that reads such files and asks nobody else; raises `Refused` for one that is damaged."""


class WorkTree(Protocol):
    """A person's own checkout, on disk: what is in it, what changed, one commit. Raises `GitUnavailable`, `Refused`."""

    @property
    def root(self) -> str:
        """Give the top folder."""

    def files(self, revision: str, paths: Sequence[str]) -> Mapping[str, bytes]:
        """Give the files of a revision below `paths` (relative to the top; none means all), by relative path."""

    def changed_since(self, revision: str) -> frozenset[str]:
        """Name the files that differ from a revision, committed or not, new ones too; those deleted are left out."""

    def start_branch(self, name: str) -> None:
        """Make a branch at HEAD and switch to it; raises `Refused` where one of that name is there."""

    def commit(self, paths: Sequence[str], message: str) -> str:
        """Commit these files alone, by the person's own identity and hooks; gives the commit's SHA."""


# --- Rendering -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HelmTemplate:
    """What `helm template` is asked for. Later values win: `values` in order, `sets`, `set_strings`, `set_files`."""

    files: Mapping[str, bytes] = field(repr=False)
    """The chart's folder: path below it to content."""
    release: str
    namespace: str
    values: Sequence[bytes] = field(default=(), repr=False)
    sets: Sequence[tuple[str, str]] = field(default=(), repr=False)
    set_strings: Sequence[tuple[str, str]] = field(default=(), repr=False)
    set_files: Sequence[tuple[str, bytes]] = field(default=(), repr=False)
    kube_version: str = ""
    api_versions: Sequence[str] = ()
    """Group/version and group/version/Kind that `.Capabilities.APIVersions` has beside Kubernetes' own."""
    crds: bool = True
    check_schema: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonnetProgram:
    """One Jsonnet file with what it may import and what it is told: (name, value, is the value code)."""

    files: Mapping[str, bytes] = field(repr=False)
    entry: str
    libs: Sequence[str] = ()
    ext_vars: Sequence[tuple[str, str, bool]] = field(default=(), repr=False)
    tlas: Sequence[tuple[str, str, bool]] = field(default=(), repr=False)


class Renderer(Protocol):
    """Turns charts, kustomizations and programs into text, offline. Raises `RenderFailed`, `MissingExtra`."""

    def helm(self, template: HelmTemplate) -> Sequence[tuple[str, str]]:
        """Give (template path, rendered text): CRDs first, then templates by path, without notes and partials."""

    def kustomize(self, files: Mapping[str, bytes], folder: str, options: Sequence[str] = ()) -> str:
        """Give the YAML documents that the kustomization in `folder` builds; `files` is all it may refer to.

        `options` are those of `kustomize build`; one that reaches out of the build is refused.
        """

    def jsonnet(self, program: JsonnetProgram) -> str:
        """Give the JSON text that a Jsonnet file evaluates to."""

    def lua_health(self, script: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Give what a Lua health script says of an object (`status`, `message`), None where it returns nothing.

        The script sees the object as `obj` and a small standard library; it has a second and little memory.
        """


# --- Escrow sinks --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkAccess:
    """How one sink is reached: a folder or URL, and the fields of one credential (empty: the machine's own)."""

    url: str
    credentials: Mapping[str, Plaintext] = field(default_factory=dict)
    retention_days: int = 0
    """For how many days a file must be undeletable, where the sink can promise that (S3 object lock)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a sink says about one file: its version there, and until when nobody can delete it ("" when it can't say).

    `retained_until` is RFC 3339 in UTC.
    """

    version: str = ""
    retained_until: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Whether a sink refused to lose a canary; `problem` says what it let happen, "" when it refused all."""

    problem: str = ""

    @property
    def durable(self) -> bool:
        """Say whether what is written here stays as it is."""
        return not self.problem


class Sink(Protocol):
    """A place for escrow bundles: small immutable files by name. Raises `WorldFailed` when it gives no answer."""

    @property
    def name(self) -> str:
        """Name the sink for people: its URL without credentials."""

    def put(self, name: str, content: bytes) -> Stored:
        """Write a new file durably, by a conditional write; of two that race one wins.

        The same content again is fine; raises `BrokenEscrow` with reason `Exists` when another content is there.
        """

    def get(self, name: str) -> bytes:
        """Read one file as it was first written; raises `BrokenEscrow` with reason `Missing` when it is not there."""

    def names(self, prefix: str = "") -> Sequence[str]:
        """List file names, sorted."""

    def describe(self, name: str) -> Stored:
        """Say which version of a file is there and how long it stays; raises `BrokenEscrow` (`Missing`)."""

    def trial(self, canary: str) -> Trial:
        """Write a canary of this name, then try with the same credential to overwrite and to delete it."""


class Age(Protocol):
    """Encryption to age recipients (age-encryption.org/v1). Raises `MissingExtra` where its library is missing."""

    def encrypt(self, content: Plaintext, recipients: Sequence[str]) -> bytes:
        """Encrypt to every recipient; raises `UsageError` for a text that is none."""

    def decrypt(self, content: bytes, identities: Sequence[Plaintext]) -> Plaintext:
        """Decrypt with identity files' contents; raises `BrokenEscrow` when none of them opens it."""

    def encrypt_with_passphrase(self, content: Plaintext, passphrase: Plaintext) -> bytes:
        """Encrypt to a passphrase alone, as age demands (scrypt; takes two seconds by design)."""

    def decrypt_with_passphrase(self, content: bytes, passphrase: Plaintext) -> Plaintext:
        """Decrypt what a passphrase encrypted; raises `BrokenEscrow` when it does not open it."""

    def generate(self) -> tuple[Plaintext, str]:
        """Give a new identity, as its file's line, and its recipient."""


class Shares(Protocol):
    """Splitting of an identity among custodians (SLIP-39). Raises `MissingExtra` where its library is missing."""

    def split(self, identity: Plaintext, *, threshold: int, count: int) -> Sequence[Plaintext]:
        """Give `count` lists of words, any `threshold` of which give the identity back."""

    def combine(self, shares: Sequence[Plaintext]) -> Plaintext:
        """Give the identity; raises `BrokenEscrow` for wrong, damaged or too few shares."""


class Wrapping(Protocol):
    """A key that never leaves its service (KMS, transit). Raises `WorldFailed` when it gives no answer."""

    def wrap(self, content: Plaintext, recipient: str) -> bytes:
        """Encrypt, bound to a recipient."""

    def unwrap(self, content: bytes, recipient: str) -> Plaintext:
        """Decrypt; raises `BrokenEscrow` when this key and recipient do not open it."""


class Notary(Protocol):
    """A key that signs, in a file or in a service (KMS, transit). Raises `WorldFailed` when it gives no answer."""

    @property
    def public(self) -> str:
        """Give the public key: `ed25519:BASE64`, or `ecdsa-p256:BASE64` of the SubjectPublicKeyInfo."""

    def sign_bytes(self, content: bytes) -> bytes:
        """Give the signature of bytes that begin with what they are, so that it says nothing about others."""


class Doors(Protocol):
    """What a command may reach, built lazily by the composition root (`secretsops/cli.py`) and faked in tests."""

    @property
    def clock(self) -> Clock:
        """Give the clock."""

    def cluster(self, target: ClusterTarget) -> Cluster:
        """Connect to a cluster (no request yet)."""

    def disposable_cluster(self) -> AbstractContextManager[Cluster]:
        """Start a cluster with a simulated node and our CRDs, gone at the end; raises `WorldFailed` where it cannot."""

    def git(self) -> GitRepos:
        """Give the Git door."""

    def sign_in(self, login: RepositoryLogin) -> None:
        """Let the Git door use a credential where its configuration names none."""

    def source_files(self) -> SourceFiles:
        """Give repositories and charts as files."""

    def worktree(self, folder: str) -> WorkTree:
        """Give the checkout that a folder or file lies in; raises `UsageError` where there is none."""

    def renderer(self) -> Renderer:
        """Give rendering of Helm, Kustomize and Jsonnet in confined processes."""

    def sink(self, place: str | SinkAccess) -> Sink:
        """Open an escrow sink by URL or folder; raises `UsageError` for an unknown scheme."""

    def secret_source(self, access: Access) -> SecretSource:
        """Open a secret store (no request yet); raises `MissingExtra` when its library is not installed."""

    def age(self) -> Age:
        """Give encryption to age recipients."""

    def shares(self) -> Shares:
        """Give splitting among custodians."""

    def wrapping(self, url: str) -> Wrapping:
        """Open a key of a key service by URL; raises `UsageError` for an unknown scheme."""

    def notary(self, url: str) -> Notary:
        """Open a signing key of a key service by URL, no request yet; raises `UsageError` for an unknown scheme."""

    def announce(self, url: Plaintext, body: bytes, *, content_type: str = "application/json") -> None:
        """Post to a webhook or push gateway, whose URL is a credential; raises `UsageError`, `WorldFailed`."""
