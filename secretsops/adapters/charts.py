"""Charts of Helm repositories, over HTTP and from OCI registries, behind the same door as Git.

A chart is named `helm+https://HOST/PATH#CHART` or `helm+oci://HOST/PATH/CHART`; its revision is
`VERSION@sha256:DIGEST`, so that a pinned plan downloads the same bytes or fails. Archives are read in memory, with
limits; nothing of a stranger is unpacked on a disk. A credential is sent to its own host alone, never past a redirect.

Rules: helm v4 `pkg/repo/v1`, `pkg/registry`; OCI distribution spec v1.1. Never here: rendering.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from secretsops.errors import GitUnavailable, InvalidManifest, UsageError
from secretsops.files import write_atomic
from secretsops.manifest import load_values
from secretsops.ports import Commit, Signature, SignatureState, SigningKeys, Tree
from secretsops.secret import Plaintext
from secretsops.tags import is_constraint, newest

PREFIX = "helm+"
INDEX_LIMIT = 64 * 1024 * 1024
ARCHIVE_LIMIT = 32 * 1024 * 1024
UNPACKED_LIMIT = 128 * 1024 * 1024
FILE_LIMIT = 10_000
"""Bytes of an index, of an archive, of what is in it, and files in it."""
_PIN = re.compile(r"(?P<version>[^@]+)@sha256:(?P<digest>[0-9a-f]{64})")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

Login = tuple[str, Plaintext]


class ChartRepos:
    """Charts by URL. Satisfies `secretsops.ports.GitRepos` for URLs that begin with `helm+`."""

    def __init__(
        self, *, cache: Path, login: Callable[[str], Login | None] | None = None, timeout: float = 60.0
    ) -> None:
        """Keep archives below `cache` by digest; ask `login` for credentials."""
        self._cache, self._login, self._timeout = cache, login or (lambda _url: None), timeout
        self._where: dict[str, str] = {}
        """Digest to the address of the archive, from the index that named it."""

    def resolve(self, url: str, revision: str) -> str:
        """Give `VERSION@sha256:DIGEST` of an exact version or a semver range; a pin stays as it is.

        Raises:
            GitUnavailable: no answer, or reason `RevisionNotFound`.
        """
        if _PIN.fullmatch(revision):
            return revision
        if _is_oci(url):
            return self._resolve_oci(url, revision)
        versions = self._versions(url)
        version = _chosen(url, revision, versions)
        entry = versions[version]
        address = urllib.parse.urljoin(_base(url) + "/", str((entry.get("urls") or [""])[0]))
        digest = str(entry.get("digest") or "").removeprefix("sha256:")
        content = b"" if digest else self._get(address, ARCHIVE_LIMIT)
        digest = digest or hashlib.sha256(content).hexdigest()
        self._where[digest] = address
        if content:
            self._keep(digest, content)
        return f"{version}@sha256:{digest}"

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Give the files of a chart, below its own folder (and below `path` in it).

        Raises:
            GitUnavailable: no answer, other bytes than pinned, or no chart.
        """
        pin = self.resolve(url, revision)
        found = _PIN.fullmatch(pin)
        if found is None:
            raise GitUnavailable(f"{_shown(url)} has no version {revision!r}", reason="RevisionNotFound")
        digest = found["digest"]
        kept = self._cache / f"{digest}.tgz"
        content = kept.read_bytes() if kept.is_file() else self._download(url, found["version"], digest)
        if hashlib.sha256(content).hexdigest() != digest:
            raise GitUnavailable(
                f"{_shown(url)} {found['version']} is not the chart that was pinned",
                reason="DigestMismatch",
                hint="a version was published anew: look at what changed, then make a new recovery point",
            )
        files = _unpacked(content, _shown(url))
        below = f"{path.strip('/')}/" if path.strip("/") else ""
        chosen = {name.removeprefix(below): data for name, data in files.items() if name.startswith(below)}
        return Tree(url=_shown(url), revision=pin, files=chosen)

    def history(self, url: str, revision: str, *, limit: int = 1) -> list[Commit]:  # noqa: ARG002 - of the door
        """Refuse: charts have no commits."""
        raise UsageError(f"{_shown(url)} is a chart and has no history", reason="NoHistory")

    def annotated_tag(self, url: str, revision: str) -> bytes:  # noqa: ARG002 - of the door
        """Give b"": charts have no tags."""
        return b""

    def signatures(self, objects: Sequence[bytes], keys: SigningKeys) -> list[Signature]:  # noqa: ARG002 - of the door
        """Give one answer per object: charts sign none."""
        return [Signature(state=SignatureState.UNSIGNED) for _ in objects]

    def _download(self, url: str, version: str, digest: str) -> bytes:
        if _is_oci(url):
            host, name = _registry(url)
            content = self._registry_get(host, name, f"blobs/sha256:{digest}", ARCHIVE_LIMIT)
        else:
            if digest not in self._where:
                entry = self._versions(url).get(version) or {}
                self._where[digest] = urllib.parse.urljoin(_base(url) + "/", str((entry.get("urls") or [""])[0]))
            content = self._get(self._where[digest], ARCHIVE_LIMIT)
        self._keep(digest, content)
        return content

    def _keep(self, digest: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() == digest:
            self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(self._cache / f"{digest}.tgz", content)

    # --- HTTP repositories -----------------------------------------------------------------------------

    def _versions(self, url: str) -> dict[str, Mapping[str, Any]]:
        chart = urllib.parse.urlsplit(url).fragment
        text = self._get(f"{_base(url)}/index.yaml", INDEX_LIMIT)
        try:
            documents = [value for value in load_values(text, source="index.yaml") if isinstance(value, dict)]
        except InvalidManifest as error:
            raise GitUnavailable(
                f"{_shown(url)}: the index is no YAML ({error.where})", reason="InvalidIndex"
            ) from None
        entries = (documents[0].get("entries") or {}) if documents else {}
        listed = entries.get(chart) if isinstance(entries, dict) else None
        if not isinstance(listed, list):
            raise GitUnavailable(f"{_shown(url)} has no chart {chart!r}", reason="RevisionNotFound")
        return {str(one.get("version")): one for one in listed if isinstance(one, dict) and one.get("urls")}

    def _get(self, address: str, limit: int, headers: Mapping[str, str] | None = None) -> bytes:
        if not address.startswith(("https://", "http://")):
            raise GitUnavailable(f"{_shown(address)} is no http address", reason="InvalidIndex")
        request = urllib.request.Request(address, headers=dict(headers or {}))  # noqa: S310 - the scheme was checked
        login = self._login(address)
        if login and "Authorization" not in (headers or {}):
            request.add_unredirected_header("Authorization", _basic(login))
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310 - as above
                content = answer.read(limit + 1)
        except urllib.error.HTTPError as error:
            error.close()
            reason = {401: "Denied", 403: "Denied", 404: "RevisionNotFound"}.get(error.code, "")
            raise GitUnavailable(f"{_shown(address)} answered {error.code}", reason=reason) from None
        except (urllib.error.URLError, TimeoutError, OSError):
            raise GitUnavailable(f"{_shown(address)} gives no answer", reason="Unreachable") from None
        if len(content) > limit:
            raise GitUnavailable(f"{_shown(address)} is larger than {limit // 2**20} MiB", reason="TooLarge")
        return bytes(content)

    # --- OCI registries --------------------------------------------------------------------------------

    def _resolve_oci(self, url: str, revision: str) -> str:
        host, name = _registry(url)
        version = revision
        if is_constraint(revision):
            listed = json.loads(self._registry_get(host, name, "tags/list", INDEX_LIMIT)).get("tags") or []
            version = _chosen(url, revision, {str(tag).replace("_", "+"): {} for tag in listed})
        tag = version.replace("+", "_")
        manifest = json.loads(self._registry_get(host, name, f"manifests/{tag}", INDEX_LIMIT))
        layers = [one for one in manifest.get("layers") or [] if one.get("mediaType") == _LAYER]
        if len(layers) != 1:
            raise GitUnavailable(f"{_shown(url)} {version} is no Helm chart", reason="NoChart")
        return f"{version}@{layers[0]['digest']}"

    def _registry_get(self, host: str, name: str, what: str, limit: int) -> bytes:
        """Read from a registry, with the token its challenge asks for."""
        loopback = host.partition(":")[0] in ("localhost", "127.0.0.1")
        address = f"{'http' if loopback else 'https'}://{host}/v2/{name}/{what}"
        headers = {"Accept": _MANIFEST} if what.startswith("manifests/") else {}
        request = urllib.request.Request(address, headers=headers)  # noqa: S310 - the scheme is ours
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310 - as above
                return bytes(answer.read(limit))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 401:
                reason = "RevisionNotFound" if error.code == 404 else ""
                raise GitUnavailable(f"{_shown(address)} answered {error.code}", reason=reason) from None
            asked = dict(_CHALLENGE.findall(error.headers.get("WWW-Authenticate") or ""))
        except (urllib.error.URLError, TimeoutError, OSError):
            raise GitUnavailable(f"{_shown(address)} gives no answer", reason="Unreachable") from None
        login = self._login(address)
        if "realm" in asked:
            query = urllib.parse.urlencode({key: asked[key] for key in ("service", "scope") if key in asked})
            same = urllib.parse.urlsplit(asked["realm"]).netloc == host
            extra = {"Authorization": _basic(login)} if login and same else {}
            answer = json.loads(self._get(f"{asked['realm']}?{query}", 1 << 20, extra))
            token = answer.get("token") or answer.get("access_token") or ""
            return self._get(address, limit, {**headers, "Authorization": f"Bearer {token}"})
        if login is None:
            raise GitUnavailable(f"{_shown(address)} asks for a credential", reason="Denied")
        return self._get(address, limit, {**headers, "Authorization": _basic(login)})


def _is_oci(url: str) -> bool:
    return url.startswith(f"{PREFIX}oci://")


def _registry(url: str) -> tuple[str, str]:
    host, _, name = url.removeprefix(f"{PREFIX}oci://").partition("/")
    if not host or not name:
        raise UsageError(f"{url} names no chart in a registry", reason="InvalidUrl")
    return host, name


def _base(url: str) -> str:
    return url.removeprefix(PREFIX).partition("#")[0].rstrip("/")


def _shown(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _basic(login: Login) -> str:
    name, password = login
    return "Basic " + base64.b64encode(name.encode() + b":" + password.reveal()).decode()


def _chosen(url: str, revision: str, versions: Mapping[str, Mapping[str, Any]]) -> str:
    """Give the version that is meant: exact (with or without a `v`), else the highest in a range."""
    for wanted in (revision, f"v{revision}", revision.removeprefix("v")):
        if wanted in versions:
            return wanted
    found = newest(revision, versions) if is_constraint(revision) else ""
    if not found:
        raise GitUnavailable(f"{_shown(url)} has no version {revision!r}", reason="RevisionNotFound")
    return found


def _unpacked(content: bytes, shown: str) -> dict[str, bytes]:
    """Read a chart's archive in memory: regular files below its one folder; links and climbing names are refused."""
    files: dict[str, bytes] = {}
    size = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for entry in archive:
                if entry.isdir():
                    continue
                parts = entry.name.removeprefix("./").split("/")
                if not entry.isfile() or any(part in ("", ".", "..") for part in parts) or len(parts) < 2:
                    raise GitUnavailable(f"{shown}: the archive holds {entry.name[:80]!r}", reason="HostilePath")
                size += entry.size
                if size > UNPACKED_LIMIT or len(files) >= FILE_LIMIT:
                    raise GitUnavailable(f"{shown}: the archive holds too much", reason="TooLarge")
                reader = archive.extractfile(entry)
                files["/".join(parts[1:])] = reader.read() if reader else b""
    except (tarfile.TarError, EOFError, OSError):
        raise GitUnavailable(f"{shown} is no chart archive", reason="NoChart") from None
    if "Chart.yaml" not in files:
        raise GitUnavailable(f"{shown}: the archive holds no Chart.yaml", reason="NoChart")
    return files
