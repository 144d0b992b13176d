"""Credentials of repositories that the estate's own repository holds: Secrets of type repository and repo-creds.

Looked for only once a repository gives no answer, so an estate without such pays nothing. A SealedSecret is opened
where the escrow's keys are at hand; of an ExternalSecret the store has to be asked (`secretsops external render`), so
it is named and not used. A credential goes to the URL it stands beside, at a path boundary, and nowhere else. Never
here: signing in, what a key is opened with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recovery.setup import SECRET_TYPE, Repository, Setup, read_setup
from secretsops.errors import CannotUnseal, InvalidManifest, Refused
from secretsops.manifest import Manifest, load_all
from secretsops.ports import RepositoryLogin, Tree
from secretsops.sealing.keys import KeyRing
from secretsops.sealing.sealed import open_sealed

_MARK = SECRET_TYPE.encode()
_KINDS = (("", "Secret"), ("bitnami.com", "SealedSecret"), ("external-secrets.io", "ExternalSecret"))


def candidates(tree: Tree) -> list[Manifest]:
    """Give the Secrets of a repository, sealed and external ones too, that mark themselves as Argo CD's."""
    found = []
    for path, content in sorted(tree.files.items()):
        if path.endswith((".yaml", ".yml", ".json")) and _MARK in content:
            try:
                manifests = load_all(content, source=path)
            except InvalidManifest:
                continue  # a template; what it renders to is told by the plan
            found += [one for one in manifests if (one.kind.group, one.kind.kind) in _KINDS]
    return found


def opened(manifests: Sequence[Manifest], ring: Callable[[], KeyRing | None]) -> Setup:
    """Give the repositories that these Secrets declare, those of SealedSecrets with what `ring` opens."""
    plain = []
    keys: KeyRing | None = None
    asked = False
    for manifest in manifests:
        if manifest.kind.kind != "SealedSecret":
            plain.append(manifest)
            continue
        if not asked:
            keys, asked = ring(), True
        try:
            plain.append(open_sealed(manifest, keys).secret if keys is not None else manifest)
        except (CannotUnseal, Refused):
            plain.append(manifest)
    return read_setup(plain)[0]


def login_for(setup: Setup, url: str) -> tuple[RepositoryLogin | None, str]:
    """Give the login for a repository, or why there is none in Git ("" where nothing is said of it at all)."""
    found: Repository | None = setup.repository(url)
    if found is None:
        return None, ""
    if found.login is None:
        why = "is sealed or external: give --escrow and --identity, or a repositories file" if found.sealed else ""
        why = why or (
            "is an SSH key: name it in a repositories file" if found.ssh_key else "holds no user and password"
        )
        return None, f"the credential {found.name} of {found.url} {why}"
    name, password = found.login
    return RepositoryLogin(url=found.url, username=name or "x-access-token", password=password), ""
