"""The binaries of a control plane: found in KUBEBUILDER_ASSETS, else in the user's cache, else built with Go.

Each binary is looked up singly, because KUBEBUILDER_ASSETS usually holds only etcd, kube-apiserver and kubectl. What
is built is pinned by three Go modules that travel with this package (`controlplane/{kube,etcd,kwok}`; three, since
their requirements clash); the cache is keyed by their go.sum files. Never here: starting anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from secretsops.errors import WorldFailed

Progress = Callable[[str], None]

MODULES = Path(__file__).with_name("controlplane")

KUBERNETES = "1.36.3"
"""What `controlplane/kube/go.mod` pins. A build without these stamps calls itself v0.0.0, which clients refuse."""

_MAJOR, _MINOR, _ = KUBERNETES.split(".")
_SIGN_OF_LIFE = 30.0
"""Seconds between lines while one binary builds."""

_VERSION = "k8s.io/component-base/version"
_KUBE_FLAGS = (
    f"-s -w -X {_VERSION}.gitVersion=v{KUBERNETES} -X {_VERSION}.gitMajor={_MAJOR} -X {_VERSION}.gitMinor={_MINOR}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How one binary is built. `seconds` is the time measured on 2 cores with a cold build cache."""

    module: str
    package: str
    flags: str = "-s -w"
    seconds: int


BUILDS: Mapping[str, Build] = {
    "etcd": Build(module="etcd", package="go.etcd.io/etcd/server/v3", seconds=21),
    "kube-apiserver": Build(
        module="kube", package="k8s.io/kubernetes/cmd/kube-apiserver", flags=_KUBE_FLAGS, seconds=182
    ),
    "kube-controller-manager": Build(
        module="kube", package="k8s.io/kubernetes/cmd/kube-controller-manager", flags=_KUBE_FLAGS, seconds=48
    ),
    "kube-scheduler": Build(
        module="kube", package="k8s.io/kubernetes/cmd/kube-scheduler", flags=_KUBE_FLAGS, seconds=23
    ),
    "kwok": Build(module="kwok", package="sigs.k8s.io/kwok/cmd/kwok", seconds=71),
}


def binaries_are_there(environment: Mapping[str, str] | None = None) -> bool:
    """Say whether a real control plane can be started without building anything."""
    environment = os.environ if environment is None else environment
    cache = cache_folder(environment)
    return all(_look(name, environment, cache) for name in BUILDS)


def find_binaries(
    *, progress: Progress | None = None, environment: Mapping[str, str] | None = None, build: bool = True
) -> dict[str, Path]:
    """Give the path of each binary by name, building what is missing; `environment` is os.environ unless told.

    Raises:
        WorldFailed: `NoControlPlane` when a binary is nowhere and Go is not installed (or `build` is off),
            `BuildFailed` when Go could not build it.
    """
    environment = os.environ if environment is None else environment
    cache = cache_folder(environment)
    found = {name: path for name in BUILDS if (path := _look(name, environment, cache))}
    missing = [name for name in BUILDS if name not in found]
    if not missing:
        return found
    go = shutil.which("go", path=environment.get("PATH"))
    if go is None or not build:
        raise WorldFailed(
            f"no control plane: {', '.join(missing)} not found in KUBEBUILDER_ASSETS"
            f" ({environment.get('KUBEBUILDER_ASSETS') or 'not set'}) nor in {cache}"
            + ("" if go else ", and there is no Go toolchain to build from"),
            reason="NoControlPlane",
            hint="install Go (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a folder with " + ", ".join(BUILDS),
        )
    say = progress or (lambda _: None)
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / ".lock", say):
        for left in cache.glob(".*-*"):
            shutil.rmtree(left, ignore_errors=True)  # of a build that was killed
        missing = [name for name in missing if not _look(name, environment, cache)]  # another run may have built it
        minutes = max(1, round(sum(BUILDS[name].seconds for name in missing) / 60))
        if missing:
            say(f"building {len(missing)} programs of the control plane with Go, once: about {minutes} min on 2 cores")
        for number, name in enumerate(missing, 1):
            say(f"building {name} ({number} of {len(missing)}, about {BUILDS[name].seconds} s)")
            _build(go, name, cache, environment, say)
    return {name: path for name in BUILDS if (path := _look(name, environment, cache))}


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Give the folder of built binaries: per user, per platform, per pinned sources."""
    home = Path(environment.get("HOME") or Path.home())
    root = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    base = Path(environment["XDG_CACHE_HOME"]) if environment.get("XDG_CACHE_HOME") else root
    digest = hashlib.sha256()
    for module in sorted({build.module for build in BUILDS.values()}):
        digest.update((MODULES / module / "go.sum").read_bytes())
    machine = f"{sys.platform}-{platform.machine().lower()}"
    return base / "secretsops" / "controlplane" / f"{machine}-{digest.hexdigest()[:16]}"


def _look(name: str, environment: Mapping[str, str], cache: Path) -> Path | None:
    assets = environment.get("KUBEBUILDER_ASSETS")
    places: Sequence[Path] = (Path(assets) / name, cache / name) if assets else (cache / name,)
    return next((place for place in places if place.is_file() and os.access(place, os.X_OK)), None)


@contextlib.contextmanager
def _locked(path: Path, say: Progress) -> Iterator[None]:
    """Hold the lock of the cache: two builds at once would need 4 GB and take twice as long."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is building the control plane: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(go: str, name: str, cache: Path, environment: Mapping[str, str], say: Progress) -> None:
    """Build one binary beside its place and rename it there, so that nobody ever runs half a binary."""
    build = BUILDS[name]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as folder:
        made = Path(folder) / name
        command = [go, "build", "-mod=readonly", "-trimpath", "-ldflags", build.flags, "-o", str(made), build.package]
        with subprocess.Popen(
            command,
            cwd=MODULES / build.module,
            env={**environment, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            errors = _await_build(process, name, say)
        if process.returncode != 0:
            tail = "; ".join(errors.strip().splitlines()[-3:])
            raise WorldFailed(
                f"go build of {name} failed after {time.monotonic() - started:.0f} s: {tail}",
                reason="BuildFailed",
                hint="it needs Go 1.26 or newer, 2 GB of memory and a Go module proxy (GOPROXY)",
            )
        made.rename(cache / name)


def _await_build(process: subprocess.Popen[str], name: str, say: Progress) -> str:
    """Give what the build wrote to standard error, saying now and then that it goes on; interrupted, it is killed."""
    started = time.monotonic()
    try:
        while True:
            try:
                return process.communicate(timeout=_SIGN_OF_LIFE)[1]
            except subprocess.TimeoutExpired:
                say(f"still building {name} ({time.monotonic() - started:.0f} s)")
    except BaseException:
        process.kill()
        raise
