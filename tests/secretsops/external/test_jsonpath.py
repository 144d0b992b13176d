"""JSONPath of webhooks: what is found, what is not, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from secretsops.errors import InvalidManifest
from secretsops.external.jsonpath import PATH_LIMIT, look_up

DOCUMENT = {
    "data": {"user": "alice", "a.b": 1, "list": [{"name": "x", "v": 1}, {"name": "y", "v": 2}], "none": None},
    "deep": {"user": "bob"},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", DOCUMENT),
        ("$.data.user", "alice"),
        ("$['data'][\"user\"]", "alice"),
        ("$.data['a.b']", 1),
        ("$.data.list[1].name", "y"),
        ("$.data.list[-1].v", 2),
        ("$.data.list[*].v", [1, 2]),
        ("$.data.list.*.v", [1, 2]),
        ("$..user", ["alice", "bob"]),
        ('$.data.list[?(@.name == "x")].v', [1]),
        ("$.data.list[?(@.v != 1)].name", ["y"]),
        ("$.data.list[?(@.name)].v", [1, 2]),
        ("$.data.list[?(@.name == 'none')].v", []),
        ("$.data.none", None),
    ],
)
def test_what_is_there_is_found(path: str, found: Any) -> None:
    assert look_up(DOCUMENT, path) == (True, found)


@pytest.mark.parametrize("path", ["$.none", "$.data.user.more", "$.data.list[2]", "$.data[0]"])
def test_what_is_not_there_is_told(path: str) -> None:
    assert look_up(DOCUMENT, path) == (False, None)


@pytest.mark.parametrize(
    "path", ["", "data", "$.", "$[", "$.a[(@.length-1)]", "$" + ".a" * 100, "$." + "a" * PATH_LIMIT]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        look_up(DOCUMENT, path)
    assert caught.value.reason == "InvalidPath"


def test_a_path_that_looks_at_everything_many_times_ends() -> None:
    nested: Any = {}
    for _ in range(300):
        nested = {"a": nested, "b": [1] * 10}
    with pytest.raises(InvalidManifest):
        look_up(nested, "$..*..*..*")
