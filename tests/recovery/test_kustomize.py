"""What an application adds to its kustomization, in the shape `kustomize edit` writes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recovery.app import Kustomize
from recovery.kustomize import edited
from secretsops.errors import RenderFailed


def edit(text: str, wanted: Kustomize, files: dict[str, bytes] | None = None, **variables: str) -> dict[str, Any]:
    tree = {"app/kustomization.yaml": text.encode(), **(files or {})}
    found: dict[str, Any] = json.loads(edited(tree, "app", wanted, variables)["app/kustomization.yaml"])
    return found


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("nginx:1.2", {"name": "nginx", "newTag": "1.2"}),
        ("nginx=example.com:5000/web:2", {"name": "nginx", "newName": "example.com:5000/web", "newTag": "2"}),
        ("nginx=other", {"name": "nginx", "newName": "other"}),
        ("nginx@sha256:ab", {"name": "nginx", "digest": "sha256:ab"}),
        ("example.com:5000/web@sha256:ab", {"name": "example.com:5000/web", "digest": "sha256:ab"}),
        ("nginx=$IMAGE:v", {"name": "nginx", "newName": "from-env", "newTag": "v"}),
    ],
)
def test_images(text: str, entry: dict[str, str]) -> None:
    """`[old=]name[:tag][@digest]`, a port is no tag, variables are expanded."""
    assert edit("resources: []\n", Kustomize(images=(text,)), IMAGE="from-env")["images"] == [entry]


def test_an_image_keeps_what_is_not_said_again() -> None:
    """A new tag leaves the new name of the file; other images stay."""
    text = "images: [{name: a, newName: mirror/a, newTag: '1'}, {name: b, newTag: '2'}]\n"
    assert edit(text, Kustomize(images=("a:3",)))["images"] == [
        {"name": "b", "newTag": "2"},
        {"name": "a", "newName": "mirror/a", "newTag": "3"},
    ]


def test_labels_and_annotations_overrule_only_when_forced() -> None:
    """The same name in the file is refused with the cure."""
    text = "commonLabels: {team: red}\ncommonAnnotations: {note: old}\n"
    with pytest.raises(RenderFailed) as caught:
        edit(text, Kustomize(common_labels={"team": "blue"}))
    assert "forceCommonLabels" in caught.value.hint
    found = edit(
        text,
        Kustomize(
            common_labels={"team": "blue"},
            force_labels=True,
            common_annotations={"note": "$X", "raw": "y"},
            force_annotations=True,
        ),
    )
    assert found["commonLabels"] == {"team": "blue"}
    assert found["commonAnnotations"] == {"note": "$X", "raw": "y"}


def test_labels_without_selector_are_pairs() -> None:
    """They must not change a Deployment's immutable selector."""
    wanted = Kustomize(common_labels={"team": "$T"}, labels_without_selector=True, labels_in_templates=True)
    assert edit("{}\n", wanted, T="blue")["labels"] == [
        {"pairs": {"team": "blue"}, "includeSelectors": False, "includeTemplates": True}
    ]


def test_missing_components_are_left_out_where_asked() -> None:
    """Only with `ignoreMissingComponents`."""
    files = {"parts/one/kustomization.yaml": b"{}"}
    components = ("../parts/one", "../parts/none")
    assert edit("{}\n", Kustomize(components=components, ignore_missing_components=True), files)["components"] == [
        "../parts/one"
    ]
    assert edit("{}\n", Kustomize(components=components), files)["components"] == list(components)


@pytest.mark.parametrize("text", ["a: [", "- a\n", "a: 1\n---\nb: 2\n", "patches: x\n"])
def test_a_broken_kustomization_is_named(text: str) -> None:
    with pytest.raises(RenderFailed) as caught:
        edit(text, Kustomize(name_prefix="p-", patches=({"patch": "x"},)))
    assert "kustomization" in str(caught.value)


def test_nothing_asked_nothing_changed() -> None:
    """The file stays byte for byte."""
    tree = {"kustomization.yaml": b"# comment\nresources: []\n"}
    assert edited(tree, "", Kustomize(), {}) == tree
