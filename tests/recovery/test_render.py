"""Directory sources: which files count, what is refused by name, and globs that nothing can slow down."""

from __future__ import annotations

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.app import App, Directory, Source
from recovery.globs import matches
from recovery.render import Kinds, Rendered, render
from recovery.sources import Checkout
from secretsops.ports import Tree
from tests.recovery.estates import NoRenderer, config_map


def rendered(files: dict[str, str], links: dict[str, str] | None = None, **directory: object) -> Rendered:
    source = Source(url="u", path="p", directory=Directory(**directory))  # type: ignore[arg-type]
    app = App(name="app", namespace="argocd", source=source, destination="home")
    contents = {path: text.encode() for path, text in files.items()}
    tree = Tree(url="u", revision="r", files=contents, links=links or {})
    checkout = Checkout(source=source, tool="directory", tree=tree)
    return render(app, [checkout], kinds=Kinds(), renderer=NoRenderer())


FILES = {"a.yaml": config_map("a"), "b.json": config_map("b"), "sub/c.yml": config_map("c"), "note.txt": "hello"}


def names(found: Rendered) -> list[str]:
    return sorted(manifest.name for manifest in found.manifests)


def test_files_by_extension_and_depth() -> None:
    """The top level unless `recurse`; YAML and JSON only."""
    assert names(rendered(FILES)) == ["a", "b"]
    assert names(rendered(FILES, recurse=True)) == ["a", "b", "c"]
    assert names(rendered(FILES, recurse=True, include="sub/*")) == ["c"]
    assert names(rendered(FILES, recurse=True, exclude="{a,sub/*}*")) == ["b"]


def test_lists_are_opened_and_namespaces_settled() -> None:
    """A List's items are objects of their own; the destination stands in; a ClusterRole has no namespace."""
    role = '{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"r","namespace":"x"}}'
    text = f'{{"apiVersion":"v1","kind":"List","items":[{config_map("a")},null,{role}]}}'
    found = {manifest.name: manifest.namespace for manifest in rendered({"l.json": text}).manifests}
    assert found == {"a": "home", "r": ""}


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("x.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [}\n", "InvalidYaml"),
        ("x.json", "{", "InvalidYaml"),
        ("x.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n", "NoName"),
        ("x.yaml", config_map("x", annotations={"argocd.argoproj.io/hook": "PreSynk"}), "UnknownHook"),
        ("x.yaml", config_map("x", annotations={"argocd.argoproj.io/sync-options": "Sorcery=true"}), "NotSupported"),
    ],
)
def test_a_bad_file_is_named_and_the_rest_rendered(path: str, text: str, reason: str) -> None:
    """One problem, with the file and a reason; the good file beside it is there."""
    found = rendered({**FILES, path: text})
    assert [(problem.where.partition(",")[0], problem.reason) for problem in found.problems] == [(f"p/{path}", reason)]
    assert names(found) == ["a", "b"]


def test_values_files_are_passed_over() -> None:
    """YAML that is no object and does not look like one is no problem."""
    assert rendered({**FILES, "values.yaml": "image: x\nreplicas: 2\n"}).problems == []


def test_an_object_twice_is_a_problem() -> None:
    """Which one was meant only a person knows."""
    found = rendered({"a.yaml": config_map("a"), "z.yaml": config_map("a")})
    assert [problem.reason for problem in found.problems] == ["RepeatedResource"]


def test_links_are_refused_by_name() -> None:
    """Also a link that may be a folder, when recursion would enter it."""
    found = rendered(FILES, links={"l.yaml": "a symbolic link is not followed", "folder": "a submodule"}, recurse=True)
    assert sorted(problem.where for problem in found.problems) == ["p/folder", "p/l.yaml"]


@given(st.text("ab/.", max_size=8), st.text("ab/.*?", max_size=6))
def test_globs_without_brackets_agree_with_fnmatch(path: str, pattern: str) -> None:
    """`*` and `?` cross slashes in both."""
    assert matches(pattern, path) == (re.fullmatch(fnmatch.translate(pattern), path) is not None)


@given(st.text("ab", max_size=4), st.lists(st.text("ab*", max_size=3), min_size=1, max_size=4))
def test_braces_are_alternatives(path: str, parts: list[str]) -> None:
    assert matches("{" + ",".join(parts) + "}", path) == any(matches(part, path) for part in parts)


@pytest.mark.parametrize("pattern", ["*" * 500 + "b", "a*" * 200 + "b", "{a,b}" * 40, "[", "{", "{a", "\\"])
def test_no_glob_is_slow(pattern: str) -> None:
    """Hostile patterns cost milliseconds and match nothing."""
    started = time.process_time()
    assert not matches(pattern, "a" * 2000)
    assert time.process_time() - started < 2
