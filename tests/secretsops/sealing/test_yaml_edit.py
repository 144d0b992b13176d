"""Editing YAML in place: only the entries asked for differ, whatever the file looks like."""

from __future__ import annotations

import difflib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from secretsops.errors import Refused
from secretsops.manifest import dump_all, load_values
from secretsops.sealing.yaml_edit import Tree, edit

FILE = """\
# who owns this: payments
---
apiVersion: v1   # a neighbour
kind: ConfigMap
metadata: {name: other}
---
kind: SealedSecret
apiVersion: bitnami.com/v1alpha1
metadata:
    name: db       # four blanks here
    namespace: shop
spec:
    # rotated each quarter
    encryptedData:
        # the user
        user: AgA1   # first
        password: >-
            AgB2

            AgB3
        # the end
        token: "AgC4"
    template:
        type: Opaque
# bye
"""


def changed_lines(before: str, after: str) -> list[str]:
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
    return [line[0] + " " + line[1:] for line in lines if not line.startswith("@@")]


def edited(text: str, tree: Tree, document: int = 0) -> str:
    return edit(text.encode(), {document: tree}).decode()


def items(**wishes: str | None) -> Tree:
    return {"spec": {"encryptedData": wishes}}


def test_only_the_changed_line_differs() -> None:
    assert changed_lines(FILE, edited(FILE, items(user="AgX"), 1)) == [
        "-         user: AgA1   # first",
        "+         user: AgX   # first",
    ]


def test_a_quoted_value_stays_quoted_and_a_folded_one_becomes_plain() -> None:
    assert changed_lines(FILE, edited(FILE, items(token="AgX", password="AgY"), 1)) == [
        "-         password: >-",
        "-             AgB2",
        "- ",
        "-             AgB3",
        "+         password: AgY",
        '-         token: "AgC4"',
        '+         token: "AgX"',
    ]


def test_an_item_is_added_and_another_removed() -> None:
    assert changed_lines(FILE, edited(FILE, items(zeta="AgZ", password=None), 1)) == [
        "-         password: >-",
        "-             AgB2",
        "- ",
        "-             AgB3",
        "+         zeta: AgZ",
    ]


def test_an_annotation_is_added_where_there_were_none() -> None:
    tree: Tree = {"metadata": {"annotations": {"secretsops.dev/sealed-with": "SHA256:a+b/c", "x": "true"}}}
    assert changed_lines(FILE, edited(FILE, tree, 1)) == [
        "+     annotations:",
        "+       secretsops.dev/sealed-with: SHA256:a+b/c",
        '+       x: "true"',
    ]


def test_a_sorted_mapping_stays_sorted() -> None:
    text = "a: {}\nspec:\n  b: x\n  d: x # d\n  # before f\n  f: x"
    assert edited(text, {"spec": {"e": "v", "g": "v"}}) == (
        "a: {}\nspec:\n  b: x\n  d: x # d\n  e: v\n  # before f\n  f: x\n  g: v"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spec:\n  e:\n    a: x\nz: 1\n", "spec:\n  e: {}\nz: 1\n"),
        ("spec: {e: {a: x}}\n", "spec: {e: {}}\n"),
        ('{"spec": {"e": {"a": "x"}}}\n', '{"spec": {"e": {}}}\n'),
    ],
)
def test_the_last_item_leaves_an_empty_mapping(text: str, expected: str) -> None:
    assert edited(text, {"spec": {"e": {"a": None}}}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "spec:\n  e:\n",
        "spec:\n  e: {}\n",
        "spec:\n  e:    # none yet\nz: 1\n",
        "spec:\n  e: null\n",
        "spec: {e: {}}\n",
        '{"spec": {"e": {}}}\n',
        '{\n  "spec": {\n    "e": {\n      "a": "x",\n      "z": "y"\n    }\n  }\n}\n',
        "spec: {e: {a: x, z: y}}\n",
        "spec:\r\n  e:\r\n    a: x\r\n",
        "spec:\n  e:\n    a: |\n      x\n      y\n\n\n# c\n",
        "? spec\n: e:\n    a: x\n",
        "spec:\n  e: &anchor\n    a: x\n",
        "\ufeffspec:\n  e:\n    a: x\n",
        "z: 日本 \U0001f600\nspec:\n  e:\n    a: x # ü\n",
        "spec:\n  e:\n    a:\n",
        "spec:\n  e:\n    'a': 'x'\n...\n---\nx: 1\n",
    ],
)
def test_shapes_people_write(text: str) -> None:
    """Adding, changing and removing give the data that was wanted in every shape."""
    result = edit(text.encode(), {0: {"spec": {"e": {"m": "AgM", "a": "AgA", "z": None}}}})
    before, after = list(load_values(text.encode())), list(load_values(result))
    assert after[0]["spec"]["e"] == {"a": "AgA", "m": "AgM"}
    assert after[1:] == before[1:]
    assert {key: value for key, value in after[0].items() if key != "spec"} == {
        key: value for key, value in before[0].items() if key != "spec"
    }
    assert text.startswith("\ufeff") == result.decode().startswith("\ufeff")
    assert ("\r\n" in text) == (b"\r\n" in result)


@pytest.mark.parametrize(
    "text",
    [
        "x: &a {k: v}\nspec: {e: *a}\n",
        "x: &a\n  k: v\nspec:\n  e:\n    <<: *a\n    a: y\n",
        "spec: {e: [1]}\n",
        "spec:\n  e:\n    a: [1]\n",
        "spec:\n  e:\n    a: &v x\n    b: *v\n",
    ],
)
def test_what_cannot_be_cut_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        edit(text.encode(), {0: {"spec": {"e": {"a": "AgA", "b": "AgB"}}}}, source="f.yaml")
    assert refused.value.reason == "CannotEdit"


def test_nothing_asked_for_changes_nothing() -> None:
    assert edited(FILE, items(user="AgA1", absent=None), 1) == FILE


def test_a_stream_of_json_objects_is_written_as_kubeseal_writes_it() -> None:
    one, two = {"spec": {"e": {"a": "x"}}}, {"z": "\U0001f600"}
    text = json.dumps(one) + json.dumps(two)
    result = edit(text.encode(), {0: {"spec": {"e": {"a": "y"}}}})
    assert list(load_values(result)) == [{"spec": {"e": {"a": "y"}}}, two]


KEYS = st.text("abcxyzAZ019-._", min_size=1, max_size=6)
DATA = st.dictionaries(KEYS, st.text("abc: #'\"\n{}yn01ü", max_size=12), max_size=5)


@given(
    DATA, st.dictionaries(KEYS, st.one_of(st.none(), st.text("Ag+/=yn0 :#'\n", max_size=9)), max_size=5), st.booleans()
)
def test_any_mapping_becomes_what_was_wanted(data: dict[str, str], wishes: dict[str, str | None], flow: bool) -> None:
    """Whatever we write, as YAML or JSON, is edited to the wanted data; an entry not asked for keeps its lines."""
    body: dict[str, Any] = {"a": "1", "spec": {"e": data, "o": {"k": "v"}}, "z": "2"}
    text = "# head\n" + (json.dumps(body, indent=2 if "a" in data else None) if flow else dump_all([body]))
    after = next(load_values(edit(text.encode(), {0: {"spec": {"e": wishes}}})))
    wanted = {key: value for key, value in (data | wishes).items() if value is not None}
    assert after == body | {"spec": {"e": wanted, "o": {"k": "v"}}}
