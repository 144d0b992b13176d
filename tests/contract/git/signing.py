"""Keys made for one test, and a repository whose commits they sign: real `gpg`, real `ssh-keygen`, real `git`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from secretsops.adapters.git import GitDoor


def run(*command: str, stdin: bytes = b"", **environment: str) -> str:
    """Run a program; a failure shows what it said."""
    clean = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.com",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.com",
        **environment,
    }
    done = subprocess.run(command, input=stdin, capture_output=True, env=clean, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout.decode().strip()


class OpenPgp:
    """A `gpg` home with keys that last as long as the test."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="g"))  # short: the agent's socket lies in it

    def key(self, name: str, *, expires: str = "never", algorithm: str = "ed25519") -> str:
        """Make a signing key; gives its fingerprint."""
        user = f"{name} <{name}@example.com>"
        self.gpg("--passphrase", "", "--quick-generate-key", user, algorithm, "sign", expires)
        listed = self.gpg("--with-colons", "--list-keys", user).splitlines()
        return next(line.split(":")[9] for line in listed if line.startswith("fpr"))

    def public(self, *fingerprints: str) -> bytes:
        """Give public keys, armored."""
        return self.gpg("--armor", "--export", *fingerprints).encode()

    def gpg(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run gpg in this home."""
        return run(
            "gpg",
            "--homedir",
            str(self.home),
            "--batch",
            "--yes",
            "--pinentry-mode",
            "loopback",
            *arguments,
            stdin=stdin,
        )

    def close(self) -> None:
        """End the agent and remove the home."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], capture_output=True, check=False)
        shutil.rmtree(self.home, ignore_errors=True)


def ssh_key(folder: Path, name: str, kind: str = "ed25519", *more: str) -> tuple[Path, str]:
    """Make an SSH key; gives its file and public line."""
    file = folder / name
    run("ssh-keygen", "-q", "-t", kind, *more, "-N", "", "-C", name, "-f", str(file))
    return file, file.with_suffix(".pub").read_text().strip()


@dataclass
class SignedRepository:
    """A repository on disk, the door that reads it, and what a developer does to it."""

    folder: Path
    pgp: OpenPgp | None = None
    door: GitDoor = field(init=False)

    def __post_init__(self) -> None:
        self.door = GitDoor(cache=self.folder.with_name(f"{self.folder.name}-cache"), timeout=60)
        run("git", "init", "--quiet", "--initial-branch=main", str(self.folder))

    @property
    def url(self) -> str:
        """Give its URL."""
        return self.folder.as_uri()

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run git in it."""
        home = {"GNUPGHOME": str(self.pgp.home)} if self.pgp else {}
        return run("git", "-C", str(self.folder), *arguments, stdin=stdin, **home)

    def commit(self, message: str = "a change", *, pgp: str = "", ssh: Path | None = None, **files: str) -> str:
        """Commit, signed by a key or by none; gives the SHA."""
        for name, text in files.items():
            (self.folder / name).write_text(text)
        self.git("add", "--all")
        self.git(*self._format(pgp, ssh), "commit", "--quiet", "--allow-empty", *_sign("-S", pgp, ssh), "-m", message)
        return self.git("rev-parse", "HEAD")

    def put(self, files: Mapping[str, str]) -> str:
        """Commit files, unsigned; gives the SHA."""
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        return self.commit()

    def tag(self, name: str, *, pgp: str = "", ssh: Path | None = None) -> None:
        """Make an annotated tag of HEAD, signed or not."""
        marks = _sign("-u", pgp, ssh) or ["--annotate", "--no-sign"]
        self.git(*self._format(pgp, ssh), "tag", *marks, "-m", "a release", name)

    def write(self, raw: bytes, kind: str = "commit") -> str:
        """Put a raw object on main (or, for a tag, nowhere yet); gives its SHA."""
        sha = self.git("hash-object", "-t", kind, "-w", "--literally", "--stdin", stdin=raw)
        if kind == "commit":
            self.git("update-ref", "refs/heads/main", sha)
        return sha

    def raw(self, revision: str = "HEAD", kind: str = "commit") -> bytes:
        """Give a raw object."""
        return subprocess.run(
            ["git", "-C", str(self.folder), "cat-file", kind, revision], capture_output=True, check=True
        ).stdout

    @staticmethod
    def _format(pgp: str, ssh: Path | None) -> list[str]:
        return ["-c", "gpg.format=ssh"] if ssh else ["-c", "gpg.format=openpgp"] if pgp else []


def _sign(option: str, pgp: str, ssh: Path | None) -> list[str]:
    key = str(ssh) if ssh else pgp
    return [f"{option}{key}"] if key and option == "-S" else [option, key] if key else []
