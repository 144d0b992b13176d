"""Which values a chart gets, from where, in which order."""

from __future__ import annotations

import pytest

from recovery.app import App, Helm, Parameter, Source
from recovery.environment import expanded
from recovery.helm import Files, template_of
from secretsops.errors import RenderFailed
from secretsops.ports import HelmTemplate

TREE = {
    "charts/web/Chart.yaml": b"name: web",
    "charts/web/values-b.yaml": b"b",
    "charts/web/values-a.yaml": b"a",
    "charts/web/env/prod/x.yaml": b"x",
    "shared.yaml": b"shared",
}
LENT = {"vals": {"env/prod.yaml": b"lent"}}


def asked(helm: Helm) -> HelmTemplate:
    source = Source(url="u", path="charts/web", tool="helm", helm=helm)
    app = App(name="web", namespace="argocd", source=source, destination="home")
    return template_of(app, source, Files(repository=TREE, lent=LENT), {"ARGOCD_APP_NAME": "web", "E": "prod"})


@pytest.mark.parametrize(
    ("files", "contents"),
    [
        (["values-b.yaml", "values-a.yaml"], [b"b", b"a"]),
        (["values-*.yaml"], [b"a", b"b"]),
        (["values-*.yaml", "values-a.yaml"], [b"b", b"a"]),
        (["values-a.yaml", "values-a.yaml"], [b"a"]),
        (["../../shared.yaml", "/shared.yaml"], [b"shared"]),
        (["env/**/*.yaml"], [b"x"]),
        (["env/$E/x.yaml", "$vals/env/prod.yaml"], [b"x", b"lent"]),
    ],
)
def test_value_files_in_order(files: list[str], contents: list[bytes]) -> None:
    """Globs by name, an explicit entry at its own place, repository root by `/`, other sources by `$ref`."""
    assert asked(Helm(value_files=tuple(files))).values == contents


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("none.yaml", "NoValueFile"),
        ("no-*.yaml", "NoValueFile"),
        ("../../../etc/passwd", "OutsideRepository"),
        ("https://example.com/v.yaml", "NotInGit"),
        ("$other/x.yaml", "NoValueFile"),
    ],
)
def test_a_value_file_that_is_not_in_git_is_refused(file: str, reason: str) -> None:
    """By name; only a missing one may be ignored."""
    with pytest.raises(RenderFailed) as caught:
        asked(Helm(value_files=(file,)))
    assert caught.value.reason == reason
    if reason == "NoValueFile":
        assert asked(Helm(value_files=(file,), ignore_missing_files=True)).values == []


def test_parameters_escape_commas_but_not_lists() -> None:
    """A comma is part of the value, braces make a list; forced texts go their own way."""
    given = [("a", "x,y", False), ("b", "{x,y}", False), ("c", "1", True)]
    helm = Helm(
        release="$ARGOCD_APP_NAME-x",
        values="v: 1",
        parameters=tuple(Parameter(name=name, value=value, as_text=text) for name, value, text in given),
        file_parameters=(("f", "../../shared.yaml"),),
    )
    found = asked(helm)
    assert found.sets == [("a", "x\\,y"), ("b", "{x,y}")]
    assert found.set_strings == [("c", "1")]
    assert found.set_files == [("f", b"shared")]
    assert (found.release, found.namespace, found.values) == ("web-x", "home", [b"v: 1"])


@pytest.mark.parametrize(
    ("text", "result"),
    [("$A-$B", "1-"), ("${A}b", "1b"), ("$$A", "$A"), ("$", "$"), ("a$1", "a"), ("${", "${"), ("x", "x")],
)
def test_variables_expand_as_in_go(text: str, result: str) -> None:
    """Unknown names are empty, `$$` is a dollar."""
    assert expanded(text, {"A": "1"}) == result
