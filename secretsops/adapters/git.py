"""The GitRepos door: repositories over HTTP(S), SSH and `file://`, read through the `git` program.

Why the program and not GitPython: GitPython runs the same program, adds an environment of its own that has let
configuration through (CVE-2023-40590, CVE-2024-22190), and gives no limits; here every call has a closed environment,
a timeout and a bounded answer. Nothing is ever checked out: trees are read from a bare cache by `ls-tree` and
`cat-file --batch`, so no file name, symbolic link, filter or hook of a stranger touches the disk.

Never here: rendering, which revision is wanted, where credentials come from (`repositories.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from secretsops.adapters.bounded import Bounds, Overflow, run
from secretsops.adapters.git_signatures import Signatures
from secretsops.errors import GitUnavailable, UsageError
from secretsops.ports import Commit, Signature, SigningKeys, Tree
from secretsops.secret import Plaintext
from secretsops.tags import is_constraint, newest

FILE_LIMIT = 100_000
"""Files below one path; a folder of manifests has hundreds."""
BLOB_LIMIT = 32 * 1024 * 1024
TOTAL_LIMIT = 256 * 1024 * 1024
"""Bytes of one file and of all files below one path; they are held in memory."""
ANSWER_LIMIT = 384 * 1024 * 1024
"""Bytes that one call of git may answer: all files below one path, and what is said about each."""
REFS_LIMIT = 64 * 1024 * 1024
"""Bytes of a list of refs: about half a million."""
_FULL_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SHORT_SHA = re.compile(r"[0-9a-f]{7,39}")
_REVISION = re.compile(r"[^\x00-\x20~^:?*\[\\\x7f-]?[^\x00-\x20~^:?*\[\\\x7f]*")
_PASSED_ON = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "CURL_CA_BUNDLE",
    "PATH", "LD_LIBRARY_PATH", "TMPDIR", "GIT_EXEC_PATH",
)  # fmt: skip
"""Of our environment git sees the way out (proxies, CA bundles) and where programs are; no configuration."""

Login = tuple[str, Plaintext]
"""User name and password or token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAccess:
    """The files of a private key and of the host keys that are trusted; a host that is not in there is refused."""

    key: str
    known_hosts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A repository as git is told about it: no credential in `url`."""

    url: str
    login: Login | None = None
    ssh: SshAccess | None = None


class GitDoor:
    """Reads repositories through a bare cache on disk. Satisfies `secretsops.ports.GitRepos`."""

    def __init__(
        self,
        *,
        cache: Path | None = None,
        login: Callable[[str], Login | None] | None = None,
        ssh: Callable[[str], SshAccess | None] | None = None,
        timeout: float = 120.0,
    ) -> None:
        """Keep bare repositories below `cache`; ask `login` and `ssh` for access; end a call after `timeout` s."""
        self._cache = cache or _default_cache()
        self._login = login or (lambda _url: None)
        self._ssh = ssh or (lambda _url: None)
        self._timeout = timeout
        self._signatures = Signatures()

    @property
    def cache(self) -> Path:
        """Give the folder of the caches."""
        return self._cache

    def resolve(self, url: str, revision: str) -> str:
        """Give the commit of a branch, tag, SHA (whole or from 7 digits), `HEAD`, or the highest tag of a semver range.

        A branch wins over a tag of the same name, as in the peer (argo-cd v3.6 `util/git/client.go`, `lsRemote`).

        Raises:
            UsageError: the URL or the revision is malformed.
            GitUnavailable: no answer, or reason `RevisionNotFound`.
        """
        revision = revision or "HEAD"
        if _FULL_SHA.fullmatch(revision.lower()):
            return revision.lower()
        remote = self._remote(url)
        refs, name = self._named(remote, revision)
        if name:
            return refs.get(f"{name}^{{}}", refs[name])
        if _SHORT_SHA.fullmatch(revision.lower()):
            return self._complete(remote, revision.lower())
        raise GitUnavailable(
            f"{_shown(url)} has no branch, tag or commit {revision!r}",
            reason="RevisionNotFound",
            hint="is it pushed? a semver range is looked for among the tags",
        )

    def _named(self, remote: Remote, revision: str) -> tuple[dict[str, str], str]:
        """Give all refs, and the name of the one that a revision means, "" for none."""
        ranged = is_constraint(revision)
        if not ranged and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise UsageError(f"{revision[:80]!r} is no Git revision", reason="InvalidRevision")
        refs = self._refs(remote)
        if ranged:
            tags = {name.removeprefix("refs/tags/") for name in refs if name.startswith("refs/tags/")}
            revision = newest(revision, (tag for tag in tags if not tag.endswith("^{}"))) or revision
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return refs, next((name for name in names if name in refs), "")

    def annotated_tag(self, url: str, revision: str) -> bytes:
        """Give the raw object of the annotated tag that a revision names, b"" for a branch, commit or light tag."""
        if not revision or _FULL_SHA.fullmatch(revision.lower()):
            return b""
        remote = self._remote(url)
        refs, name = self._named(remote, revision)
        if not name or f"{name}^{{}}" not in refs:
            return b""
        with self._repository(remote) as repository:
            self._fetch(remote, repository, refs[name], name)
            return self._git(["cat-file", "tag", refs[name]], remote, repository)

    def history(self, url: str, revision: str, *, limit: int = 1) -> list[Commit]:
        """Give a commit and its ancestors, children before parents, at most `limit`; no file is fetched for more.

        Raises:
            GitUnavailable: no answer, no such commit.
        """
        commit = self.resolve(url, revision)
        remote = self._remote(url)
        with self._repository(remote, "" if limit == 1 else "-history") as repository:
            if limit == 1:
                self._fetch(remote, repository, commit)
            else:
                self._fetch_history(remote, repository, commit)
            listing = ["rev-list", "--topo-order", f"--max-count={limit}", commit]
            shas = self._git(listing, remote, repository).decode("ascii").split()
            asked = "".join(f"{sha}\n" for sha in shas).encode()
            answer = self._git(["cat-file", "--batch"], remote, repository, stdin=asked)
        found, position = [], 0
        for sha in shas:
            end = answer.index(b"\n", position)
            size = int(answer[position:end].split()[2])
            raw = answer[end + 1 : end + 1 + size]
            # From the object itself: a history that was cut off, here or on the server, does not end silently.
            found.append(Commit(sha=sha, parents=tuple(_parents(raw)), raw=raw))
            position = end + size + 2
        return found

    def signatures(self, objects: Sequence[bytes], keys: SigningKeys) -> list[Signature]:
        """Check the signatures of raw commits and tags (`git_signatures.py`)."""
        return self._signatures.check(objects, keys)

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Give the files of a commit below `path` (or the one file it names, under its base name).

        An absent path gives an empty tree. `revision` may be anything `resolve` takes.

        Raises:
            GitUnavailable: no answer, no such commit, or a limit was passed.
        """
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts or "\x00" in path:
            raise UsageError(f"path {path!r} leaves the repository", reason="InvalidPath")
        commit = self.resolve(url, revision)
        remote = self._remote(url)
        with self._repository(remote) as repository:
            self._fetch(remote, repository, commit)
            return self._read(remote, repository, commit, "/".join(parts))

    def _remote(self, url: str) -> Remote:
        """Take credentials out of the URL, so that neither argv nor a log line nor the cache ever holds them."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "file", "ssh"):
            raise UsageError(f"cannot read {_shown(url)}: only http, https, ssh and file URLs", reason="UnsupportedUrl")
        if parts.scheme == "file":
            return Remote(url=url)
        if parts.scheme == "ssh":
            return self._over_ssh(url, parts)
        bare = urlunsplit(parts._replace(netloc=_host(parts)))
        if parts.username or parts.password:
            secret = Plaintext(unquote(parts.password or "").encode())
            return Remote(url=bare, login=(unquote(parts.username or ""), secret))
        return Remote(url=bare, login=self._login(bare))

    def _over_ssh(self, url: str, parts: SplitResult) -> Remote:
        """Give an SSH remote; without a key and known hosts of its own it is refused, never tried with the user's."""
        access = self._ssh(url)
        if access is None or not access.key or not access.known_hosts:
            raise UsageError(
                f"cannot read {_shown(url)}: no SSH key and known hosts are named for it",
                reason="NoCredential",
                hint="give sshPrivateKeyFile and knownHostsFile in the file that SECRETSOPS_REPOSITORIES names",
            )
        if parts.password or parts.hostname is None or parts.hostname.startswith("-"):
            raise UsageError(f"{_shown(url)} is no SSH address", reason="InvalidUrl")
        for name in (access.key, access.known_hosts):
            if not Path(name).is_file():
                raise UsageError(f"{name} is not there", reason="NoCredential")
        return Remote(url=url, ssh=access)

    def _refs(self, remote: Remote) -> dict[str, str]:
        answer = self._git(["ls-remote", "--quiet", "--", remote.url], remote, what="list the refs of")
        if len(answer) > REFS_LIMIT:
            raise GitUnavailable(f"{_shown(remote.url)} has too many refs", reason="TooLarge")
        refs = {}
        for line in answer.decode("utf-8", "replace").splitlines():
            sha, _, name = line.partition("\t")
            if _FULL_SHA.fullmatch(sha):
                refs[name] = sha
        return refs

    def _complete(self, remote: Remote, short: str) -> str:
        """Give the whole SHA of a short one; needs the history, so all branches are fetched without files."""
        with self._repository(remote) as repository:
            refspecs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
            self._git(
                ["fetch", "--quiet", "--force", "--filter=tree:0", "--", remote.url, *refspecs], remote, repository
            )
            found = self._git(["rev-parse", f"--disambiguate={short}"], remote, repository).decode().split()
            commits = [sha for sha in found if self._is_commit(remote, repository, sha)]
        if len(commits) != 1:
            raise GitUnavailable(
                f"{_shown(remote.url)}: {short} names {len(commits)} commits", reason="RevisionNotFound"
            )
        return commits[0]

    def _is_commit(self, remote: Remote, repository: Path, sha: str) -> bool:
        try:
            return self._git(["cat-file", "-t", sha], remote, repository).strip() == b"commit"
        except GitUnavailable:
            return False

    @contextlib.contextmanager
    def _repository(self, remote: Remote, kind: str = "") -> Iterator[Path]:
        """Give the bare cache of a remote, locked against other processes and made when it is not there.

        That of files is cut off after one commit, so histories have their own (`kind`).
        """
        name = hashlib.sha256(remote.url.encode()).hexdigest()[:32] + kind
        folder = self._cache / name
        try:
            self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self._cache / f"{name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not (folder / "HEAD").exists():
                    shutil.rmtree(folder, ignore_errors=True)
                    self._git(["init", "--quiet", "--bare", str(folder)], remote, what="make a cache for")
                yield folder
        except OSError as error:
            raise GitUnavailable(
                f"the cache {self._cache} cannot be used: {error.strerror}", reason="Unwritable"
            ) from None

    def _fetch_history(self, remote: Remote, repository: Path, commit: str) -> None:
        """Bring a commit and all its ancestors into the cache, without their files where the server can do that."""
        ref = f"refs/secretsops/{commit}"
        if (repository / ref).exists():
            return
        options = ["fetch", "--quiet", "--force", "--no-write-fetch-head", "--filter=tree:0", "--no-tags", "--"]
        try:
            self._git([*options, remote.url, f"+{commit}:{ref}"], remote, repository, what="read the history of")
        except GitUnavailable as first:
            if first.reason == "Timeout":
                raise
            refspecs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
            self._git([*options, remote.url, *refspecs], remote, repository, what="read the history of")
            if not self._is_commit(remote, repository, commit):
                raise _gone(remote, commit) from None
            self._git(["update-ref", ref, commit], remote, repository)

    def _fetch(self, remote: Remote, repository: Path, commit: str, name: str = "") -> None:
        """Bring one commit with its files (or the tag `name`) into the cache; a cache that has it asks nobody."""
        ref = f"refs/secretsops/{commit}"
        if (repository / ref).exists():
            return
        try:
            command = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--", remote.url]
            self._git([*command, f"+{name or commit}:{ref}"], remote, repository, what="fetch from")
        except GitUnavailable as first:
            # Old servers give only what a ref points to: take all branches and tags, and look for it there.
            if first.reason == "Timeout":
                raise
            refspecs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
            self._git(
                ["fetch", "--quiet", "--force", "--no-write-fetch-head", "--", remote.url, *refspecs],
                remote,
                repository,
                what="fetch from",
            )
            if not self._is_commit(remote, repository, commit):
                raise _gone(remote, commit) from None
            self._git(["update-ref", ref, commit], remote, repository)

    def _read(self, remote: Remote, repository: Path, commit: str, path: str) -> Tree:
        scope = ["--", path] if path else []
        listing = self._git(
            ["ls-tree", "-r", "-z", "-l", "--full-tree", commit, *scope], remote, repository, what="read"
        )
        entries = list(_entries(listing, path))
        if len(entries) > FILE_LIMIT:
            raise GitUnavailable(
                f"{_shown(remote.url)}: more than {FILE_LIMIT} files below {path or '/'}", reason="TooLarge"
            )
        links = {entry.path: "a submodule is not followed" for entry in entries if entry.mode == "160000"}
        links |= {entry.path: "a symbolic link is not followed" for entry in entries if entry.mode == "120000"}
        blobs = [entry for entry in entries if entry.mode not in ("160000", "120000")]
        for entry in blobs:
            if entry.size > BLOB_LIMIT:
                raise GitUnavailable(f"{_shown(remote.url)}: {entry.path} is larger than 32 MiB", reason="TooLarge")
        if sum(entry.size for entry in blobs) > TOTAL_LIMIT:
            raise GitUnavailable(f"{_shown(remote.url)}: more than 256 MiB below {path or '/'}", reason="TooLarge")
        asked = "".join(f"{entry.sha}\n" for entry in blobs).encode()
        answer = self._git(["cat-file", "--batch"], remote, repository, stdin=asked, what="read") if blobs else b""
        modules = {entry.path: entry.sha for entry in entries if entry.mode == "160000"}
        files = dict(_contents(blobs, answer))
        return Tree(url=_shown(remote.url), revision=commit, files=files, links=links, submodules=modules)

    def modules(self, url: str, revision: str) -> dict[str, tuple[str, str]]:
        """Give each submodule of a commit, by path: the commit that is pinned, and the URL that `.gitmodules` writes.

        Raises:
            GitUnavailable: as `tree`; or `.gitmodules` is broken.
        """
        commit = self.resolve(url, revision)
        remote = self._remote(url)
        with self._repository(remote) as repository:
            self._fetch(remote, repository, commit)
            listing = self._git(["ls-tree", "-r", "-z", "-l", "--full-tree", commit], remote, repository)
            pinned = {entry.path: entry.sha for entry in _entries(listing, "") if entry.mode == "160000"}
            text = self._read(remote, repository, commit, ".gitmodules").files.get(".gitmodules", b"")
            # From standard input, without includes: it is a stranger's file.
            command = ["config", "--file", "-", "--no-includes", "--null", "--list"]
            listed = self._git(command, remote, repository, stdin=text, what="read the submodules of")
        written: dict[str, dict[str, str]] = {}
        for record in listed.decode("utf-8", "replace").split("\0"):
            name, _, value = record.partition("\n")
            section, _, last = name.rpartition(".")
            if section.startswith("submodule."):
                written.setdefault(section, {})[last] = value
        urls = {entry.get("path", ""): entry.get("url", "") for entry in written.values()}
        return {path: (sha, urls.get(path, "")) for path, sha in pinned.items()}

    def _git(
        self,
        arguments: Sequence[str],
        remote: Remote,
        repository: Path | None = None,
        *,
        stdin: bytes = b"",
        what: str = "read",
    ) -> bytes:
        """Run git in a closed world and give its standard output."""
        options = dict(_SETTINGS)
        options["http.followRedirects"] = "false" if remote.login else "initial"  # a credential never crosses one
        command = ["git", *(word for name, value in options.items() for word in ("-c", f"{name}={value}"))]
        if repository is not None:
            command.append(f"--git-dir={repository}")
        with _credential_pipe(remote.login) as (helper, descriptors):
            command += [*helper, *arguments]
            try:
                done = run(
                    command,
                    Bounds(seconds=self._timeout, size=ANSWER_LIMIT),
                    env=_environment() | _ssh_command(remote.ssh),
                    cwd=self._working_folder(),
                    stdin=stdin,
                    pass_fds=descriptors,
                )
            except Overflow:
                raise GitUnavailable(
                    f"{_shown(remote.url)} holds more than is read at once",
                    reason="TooLarge",
                    hint="name a folder by --path; a tree may hold itself many times over",
                ) from None
            except subprocess.TimeoutExpired:
                raise GitUnavailable(
                    f"could not {what} {_shown(remote.url)} within {self._timeout:g} s", reason="Timeout"
                ) from None
            except FileNotFoundError:
                raise GitUnavailable("the program git is not installed", reason="NoGit", hint="install git") from None
        if done.returncode:
            raise GitUnavailable(f"could not {what} {_shown(remote.url)}: {_said(done.stderr)}")
        return done.stdout

    def _working_folder(self) -> str:
        """Give a folder outside any repository, so that no local configuration is found."""
        return str(self._cache) if self._cache.is_dir() else tempfile.gettempdir()


_SETTINGS: Mapping[str, str] = {
    "protocol.allow": "never",
    "protocol.http.allow": "always",
    "protocol.https.allow": "always",
    "protocol.file.allow": "always",
    "protocol.ssh.allow": "always",
    "protocol.ext.allow": "never",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.symlinks": "false",
    "core.askPass": "",
    "credential.helper": "",
    "fetch.recurseSubmodules": "false",
    "fetch.fsckObjects": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "safe.directory": "*",
}
"""Settings of every call; nothing else is read, as system and global configuration are switched off."""


def _ssh_command(access: SshAccess | None) -> dict[str, str]:
    """Give the command by which git runs ssh: this key, these hosts, no configuration, no agent, no question."""
    if access is None:
        return {}
    options = (
        f"IdentityFile={access.key}",
        f"UserKnownHostsFile={access.known_hosts}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        "ForwardAgent=no",
        "ConnectTimeout=20",
    )
    words = ["ssh", "-F", "/dev/null", *(word for option in options for word in ("-o", option))]
    return {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}


def _environment() -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        **passed,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
    }


@contextlib.contextmanager
def _credential_pipe(login: Login | None) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Hand a credential to git through an inherited pipe: it stands in no argv, environment or file."""
    if login is None:
        yield [], ()
        return
    reader, writer = os.pipe()
    try:
        name, password = login
        answer = b"username=" + name.encode() + b"\npassword=" + password.reveal() + b"\n"
        if b"\n" in name.encode() + password.reveal() or len(answer) > 4096:
            raise UsageError("a Git credential holds a line break or is longer than 4 KiB", reason="InvalidCredential")
        os.write(writer, answer)  # below PIPE_BUF: never blocks
        os.close(writer)
        writer = -1
        # Not `<&{reader}`: dash takes one digit there, and we may have many files open.
        helper = f'!f() {{ test "$1" = get && cat /dev/fd/{reader}; :; }}; f'
        yield ["-c", f"credential.helper={helper}"], (reader,)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: str
    sha: str
    size: int
    path: str


def _entries(listing: bytes, base: str) -> Iterator[_Entry]:
    """Give the entries of `ls-tree -r -z -l`, paths relative to `base`; a path that climbs is refused."""
    for record in listing.split(b"\0"):
        if not record:
            continue
        facts, _, name = record.partition(b"\t")
        mode, _, sha, size = facts.decode("ascii").split()
        path = name.decode("utf-8", "surrogateescape")
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise GitUnavailable(f"the tree holds the hostile path {path[:80]!r}", reason="HostilePath")
        if base:
            path = path.rpartition("/")[2] if path == base else path.removeprefix(base + "/")
        yield _Entry(mode, sha, 0 if size == "-" else int(size), path)


def _contents(blobs: Sequence[_Entry], answer: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut the answer of `cat-file --batch` into files."""
    position = 0
    for entry in blobs:
        end = answer.index(b"\n", position)
        start = end + 1
        yield entry.path, answer[start : start + entry.size]
        position = start + entry.size + 1


def _parents(raw: bytes) -> Iterator[str]:
    """Give the parents that a raw commit names."""
    for line in raw.partition(b"\n\n")[0].split(b"\n"):
        if line.startswith(b"parent "):
            yield line[7:].decode("ascii", "replace")


def _gone(remote: Remote, commit: str) -> GitUnavailable:
    return GitUnavailable(
        f"{_shown(remote.url)} has no commit {commit}",
        reason="RevisionNotFound",
        hint="was the branch force-pushed since the revision was pinned?",
    )


def _said(stderr: bytes) -> str:
    """Give git's own last fatal line, short, with URLs' user parts taken out."""
    lines = [line for line in stderr[-4096:].decode("utf-8", "replace").splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
    text = re.sub(r"//[^/@\s']*@", "//", fatal[-1] if fatal else "no message")
    return "".join(letter for letter in text if letter.isprintable())[:300]


def _shown(url: str) -> str:
    """Give the URL for people: without credentials and query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=_host(parts), query="", fragment=""))


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _default_cache() -> Path:
    """Give where caches go by the XDG rules."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "secretsops" / "git"
