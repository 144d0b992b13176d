"""Are the commits signed that a project or `recovery.yaml` wants signed? Decided here, from what the Git door found.

Rules: argo-cd v3.6 `util/sourceintegrity/source_integrity_git.go`, `util/git/client.go` (`LsSignatures`): mode `head`
looks at the annotated tag that the revision names, else at the commit; `strict` at the whole history down to the
newest seal commits (trailer `Argocd-gpg-seal:`). Pure. Never here: cryptography (`adapters/git_signatures.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recovery.app import App
from recovery.project import Project, Signatures, takes
from recovery.recovery_plan import RecoveryPlan
from recovery.sources import Pin
from secretsops.errors import SyncRefused
from secretsops.ports import Commit, GitRepos, Signature, SignatureState, SigningKeys, Tree

HISTORY_LIMIT = 50_000
"""Commits of a history that `strict` looks at; a longer one wants a seal."""
PROBLEM_LIMIT = 10
SEAL = b"argocd-gpg-seal:"
ANY = "*"
"""Among `Signatures.keys`: every key of the keyring may sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is asked of every repository that a list of globs takes (`!glob` leaves some out)."""

    repositories: tuple[str, ...]
    asked: Signatures

    def takes(self, url: str) -> bool:
        """Say whether a repository is meant."""
        return takes(self.repositories, url)


def demands_of(plan: RecoveryPlan) -> list[Demand]:
    """Give what a recovery plan asks of repositories."""
    return [
        Demand(
            repositories=one.repositories,
            asked=Signatures(
                keys=(ANY,) if one.gpg_keys else (),
                mode=one.mode,
                ssh=one.ssh_keys,
                keyring=tuple(key.encode() for key in one.gpg_keys),
            ),
        )
        for one in plan.signatures
    ]


def check_app(app: App, project: Project, git: GitRepos, pin: Pin, keyring: tuple[bytes, ...]) -> None:
    """Check every Git source of an application as its project asks; `keyring` is the installation's (OpenPGP).

    Raises:
        SyncRefused: a commit or tag is not signed as asked; the first problems are named.
        GitUnavailable, WorldFailed: it cannot be told.
    """
    for source in app.sources:
        asked = None if source.chart else project.signatures_for(source.url)
        if asked is not None:
            check(git, source.url, source.revision, pin(source.location, source.revision), with_keys(asked, keyring))


def for_project(git: GitRepos, project: Project, keyring: tuple[bytes, ...]) -> SignedRepos:
    """Give the door that hands out what is signed as a project asks."""
    asked = [(globs, one) for globs, one in project.signatures if one.mode != "none"]
    return SignedRepos(git, [Demand(repositories=globs, asked=with_keys(one, keyring)) for globs, one in asked])


def with_keys(asked: Signatures, keyring: tuple[bytes, ...]) -> Signatures:
    """Give what is asked with the installation's keyring to check it."""
    return Signatures(keys=asked.keys, mode=asked.mode, ssh=asked.ssh, keyring=(*asked.keyring, *keyring))


def check(git: GitRepos, url: str, revision: str, commit: str, asked: Signatures) -> None:
    """Check one commit, and the annotated tag by which it was asked for.

    Raises:
        SyncRefused: reason `NotSigned`; says which revision, by whom, and what was found.
        GitUnavailable, WorldFailed: it cannot be told.
    """
    if asked.mode not in ("head", "strict"):
        raise SyncRefused(f"unknown signature mode {asked.mode[:40]!r} for {url}", reason="InvalidProject")
    keys = SigningKeys(openpgp=asked.keyring, ssh=asked.ssh)
    problems: list[str] = []
    tag = git.annotated_tag(url, revision)
    tagged = bool(tag) and _header(tag, b"object") == commit
    if tagged:
        signature = git.signatures([tag], keys)[0]
        said = _objection(revision, _person(tag, b"tagger"), signature, asked)
        named = _header(tag, b"tag")
        if not said and not revision.endswith(named) and not _is_range(revision):
            said = f"Failed verifying revision {revision}: it was signed as the tag {named[:80]!r}"
        problems += [said] if said else []
    if asked.mode == "strict":
        problems += _of_history(git, url, commit, asked, keys)
    elif not tagged:
        found = git.history(url, commit)[0]
        said = _objection(commit, _person(found.raw, b"author"), git.signatures([found.raw], keys)[0], asked)
        problems += [said] if said else []
    if problems:
        raise SyncRefused(
            f"{url}: " + "; ".join(problems[:PROBLEM_LIMIT]),
            reason="NotSigned",
            hint="have it signed by a key that may sign, or take the revision back; nothing of it was rendered",
        )


def _of_history(git: GitRepos, url: str, commit: str, asked: Signatures, keys: SigningKeys) -> list[str]:
    """Give what is wrong in a history, newest first; nothing behind a seal that somebody signed who may.

    Compat: a seal counts only by a key of the policy; the peer takes any key of its keyring.
    """
    history = git.history(url, commit, limit=HISTORY_LIMIT + 1)
    by_sha = {one.sha: one for one in history}
    todo, seen, problems = [commit], {commit}, list[str]()
    while todo and len(problems) < PROBLEM_LIMIT:
        level = [by_sha[sha] for sha in todo if sha in by_sha]
        if len(level) < len(todo):
            lost = next(sha for sha in todo if sha not in by_sha)
            problems.append(f"the history ends before {lost}, which is not known to be signed")
        todo = []
        for one, signature in zip(level, git.signatures([one.raw for one in level], keys), strict=True):
            said = _objection(one.sha, _person(one.raw, b"author"), signature, asked)
            problems += [said] if said else []
            if not said and _is_seal(one):
                continue
            todo += [sha for sha in one.parents if sha not in seen]
            seen.update(one.parents)
        todo = list(dict.fromkeys(todo))
    return problems


def _is_seal(commit: Commit) -> bool:
    message = commit.raw.partition(b"\n\n")[2]
    return any(line.lower().startswith(SEAL) for line in message.splitlines())


def _objection(revision: str, person: str, signature: Signature, asked: Signatures) -> str:
    """Say what is wrong with a signature, "" where nothing is; in the peer's words."""
    start = f"Failed verifying revision {revision} by '{person}': "
    if signature.state is not SignatureState.GOOD:
        return f"{start}{signature.state.value} (key_id={signature.key})"
    ssh = signature.key.startswith("SHA256:")
    # Only the SSH keys that may sign are offered; an OpenPGP keyring holds more than those.
    if (ssh and asked.ssh) or (not ssh and _is_listed(signature, asked.keys)):
        return ""
    return f"{start}signed with unallowed key (key_id={signature.key})"


def _is_listed(signature: Signature, keys: Sequence[str]) -> bool:
    """Say whether a key or its primary key is listed, by fingerprint or by key id (its last 16 digits)."""
    mine = {one.upper() for one in (signature.key, signature.primary) if len(one) >= 16}
    for key in keys:
        wanted = key.upper().removeprefix("0X").replace(" ", "")
        if key == ANY or wanted in mine or (len(wanted) == 16 and any(one.endswith(wanted) for one in mine)):
            return True
    return False


def _header(raw: bytes, name: bytes) -> str:
    """Give one header of a raw object."""
    for line in raw.partition(b"\n\n")[0].split(b"\n"):
        if line.startswith(name + b" "):
            return line[len(name) + 1 :].decode("utf-8", "replace")
    return ""


def _person(raw: bytes, name: bytes) -> str:
    """Give who made it, without time, fit for a line of text."""
    text = _header(raw, name).rpartition(">")[0] + ">"
    return "".join(letter for letter in text if letter.isprintable())[:120]


def _is_range(revision: str) -> bool:
    from secretsops.tags import is_constraint

    return is_constraint(revision)


class SignedRepos:
    """Git repositories of which some must be signed: nothing of a commit is read before that was checked.

    Satisfies `GitRepos`. For what `recovery.yaml` asks; projects ask application by application (`check_app`).
    """

    def __init__(self, git: GitRepos, demands: Sequence[Demand], pins: Mapping[str, str] | None = None) -> None:
        """Check what each of `demands` asks that takes a repository; `pins` says what was resolved before."""
        self._git, self._demands = git, demands
        places = [(*place.rpartition("@"), commit) for place, commit in (pins or {}).items()]
        self._named: dict[tuple[str, str], str] = {(url, commit): revision for url, _, revision, commit in places}
        """(repository, commit) to the revision by which it was asked for: a tag of that name may be what is signed."""
        self._fine: set[tuple[str, str]] = set()

    def resolve(self, url: str, revision: str) -> str:
        """Give the commit; which revision it was asked by is remembered."""
        commit = self._git.resolve(url, revision)
        self._named.setdefault((url, commit), revision)
        return commit

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Read the files of a commit that is signed as asked.

        Raises:
            SyncRefused: it is not.
        """
        demands = [] if url.startswith("helm+") else [one for one in self._demands if one.takes(url)]
        if not demands:
            return self._git.tree(url, revision, path)
        commit = self.resolve(url, revision)
        if (url, commit) not in self._fine:
            for demand in demands:
                check(self._git, url, self._named.get((url, commit), commit), commit, demand.asked)
            self._fine.add((url, commit))
        return self._git.tree(url, commit, path)

    def history(self, url: str, revision: str, *, limit: int = 1) -> Sequence[Commit]:
        """Give a history; commits alone render nothing."""
        return self._git.history(url, revision, limit=limit)

    def annotated_tag(self, url: str, revision: str) -> bytes:
        """Give the annotated tag that a revision names."""
        return self._git.annotated_tag(url, revision)

    def signatures(self, objects: Sequence[bytes], keys: SigningKeys) -> Sequence[Signature]:
        """Check signatures."""
        return self._git.signatures(objects, keys)
