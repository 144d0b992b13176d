"""The order of a sync: phase, wave, kind, name; Namespaces and CRDs in front of what needs them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recovery.app import App, Source
from recovery.order import KINDS, ordered
from secretsops.manifest import Manifest

APP = App(name="app", namespace="argocd", source=Source(url="", path=""), destination="home")
WAVE, HOOK = "argocd.argoproj.io/sync-wave", "argocd.argoproj.io/hook"


def manifest(kind: str, name: str, *, wave: int = 0, hook: str = "", namespace: str = "home") -> Manifest:
    annotations = {WAVE: str(wave), **({HOOK: hook} if hook else {})}
    metadata: dict[str, Any] = {"name": name, "annotations": annotations}
    if kind != "Namespace":
        metadata["namespace"] = namespace
    return Manifest({"apiVersion": "v1", "kind": kind, "metadata": metadata})


MANIFESTS = st.lists(
    st.builds(
        manifest,
        st.sampled_from([*KINDS[:1], *KINDS[6:12], "Deployment", "Application", "Job"]),
        st.sampled_from("abcdef"),
        wave=st.integers(-3, 3),
        hook=st.sampled_from(["", "", "PreSync", "Sync", "PostSync"]),
        namespace=st.sampled_from(["home", "a", "b"]),
    ),
    max_size=25,
)


@given(MANIFESTS, st.randoms())
def test_the_order_does_not_depend_on_files(manifests: list[Manifest], random: Any) -> None:
    """Whatever order Git lists them in, the tasks are the same; nothing is lost or doubled."""
    unique = list({(m.kind, m.namespace, m.name, m.annotations.get(HOOK, "")): m for m in manifests}.values())
    shuffled = list(unique)
    random.shuffle(shuffled)
    first = [task.id for task in ordered(APP, unique, revision="a" * 40, started=0)]
    assert first == [task.id for task in ordered(APP, shuffled, revision="a" * 40, started=0)]
    assert len(first) == len(unique)


@given(MANIFESTS)
def test_phases_and_waves_never_go_back(manifests: list[Manifest]) -> None:
    """Tasks of one place stand together, places in order."""
    places = [task.place for task in ordered(APP, manifests, revision="a" * 40, started=0)]
    assert places == sorted(places)


@given(MANIFESTS)
def test_a_namespace_comes_before_what_lives_in_it(manifests: list[Manifest]) -> None:
    """Also where its own wave is later, or it is needed by a PreSync hook."""
    seen: set[str] = set()
    tasks = ordered(APP, manifests, revision="a" * 40, started=0)
    made = {task.manifest.name for task in tasks if task.manifest.kind.kind == "Namespace"}
    for task in tasks:
        if task.manifest.kind.kind == "Namespace":
            seen.add(task.manifest.name)
        elif task.manifest.namespace in made:
            assert task.manifest.namespace in seen, task.id


def test_every_place_has_its_reason() -> None:
    """Nobody has to guess why an object stands where it stands."""
    tasks = ordered(
        APP, [manifest("Service", "s", wave=2), manifest("Job", "j", hook="PreSync")], revision="", started=0
    )
    assert [task.id for task in tasks] == ["PreSync Job home/j", "Sync Service home/s"]
    assert all(task.reason for task in tasks)
