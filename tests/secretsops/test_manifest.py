"""YAML as the cluster's tools read it, and objects as views over untouched bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from secretsops import go_yaml
from secretsops.errors import InvalidManifest
from secretsops.manifest import (
    GroupVersionKind,
    Manifest,
    ObjectKey,
    dump,
    dump_all,
    load_all,
    load_values,
)
from secretsops.plain_yaml import DOCUMENT_LIMIT, read_plain, write_plain


def _value(text: str) -> Any:
    return next(iter(load_values(text.encode())))


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api_version", "group", "version"), [("v1", "", "v1"), ("apps/v1", "apps", "v1"), ("a.b/c/v1", "a.b/c", "v1")]
)
def test_api_versions_split_and_join(api_version: str, group: str, version: str) -> None:
    """The core group has no name."""
    kind = GroupVersionKind.of(api_version, "K")
    assert (kind.group, kind.version, kind.api_version) == (group, version, api_version)
    assert str(kind) == f"{api_version}/K"


def test_keys_print_for_people() -> None:
    """Group and namespace only where there are any."""
    assert str(ObjectKey("apps", "Deployment", "shop", "web")) == "apps/Deployment shop/web"
    assert str(ObjectKey("", "Namespace", "", "shop")) == "Namespace shop"


def test_a_manifest_is_a_view() -> None:
    """What is there is read, what is missing is empty, and nothing is added to the body."""
    body: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "other": [1]}
    manifest = Manifest(body)
    assert manifest.key == ObjectKey("apps", "Deployment", "", "a")
    assert (manifest.labels, manifest.annotations, manifest.spec, manifest.status) == ({}, {}, {}, {})
    assert (manifest.uid, manifest.resource_version, manifest.generation, manifest.namespace) == ("", "", 0, "")
    assert body == {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "other": [1]}


@pytest.mark.parametrize("body", [{}, {"metadata": None, "spec": []}, {"metadata": "x", "spec": "y", "status": None}])
def test_a_broken_body_reads_as_empty(body: dict[str, Any]) -> None:
    """Foreign objects may be anything; the views hold."""
    manifest = Manifest(body)
    assert (manifest.name, manifest.metadata, manifest.spec, manifest.status) == ("", {}, {}, {})
    assert (manifest.labels, manifest.annotations) == ({}, {})


def test_a_manifest_prints_its_key_alone() -> None:
    """Not its data; manifests compare by body and do not hash."""
    manifest = Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"k": "canary"}})
    assert repr(manifest) == "Manifest(Secret a)"
    assert "canary" not in f"{manifest}{[manifest]}"
    assert manifest == Manifest(dict(manifest.body))
    assert manifest != Manifest({})
    assert manifest != "Manifest(Secret a)"
    with pytest.raises(TypeError):
        hash(manifest)


# --- scalars -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True), ("on", True), ("y", True), ("Y", True), ("TRUE", True), ("no", False), ("n", False),
        ("off", False),
        ("017", 15), ("0o17", 15), ("0x1F", 31), ("0b11", 3), ("1_000", 1000), ("-7", -7), ("+7", 7), ("0", 0),
        ("1e3", 1000.0), ("1.5", 1.5), (".5", 0.5), ("-.inf", float("-inf")), ("1.", 1.0),
        ("12:30:45", "12:30:45"), ("2020-01-02", "2020-01-02"), ("2020-01-02T03:04:05Z", "2020-01-02T03:04:05Z"),
        ("~", None), ("null", None), ("Null", None), ("nUll", "nUll"), ("yEs", "yEs"),
        ("'yes'", "yes"), ('"1"', "1"), ("!!str 1", "1"), ("!!binary aGFsbG8=", "hallo"),
        ("1.2.3", "1.2.3"), ("1e", "1e"), ("0x", "0x"), ("=", "="), ("089", 89.0),
    ],
)  # fmt: skip
def test_scalars_follow_go_yaml(text: str, value: Any) -> None:
    """As sigs.k8s.io/yaml reads them: YAML 1.1 booleans and octals, no dates, no base 60."""
    found = _value(f"- {text}")[0]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_one() -> None:
    """`.nan` reads as the float."""
    assert _value(".nan") != _value(".nan")


def test_keys_are_strings() -> None:
    """As JSON has them: numbers, booleans and null become text."""
    assert _value("{1: a, true: b, null: c, 1.5: d, x: e}") == {
        "1": "a",
        "true": "b",
        "null": "c",
        "1.5": "d",
        "x": "e",
    }


def test_merge_keys_and_aliases() -> None:
    """`<<` lays defaults below, own keys win; an alias is a copy."""
    text = "base: &b {a: 1, b: 2}\nmore:\n  <<: *b\n  b: 3\nagain: *b\n"
    assert _value(text) == {"base": {"a": 1, "b": 2}, "more": {"a": 1, "b": 3}, "again": {"a": 1, "b": 2}}


# --- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"a: 1\nb: canary\na: 2\n", "line 3"),
        (b'{"a": 1, "a": "canary"}', ""),
        (b"a: {b: 1, b: canary}", "line 1"),
        (b"a: [canary\n", "line"),
        (b"a: 'canary\n", "line"),
        (b"a: !!python/object:os.system canary\n", "line 1"),
        (b"a: !unknown canary\n", "line 1"),
        (b"a: canary\n b: c\n", "line"),
        (b"\tcanary: 1\n", "line 1"),
        (b"a: *canary\n", "line 1"),
        (b"canary: \xff\xfe\n", "line 1"),
        (b"a: can\x00ary\n", ""),
        (b"? [a, b]\n: canary\n", "line 1"),
        (b"a: !!binary '\xc3\xa9 canary'\n", ""),
        (b"a: !!int canary\n", ""),
        (b"&a [canary, *a]\n", "line 1"),
    ],
)
def test_bad_yaml_is_refused_without_quoting_it(text: bytes, where: str) -> None:
    """Line and column where there are any; PyYAML's own messages would print the line, which may be a secret."""
    with pytest.raises(InvalidManifest) as caught:
        list(load_values(text, source="x.yaml"))
    assert where in caught.value.where
    assert caught.value.where.startswith("x.yaml")
    told = f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
    assert "canary" not in told
    assert caught.value.__suppress_context__


def test_a_billion_laughs_end_early() -> None:
    """Aliases count each time they are used."""
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(InvalidManifest, match="more than"):
        list(load_values("\n".join(rows).encode()))


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 50_000, "- " * 50_000])
def test_deep_nesting_costs_an_error(text: str) -> None:
    """Not the process: libyaml's composer recurses without a guard."""
    with pytest.raises(InvalidManifest) as caught:
        list(load_values(text.encode()))
    assert caught.value.reason == "InvalidYaml"


def test_much_space_is_not_much_depth() -> None:
    """A deeply indented line is one level."""
    assert _value("a:\n" + " " * 60_000 + "b: 1") == {"a": {"b": 1}}


def test_documents_are_counted() -> None:
    """A stream of too many is refused."""
    with pytest.raises(InvalidManifest) as caught:
        list(load_values(b"---\na: 1\n" * (DOCUMENT_LIMIT + 1)))
    assert caught.value.reason == "TooManyDocuments"


def test_long_numbers_are_refused() -> None:
    """Converting a number is quadratic in its digits."""
    with pytest.raises(InvalidManifest):
        _value("1" * 5000)


# --- objects -------------------------------------------------------------------------------------------


def test_a_stream_gives_its_objects() -> None:
    """Empty documents are skipped, lists expanded, JSON is YAML."""
    text = b"""\
---
apiVersion: v1
kind: Secret
metadata: {name: a}
---
# nothing
---
{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}]}
"""
    assert [str(each.key) for each in load_all(text)] == ["Secret a", "ConfigMap b"]
    assert [each.kind.kind for each in load_all(text, expand_lists=False)] == ["Secret", "List"]


def test_several_json_documents() -> None:
    """One after the other, as kubectl takes them."""
    text = b'{"apiVersion": "v1", "kind": "A"}\n{"apiVersion": "v1", "kind": "B"}\n'
    assert [each.kind.kind for each in load_all(text)] == ["A", "B"]


@pytest.mark.parametrize(
    "text", [b"just text", b"- a\n- b\n", b"kind: A\n", b"apiVersion: v1\n", b"apiVersion: 1\nkind: A\n"]
)
def test_what_is_no_object(text: bytes) -> None:
    """Named by its place in the stream."""
    with pytest.raises(InvalidManifest, match="x, document 1") as caught:
        load_all(text, source="x")
    assert caught.value.reason == "NotAnObject"


def test_a_byte_order_mark_is_no_text() -> None:
    """Windows editors write one."""
    assert list(load_values(b"\xef\xbb\xbfa: 1\n")) == [{"a": 1}]


# --- writing -------------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | _TEXT
_BODIES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(_TEXT, _BODIES, max_size=4))
def test_what_is_written_reads_back(body: dict[str, Any]) -> None:
    """Every string keeps being that string, whatever it looks like."""
    text = dump(body).encode()
    assert list(load_values(text)) == [body]


@pytest.mark.parametrize(
    "text", ["y", "no", "0o17", "017", "1e3", "1_000", "~", "null", "", "<<", "=", "12:30:45", "2020-01-02", "0x1f",
             "a\nb", "a\nb\n", " a", "a ", "\ta", "- a", "a: b", "#a", "a #b", "!a", "&a", "*a", "'", '"', "%a", "@a",
             "\x85", "\u2028", "\ufeff", "\x07", ".5", "é", "😀", "---", "...", "a\r\nb", "\n", "  \n a"],
)  # fmt: skip
def test_strings_that_look_like_something_else(text: str) -> None:
    """Quoted where YAML 1.1 or 1.2 would take them for another value."""
    assert list(load_values(dump({"k": text}).encode())) == [{"k": text}]


def test_writing_is_stable() -> None:
    """Sorted keys, block style, no aliases for shared parts."""
    shared = {"x": 1}
    assert dump({"b": shared, "a": shared}) == "a:\n  x: 1\nb:\n  x: 1\n"
    assert dump_all([{"a": 1}, {"b": 2}]) == "---\na: 1\n---\nb: 2\n"
    assert json.loads(json.dumps({"a": 1})) == next(iter(load_values(dump({"a": 1}).encode())))


# --- the short ways ------------------------------------------------------------------------------------

_WORD = st.text("aAyYnNoOeEtTrRuU019._/+=-:x ", max_size=6) | st.sampled_from(
    ["null", "Null", "true", "off", "y", "N", "AgAx+/=", "e5", "a" * 130, "name"]
)
_TREES = st.recursive(
    _WORD | st.booleans() | st.none() | st.integers(-9, 9),
    lambda below: st.dictionaries(_WORD, below, max_size=4) | st.lists(below, max_size=2),
    max_leaves=12,
)


@given(st.dictionaries(_WORD, _TREES, max_size=5))
def test_the_short_way_of_writing_gives_the_same_text(body: dict[str, Any]) -> None:
    """What is written without PyYAML is what PyYAML writes."""
    lines: list[str] = []
    if write_plain(body, "", lines):
        assert "".join(lines) == yaml.dump(
            body, Dumper=go_yaml._Dumper, sort_keys=True, default_flow_style=False, allow_unicode=True, width=2**30
        )
    assert list(load_values(dump(body).encode())) == [body]


@given(st.dictionaries(_WORD, _TREES, max_size=5), st.sampled_from(["", "# &\n", "# !\n", "# <<\n"]))
def test_the_short_way_of_reading_gives_the_same_data(body: dict[str, Any], head: str) -> None:
    """A comment with an anchor's sign sends the same text the general way."""
    text = yaml.safe_dump(body).encode()
    assert _read(b"# &\n" + text) == _read(head.encode() + text)


def _read(text: bytes) -> Any:
    """Give the data, or the reason why not."""
    try:
        return list(load_values(text))
    except InvalidManifest as error:
        return error.reason


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "{a: [{b: 1, b: 2}]}", "x: " + "[" * 200 + "]" * 200])
def test_the_short_way_refuses_as_the_long_one(text: str) -> None:
    """Duplicate keys and depth are refused whichever way reads them."""
    for head in ("", "# &\n"):
        with pytest.raises(InvalidManifest):
            list(load_values(head.encode() + text.encode()))


WORDS = st.sampled_from(
    [
        "a",
        "b",
        "c-d",
        "app.kubernetes.io/name",
        "y",
        "no",
        "null",
        "true",
        "1",
        "007",
        "1e3",
        ".5",
        "0x1f",
        "dmFsdWU=",
        "9Ab/+=",
        "a:b",
        "a:b:c",
        ":",
        "-",
        "---",
        "...",
        "#",
        "~",
        '"q"',
        "'q'",
    ]
)
LINES = st.tuples(
    st.sampled_from(["", "  ", "    ", "\t", "---", "# c"]), WORDS, st.sampled_from([":", ": ", ":  ", ""]), WORDS
)


@settings(max_examples=2000)
@given(st.lists(LINES.map("".join), max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_the_short_way_reads_what_the_general_way_reads(lines: list[str], end: str, last: bool) -> None:
    """Lines that look like mappings of words: either it is not read the short way, or it is read as the same."""
    text = end.join(lines) + (end if last else "")
    short = read_plain(text)
    if short is not None:
        assert short == list(go_yaml.read(text, source="", unique_keys=True))


@pytest.mark.parametrize(
    "text",
    [
        "a: b",
        "a: b\n\n# c\n  # d\nc:\n  d: e\n  f:\n      g: null\n  h: yes\ni: 9Ab+/=\n",
        "---\na: b\n---\nc: d/e:f\n",
    ],
)
def test_what_kubectl_prints_is_read_the_short_way(text: str) -> None:
    assert read_plain(text) == list(go_yaml.read(text, source="", unique_keys=True))
    assert read_plain("a: b\n--- \nc: d\n") is None


@pytest.mark.parametrize("depth", [125, 140, 990, 500_000])
def test_json_nests_no_deeper_than_yaml(depth: int) -> None:
    """One limit for both spellings, and never the interpreter's own."""
    head, tail = b'{"apiVersion": "v1", "kind": "X", "a": ', b"}"
    text = head + b'{"a": ' * depth + b"1" + b"}" * depth + tail
    spelled = [text, text.replace(b'"a"', b"a")] if depth < 1000 else [text]
    for each in spelled:
        if depth < 128:
            assert len(load_all(each)) == 1
        else:
            with pytest.raises(InvalidManifest, match="nested deeper than 128 levels"):
                load_all(each)
