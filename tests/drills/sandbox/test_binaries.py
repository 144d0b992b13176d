"""Finding the control plane's binaries: singly, in the order told, built once, never half."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from drills.sandbox.binaries import BUILDS, KUBERNETES, MODULES, cache_folder, find_binaries
from secretsops.errors import WorldFailed

FAKE_GO = """#!/bin/sh
# Stands for the Go toolchain: notes how it was called, "builds" after a moment, fails for what it is told to.
echo "$PWD $CGO_ENABLED $*" >> "$HOME/calls"
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
sleep 0.05
case "$1" in *"$BREAKS") echo "some/file.go:1: broken" >&2; exit 1;; esac
echo built > "$out"; chmod 755 "$out"
"""


def executable(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give an environment without Go, assets or cache."""
    return {"HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "bin")}


@pytest.fixture
def with_go(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """Give one with a Go toolchain that only pretends."""
    executable(tmp_path / "bin" / "go", FAKE_GO)
    (tmp_path / "home").mkdir()
    return {**environment, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "BREAKS": "nothing"}


def test_each_binary_is_looked_up_singly(tmp_path: Path, environment: dict[str, str]) -> None:
    """KUBEBUILDER_ASSETS first, the cache for what it lacks."""
    for name in ("etcd", "kube-apiserver"):
        executable(tmp_path / "assets" / name)
    for name in BUILDS:
        executable(cache_folder(environment) / name)
    found = find_binaries(environment={**environment, "KUBEBUILDER_ASSETS": str(tmp_path / "assets")})
    assert {name for name, path in found.items() if path.parent == tmp_path / "assets"} == {"etcd", "kube-apiserver"}
    assert found.keys() == BUILDS.keys()


def test_neither_binaries_nor_go_says_what_to_install(environment: dict[str, str]) -> None:
    """The error names what is missing, the hint both cures."""
    with pytest.raises(WorldFailed) as refusal:
        find_binaries(environment=environment)
    assert refusal.value.reason == "NoControlPlane"
    assert "kube-scheduler" in refusal.value.message
    assert "install Go" in refusal.value.hint
    assert "KUBEBUILDER_ASSETS" in refusal.value.hint


def test_a_file_that_cannot_be_run_is_not_a_binary(environment: dict[str, str]) -> None:
    """A half-downloaded file without its mode does not count."""
    for name in BUILDS:
        executable(cache_folder(environment) / name).chmod(0o644)
    with pytest.raises(WorldFailed, match="etcd"):
        find_binaries(environment=environment)


def test_what_is_missing_is_built_and_announced(tmp_path: Path, with_go: dict[str, str]) -> None:
    """The minutes are said before, each binary when its turn comes; the second call finds everything."""
    said: list[str] = []
    found = find_binaries(environment=with_go, progress=said.append)
    assert "about 6 min" in said[0]
    assert len(said) == 1 + len(BUILDS)
    assert {path.read_text() for path in found.values()} == {"built\n"}
    calls = (tmp_path / "home" / "calls").read_text()
    assert f"{MODULES / 'kube'} 0 build -mod=readonly -trimpath" in calls
    assert f"gitVersion=v{KUBERNETES}" in calls
    said.clear()
    assert find_binaries(environment=with_go, progress=said.append) == found
    assert said == []


def test_a_failed_build_leaves_nothing_half(with_go: dict[str, str]) -> None:
    """The error quotes the compiler; no file has the binary's name; what was built before stays."""
    broken = {**with_go, "BREAKS": "kube-scheduler"}
    with pytest.raises(WorldFailed, match="broken") as refusal:
        find_binaries(environment=broken)
    assert refusal.value.reason == "BuildFailed"
    made = {path.name for path in cache_folder(broken).iterdir()}
    assert made == {".lock", "etcd", "kube-apiserver", "kube-controller-manager"}


def test_leftovers_of_a_killed_build_go(with_go: dict[str, str]) -> None:
    """The folder a killed build worked in is removed by the next one."""
    left = cache_folder(with_go) / ".kwok-killed"
    left.mkdir(parents=True)
    find_binaries(environment=with_go)
    assert not left.exists()


def test_a_long_build_shows_that_it_lives(with_go: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line now and then: three minutes of silence look like a hang."""
    monkeypatch.setattr("drills.sandbox.binaries._SIGN_OF_LIFE", 0.01)
    said: list[str] = []
    find_binaries(environment=with_go, progress=said.append)
    assert any(line.startswith("still building etcd") for line in said)


def test_two_runs_build_once(tmp_path: Path, with_go: dict[str, str]) -> None:
    """The second waits for the first and uses what it built."""
    said: list[str] = []
    runs = [
        threading.Thread(target=find_binaries, kwargs={"environment": with_go, "progress": said.append}) for _ in "ab"
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len((tmp_path / "home" / "calls").read_text().splitlines()) == len(BUILDS)


def test_the_cache_is_keyed_by_the_pinned_sources(environment: dict[str, str]) -> None:
    """The folder is the user's and names platform and sources; XDG_CACHE_HOME is obeyed."""
    folder = cache_folder({**environment, "XDG_CACHE_HOME": "/somewhere"})
    assert folder.parent == Path("/somewhere/secretsops/controlplane")
    assert folder.name == cache_folder(environment).name


def test_the_stamped_version_is_the_pinned_one() -> None:
    """`KUBERNETES` repeats what go.mod pins."""
    assert f"k8s.io/kubernetes v{KUBERNETES}" in (MODULES / "kube" / "go.mod").read_text()
