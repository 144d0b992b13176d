"""The repository of a drill: the scenario's files with the addresses of this world, sealed Secrets, one commit.

Sealing is done as a developer does it: the certificate asked of the cluster, the Secret piped through `seal`. Values
are made here, travel through pipes, and are kept by nobody. Never here: what a scenario means.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

from drills.scenario import SealedEntry
from secretsops.errors import WorldFailed
from secretsops.files import write_atomic
from secretsops.manifest import dump
from secretsops.secret import Plaintext

_SEAL = (sys.executable, "-m", "secretsops", "seal")
_PERSON = {"NAME": "Drill", "EMAIL": "drill@secretsops.invalid"}
TIMEOUT = 60.0


def made_up() -> Plaintext:
    """Give a value nobody knows."""
    return Plaintext(secrets.token_urlsafe(24).encode())


def fill(folder: Traversable, target: Path, addresses: Mapping[str, str]) -> None:
    """Write a scenario's files below `target`, `{name}` in them replaced by the address of that name."""
    for path, file in _files(folder, ""):
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, filled(file.read_text(encoding="utf-8"), addresses).encode())


def filled(text: str, addresses: Mapping[str, str]) -> str:
    """Give a text with `{name}` replaced by the address of that name."""
    for name, address in addresses.items():
        text = text.replace(f"{{{name}}}", address)
    return text


def fetch_certificate(options: Sequence[str], target: Path) -> None:
    """Write a cluster's sealing certificate, asked for through the API server's service proxy.

    `options` say which cluster: `--kubeconfig FILE --context NAME`.
    """
    write_atomic(target, _run([*_SEAL, "--fetch-cert", *options], b""))


def seal(entry: SealedEntry, values: Mapping[str, Plaintext], certificate: Path, target: Path) -> None:
    """Seal one Secret into `target`, with the certificate and in the scope that the scenario names."""
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": entry.name, "namespace": entry.namespace},
        "data": {key: base64.b64encode(value.reveal()).decode() for key, value in values.items()},
    }
    command = [*_SEAL, "--cert", str(certificate), "--scope", entry.scope]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, _run(command, dump(body).encode()))


def commit(work: Path, url: str, message: str, key: Path | None = None) -> str:
    """Commit everything below `work`, signed with an SSH key if one is given, push it to `main`; gives the SHA."""
    if not (work / ".git").exists():
        git(work, "init", "--quiet", "--initial-branch=main")
    git(work, "add", "--all")
    signed = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={key}") if key else ()
    git(work, *signed, "commit", "--quiet", f"--message={message}", *["--gpg-sign"] * bool(key))
    git(work, "push", "--quiet", url, "HEAD:main")
    return git(work, "rev-parse", "HEAD").decode().strip()


def _files(folder: Traversable, base: str) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        path = f"{base}/{entry.name}".lstrip("/")
        if entry.is_dir():
            yield from _files(entry, path)
        elif entry.name.endswith((".yaml", ".yml", ".json")):
            yield path, entry


def git(work: Path, *arguments: str) -> bytes:
    """Run Git in a work tree, past the configuration of whoever runs the drill; gives its output."""
    who = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in _PERSON.items()}
    plain = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    return _run(["git", *arguments], b"", cwd=work, environment={**plain, **who})


def command(words: Sequence[str]) -> bytes:
    """Run a program and give its output; raises `WorldFailed`."""
    return _run(words, b"")


def _run(
    command: Sequence[str], stdin: bytes, *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> bytes:
    """Run a program; what it says on failure is its standard error, where our own commands put no value."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    try:
        done = subprocess.run(
            list(command),
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env={**inherited, **(environment or {})},
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorldFailed(f"{command[0]} did not run ({type(error).__name__})", reason="CommandFailed") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[:3]
        raise WorldFailed(f"{' '.join(command[:4])} failed: {' '.join(said)}", reason="CommandFailed")
    return done.stdout
