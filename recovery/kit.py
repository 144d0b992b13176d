"""The kit: everything a rebuild needs in one folder or archive, named and digested by one signed file. Pure.

`kit.json` (canonical JSON) lists every file with size and SHA-256, which source stands in which file at which commit,
and whose trust root counts. Nothing in a kit is plaintext of a secret: the escrow in it is encrypted as it is in its
sinks. Never here: files on a disk (`kit_files.py`), Git, who may sign (`secretsops.escrow.trust`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from secretsops.errors import GitUnavailable, Refused
from secretsops.escrow import canonical
from secretsops.escrow.signing import Signer, signed, signed_by
from secretsops.ports import Commit, GitRepos, Signature, SigningKeys, Tree

FILE, SUMS, RUNBOOK = "kit.json", "SHA256SUMS", "README.md"
POINT, PLAN, TRUST, ESCROW, INSTALL, TOOL = "point.json", "recovery.yaml", "trust.json", "escrow/", "install/", "tool/"
KIND, VERSION = "RecoveryKit", 1
FILE_LIMIT = 20_000
SIZE_LIMIT = 16 * 1024 * 1024 * 1024
"""Files of one kit, and bytes of all of them."""
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]{0,199}(/[A-Za-z0-9_][A-Za-z0-9._+@-]{0,199}){0,7}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One file of a kit."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One source of the estate: which file holds it, at which commits (of a chart: its pin)."""

    url: str
    file: str
    commits: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What `kit.json` says. `created`, `repo`, `revision`, `path`, `plan` are those of the recovery point in it."""

    created: str
    repo: str
    revision: str
    path: str
    plan: str
    trust: str = ""
    sources: tuple[Packed, ...] = ()
    files: tuple[Listed, ...] = ()
    signatures: Sequence[Mapping[str, str]] = ()

    def body(self) -> dict[str, Any]:
        """Give the document."""
        found = asdict(self)
        found["sources"] = [{**asdict(one), "commits": list(one.commits)} for one in self.sources]
        found["files"] = [asdict(one) for one in self.files]
        found["signatures"] = [dict(each) for each in self.signatures]
        return {"apiVersion": "secretsops.dev/v1", "kind": KIND, "version": VERSION, **found}

    def text(self) -> bytes:
        """Give the file's bytes."""
        return canonical.encode(self.body())

    @property
    def digest(self) -> str:
        """Give `sha256:` and the digest of everything but the signatures: what a person writes down."""
        return "sha256:" + canonical.digest(canonical.encode({**self.body(), "signatures": []}))

    def signed_with(self, signers: Sequence[Signer]) -> Kit:
        """Give the kit with these signatures."""
        return replace(self, signatures=signed(self.body(), signers)["signatures"]) if signers else self

    @property
    def signed_by(self) -> frozenset[str]:
        """Give the keys whose signature is valid."""
        return signed_by(self.body())

    def sums(self) -> bytes:
        """Give `SHA256SUMS`, which `sha256sum -c` reads: every file of the kit but itself."""
        named = {one.path: one.sha256 for one in self.files} | {FILE: canonical.digest(self.text())}
        return "".join(f"{named[path]}  {path}\n" for path in sorted(named)).encode()


def is_path(text: str) -> bool:
    """Say whether a text can be the path of a file in a kit: relative, plain letters, nothing hidden or climbing."""
    return _PATH.fullmatch(text) is not None


def read_kit(content: bytes) -> Kit:
    """Give what a `kit.json` says.

    Raises:
        Refused: reason `BrokenKit`; it is none, or not written as we write it.
    """
    body = canonical.decode(content)
    try:
        if body is None or (body.pop("kind"), body.pop("version"), body.pop("apiVersion")) != (
            KIND,
            VERSION,
            "secretsops.dev/v1",
        ):
            raise broken(f"{FILE} is none of version {VERSION}")
        sources = tuple(Packed(**{**one, "commits": tuple(one["commits"])}) for one in body.pop("sources"))
        files = tuple(Listed(**one) for one in body.pop("files"))
        signatures = tuple(body.pop("signatures"))
        kit = Kit(**body, sources=sources, files=files, signatures=signatures)
        paths = [one.path for one in files]
        sound = (
            kit.text() == content
            and paths == sorted(set(paths))
            and all(map(is_path, paths))
            and not {FILE, SUMS} & set(paths)
            and len(paths) <= FILE_LIMIT
            and all(type(one.size) is int and one.size >= 0 for one in files)
            and sum(one.size for one in files) <= SIZE_LIMIT
            and {one.file for one in sources} <= set(paths)
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        sound = False
    if not sound:
        raise broken(f"{FILE} is not what this program writes")
    return kit


def broken(message: str) -> Refused:
    """Give the refusal of a kit that does not hold."""
    return Refused(message, reason="BrokenKit", hint="take another copy of the kit; this one was changed or is damaged")


class KitRepos:
    """The sources of a kit at the commits that its recovery point pins, and no others. Satisfies `GitRepos`."""

    def __init__(self, inside: GitRepos, pins: Mapping[str, str]) -> None:
        self._inside, self._pins = inside, pins

    def resolve(self, url: str, revision: str) -> str:
        """Give the pinned commit; raises `GitUnavailable` with reason `NotInKit` for what the point does not pin."""
        if revision in self._pins.values():
            return revision
        found = self._pins.get(f"{url}@{revision or 'HEAD'}")
        if found is None:
            raise GitUnavailable(
                f"the kit does not know {url} at {revision}",
                reason="NotInKit",
                hint="it holds one moment: rebuild that, or make a new kit",
            )
        return found

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Give the files of a pinned commit."""
        return self._inside.tree(url, self.resolve(url, revision), path)

    def history(self, url: str, revision: str, *, limit: int = 1) -> Sequence[Commit]:
        """Give a pinned commit and its ancestors."""
        return self._inside.history(url, self.resolve(url, revision), limit=limit)

    def annotated_tag(self, url: str, revision: str) -> bytes:
        """Give b"": a kit holds commits; who signed a tag can be told only where the tag is."""
        self.resolve(url, revision)
        return b""

    def signatures(self, objects: Sequence[bytes], keys: SigningKeys) -> Sequence[Signature]:
        """Check signatures."""
        return self._inside.signatures(objects, keys)


def runbook(kit: Kit, *, pins: Mapping[str, str], charts: int, wheels: Sequence[str]) -> bytes:
    """Give the page that a person reads first: what is here, the short way, the way by hand. Plain words."""
    roots = f" --path {kit.path}" if kit.path else ""
    bundles = [one for one in kit.sources if not one.url.startswith("helm+")]
    where = "\n".join(f"- `{one.file}`: {one.url} at {', '.join(c[:12] for c in one.commits)}" for one in kit.sources)
    main = next((one for one in bundles if one.url == kit.repo), bundles[0] if bundles else None)
    clone = f"git clone -b kit-{main.commits[0][:12]} {main.file} estate" if main else "(no repository)"
    tool = "pip install --no-index --find-links tool/wheels 'secretsops[all]'" if wheels else "(no wheels in this kit)"
    return f"""# Recovery kit of {kit.repo or "an estate"}, as of {kit.created}

Everything to rebuild the cluster as it was planned at that moment, with no network but the way to the new cluster.
You need beside it: a new cluster (kubeconfig), the age identity of a custodian, and the digest of the trust root from
the custody card. Nothing in here is a secret in the clear.

## 1. Is it whole?

    sha256sum -c {SUMS}
    secretsops recover kit verify . --trust sha256:...      # the digest from the custody card

If a line fails, take another copy. Do not go on with this one.

## 2. The tool

    {tool}

`tool/` says which versions made this kit.

## 3. Rebuild

    secretsops recover run --kit . --context NEW --identity identity.txt --journal ./rebuild \\
      --unfenced "the old cluster is gone and cannot write anywhere"

`--unfenced` is there because no sink can be reached from here: nobody tells the old cluster that it was replaced. Make
sure that it is off. With a way to a sink, give `--escrow SINK` instead, and the cluster is claimed as always. Killed or
failed: `secretsops recover resume` with the same words goes on. At the end: `secretsops recover go-live`.

## By hand, without this tool

1. Keys: open `escrow/epoch-*.age` (the highest number) with `age -d -i identity.txt`, `kubectl apply` what comes out.
2. Controllers: `kubectl apply --server-side -f install/` (wait for them).
3. The estate: `{clone}`, then apply what{roots or " the roots"} names, in the order of its sync waves.
4. Charts: `helm template` of the archives in `charts/` ({charts} here).

## What is where

{where}
- `{POINT}`: the recovery point: {len(pins)} revision(s), versions of charts and tools, names of images
- `{PLAN}`: what a rebuild relies on outside of Git; `{TRUST}`: who may sign
- `escrow/`: the sealing keys, encrypted, with their index; `install/`: what is applied before any application
- `{FILE}`: every file with its digest, signed; `{SUMS}`: the same for `sha256sum -c`

Images are not in here: the new cluster needs a registry that has them (`--remap-image FROM=TO`).
""".encode()
