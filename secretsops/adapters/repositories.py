"""How repositories are reached: credentials, SSH keys and mirrors from one file, and which door reads which URL.

The file is named by `SECRETSOPS_REPOSITORIES`; it holds addresses and the names of files, never a secret itself:

    repositories:
      - url: https://git.example/org            # counts for everything below, at a path boundary; the longest wins
        username: ci
        passwordFile: /run/secrets/git-token
      - url: ssh://git@git.example/org
        sshPrivateKeyFile: /run/secrets/deploy-key
        knownHostsFile: /etc/ssh/ssh_known_hosts
    mirrors:
      - from: https://git.example/org
        to: file:///srv/mirror/org
    submodules:                                # from where they may be taken; none without
      - https://git.example/org

Never here: speaking to a repository (`git.py`, `charts.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from secretsops.adapters.charts import PREFIX, ChartRepos
from secretsops.adapters.git import GitDoor, SshAccess
from secretsops.adapters.submodules import with_submodules
from secretsops.errors import InvalidManifest, UsageError
from secretsops.manifest import load_values
from secretsops.ports import Commit, GitRepos, RepositoryLogin, Signature, SigningKeys, Tree
from secretsops.secret import Plaintext

_SCP = re.compile(r"(?P<user>[A-Za-z0-9._-]+)@(?P<host>[A-Za-z0-9.-]+):(?P<path>(?!//).+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the file."""

    url: str
    username: str = ""
    password_file: str = ""
    ssh_key: str = ""
    known_hosts: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repositories:
    """What the file says."""

    entries: tuple[Entry, ...] = ()
    mirrors: tuple[tuple[str, str], ...] = ()
    submodules: tuple[str, ...] = ()
    """Addresses from which submodules are taken, at a path boundary."""

    def entry(self, url: str) -> Entry | None:
        """Give the entry with the longest address that the URL lies below."""
        fitting = [one for one in self.entries if _is_below(url, one.url)]
        return max(fitting, key=lambda one: len(one.url), default=None)

    def login(self, url: str) -> tuple[str, Plaintext] | None:
        """Give user name and password for a URL; the password is read when it is needed.

        Raises:
            UsageError: the file with it cannot be read.
        """
        found = self.entry(url)
        if found is None or not found.password_file:
            return None
        try:
            return found.username, Plaintext(Path(found.password_file).read_bytes().strip())
        except OSError as error:
            raise UsageError(
                f"the password of {found.url} cannot be read from {found.password_file}: {error.strerror}",
                reason="InvalidCredential",
            ) from None

    def ssh(self, url: str) -> SshAccess | None:
        """Give key and known hosts for an SSH URL."""
        found = self.entry(url)
        if found is None or not (found.ssh_key or found.known_hosts):
            return None
        return SshAccess(key=found.ssh_key, known_hosts=found.known_hosts)

    def consents(self, url: str) -> bool:
        """Say whether a submodule may be taken from a URL."""
        return any(_is_below(normal(url), one) for one in self.submodules)

    def mirrored(self, url: str) -> str:
        """Give the address to read a URL from: its mirror's, where there is one."""
        fitting = [(old, new) for old, new in self.mirrors if _is_below(url, old)]
        if not fitting:
            return url
        old, new = max(fitting, key=lambda pair: len(pair[0]))
        return new + url[len(old) :]


def _is_below(url: str, prefix: str) -> bool:
    """Say whether a URL lies below an address; one with dots as steps (`org/../other`) lies below none."""
    if any(step in (".", "..") for step in unquote(url).split("/")):
        return False
    return url in (prefix, f"{prefix}.git") or url.startswith(prefix if prefix.endswith("/") else prefix + "/")


def normal(url: str) -> str:
    """Give `git@host:path` as `ssh://git@host/path`; every other URL as it is."""
    found = _SCP.fullmatch(url) if "://" not in url else None
    return f"ssh://{found['user']}@{found['host']}/{found['path'].lstrip('/')}" if found else url


def read_repositories(text: bytes, where: str) -> Repositories:
    """Read the file.

    Raises:
        UsageError: it is not what it should be; says where.
    """
    try:
        documents = [value for value in load_values(text, source=where) if value is not None]
    except InvalidManifest as error:
        raise UsageError(f"{error.where or where}: {error.problem}", reason="InvalidConfiguration") from None
    body: Any = documents[0] if documents else {}
    if not isinstance(body, dict) or set(body) - {"repositories", "mirrors", "submodules"}:
        raise UsageError(
            f"{where} holds something else than repositories, mirrors and submodules", reason="InvalidConfiguration"
        )
    modules = body.get("submodules") or []
    if not isinstance(modules, list) or not all(isinstance(one, str) and one for one in modules):
        raise UsageError(f"{where}: submodules is not a list of addresses", reason="InvalidConfiguration")
    return Repositories(
        entries=tuple(
            Entry(
                url=normal(_text(where, one, "url")),
                username=str(one.get("username") or ""),
                password_file=str(one.get("passwordFile") or ""),
                ssh_key=str(one.get("sshPrivateKeyFile") or ""),
                known_hosts=str(one.get("knownHostsFile") or ""),
            )
            for one in _maps(where, body, "repositories")
        ),
        mirrors=tuple(
            (normal(_text(where, one, "from")), _text(where, one, "to")) for one in _maps(where, body, "mirrors")
        ),
        submodules=tuple(normal(one).rstrip("/") for one in modules),
    )


def _maps(where: str, body: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    found = body.get(field) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UsageError(f"{where}: {field} is not a list of mappings", reason="InvalidConfiguration")
    return found


def _text(where: str, one: Mapping[str, Any], field: str) -> str:
    found = one.get(field)
    if not isinstance(found, str) or not found:
        raise UsageError(f"{where}: an entry has no {field}", reason="InvalidConfiguration")
    if "password" in one or "sshPrivateKey" in one:
        hint = "name a file: passwordFile, sshPrivateKeyFile"
        raise UsageError(f"{where}: an entry holds a secret itself", reason="InvalidConfiguration", hint=hint)
    return found.rstrip("/")


def signing_in(known: Repositories, lent: Sequence[RepositoryLogin]) -> Callable[[str], tuple[str, Plaintext] | None]:
    """Give what gives the login of a URL: as the file says, else of what is lent the one with the longest address.

    `lent` may grow. A login is sent to its own address and below it, never to another.
    """

    def login(url: str) -> tuple[str, Plaintext] | None:
        named = known.login(url)
        fitting = [one for one in lent if _is_below(_bare(url), _bare(one.url))]
        if named is not None or not fitting:
            return named
        found = max(fitting, key=lambda one: len(one.url))
        return found.username, found.password

    return login


def _bare(url: str) -> str:
    return normal(url).rstrip("/").removesuffix(".git")


class SourceDoor:
    """Every source of an estate by its URL: Git over http, https, ssh, file; charts. Satisfies `GitRepos`."""

    def __init__(
        self,
        *,
        cache: Path | None = None,
        repositories: Repositories | None = None,
        lent: Sequence[RepositoryLogin] = (),
    ) -> None:
        """Read with what `repositories` says, then by what is `lent`; caches are below `cache`, the user's if None."""
        self._known = repositories or Repositories()
        login = signing_in(self._known, lent)
        self._git = GitDoor(cache=cache, login=login, ssh=self._known.ssh)
        self._charts = ChartRepos(cache=self._git.cache / "charts", login=login)

    def resolve(self, url: str, revision: str) -> str:
        """Give the commit, or the pinned version of a chart."""
        door, address = self._door(url)
        return door.resolve(address, revision)

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Give the files of a commit, or of a chart."""
        if not url.startswith(PREFIX) and self._known.submodules:
            address, consents = self._address, self._known.consents
            return with_submodules(self._git, normal(url), revision, path, address=address, consents=consents)
        door, address_of = self._door(url)
        return door.tree(address_of, revision, path)

    def _address(self, url: str) -> str:
        return self._known.mirrored(normal(url))

    def history(self, url: str, revision: str, *, limit: int = 1) -> Sequence[Commit]:
        """Give a commit and its ancestors; a chart has none."""
        door, address = self._door(url)
        return door.history(address, revision, limit=limit)

    def annotated_tag(self, url: str, revision: str) -> bytes:
        """Give the annotated tag that a revision names; a chart has none."""
        door, address = self._door(url)
        return door.annotated_tag(address, revision)

    def signatures(self, objects: Sequence[bytes], keys: SigningKeys) -> Sequence[Signature]:
        """Check the signatures of raw commits and tags."""
        return self._git.signatures(objects, keys)

    def _door(self, url: str) -> tuple[GitRepos, str]:
        if url.startswith(PREFIX):
            address, mark, chart = url.removeprefix(PREFIX).partition("#")
            return self._charts, PREFIX + self._known.mirrored(address) + mark + chart
        return self._git, self._address(url)
