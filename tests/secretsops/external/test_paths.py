"""Property paths: the whole syntax on small documents, and hostile ones that cost an error at most."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsops.errors import InvalidManifest
from secretsops.external.paths import PATH_LIMIT, literally, lookup
from secretsops.external.rawjson import MISSING, decode, elements, encode, is_json, members, parse, quote, unquote

DOCUMENT = (
    '{"db":{"user":"bob","port":5432,"tls":true,"off":false,"none":null},'
    '"a.b":"dotted","list":[1,"two",{"k":"v"},[3,4]],'
    '"rows":[{"n":"a","x":1,"t":["p"]},{"n":"b","x":2,"t":[]},{"n":"c","t":["p","q"]}],'
    '"cfg":"{\\"in\\":1}","flag":"true"}'
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("db.user", "bob"),
        ("db.port", "5432"),
        ("db.none", ""),
        ("a\\.b", "dotted"),
        ("list.1", "two"),
        ("list.2.k", "v"),
        ("list.#", "4"),
        ("d?.us*", "bob"),
        ("rows.#.n", '["a","b","c"]'),
        ("rows.#.t.0", '["p","p"]'),
        ('rows.#(n=="b").x', "2"),
        ("rows.#(x>1).n", "b"),
        ("rows.#(x>=1)#.n", '["a","b"]'),
        ("rows.#(x<2)#|0.n", "a"),
        ("rows.#(x<=2)#|#", "2"),
        ("rows.#(x!=1).n", "b"),
        ("rows.#(n%?).n", "a"),
        ("rows.#(n!%a)#.n", '["b","c"]'),
        ("rows.#(x).n", "a"),
        ("rows.#(x==~null)#.n", '["c"]'),
        ("rows.#(x==~*)#.n", '["a","b"]'),
        ("rows.#(t.#(==q)).n", "c"),
        ("rows.#(n==z)#", "[]"),
        ('list.#(=="two")', "two"),
        ("[db.user,db.port]", '["bob",5432]'),
        ('{db.user,"p":db.port,"s":!"x"}', '{"user":"bob","p":5432,"s":"x"}'),
        ("db|user", "bob"),
        ("@this|db.user", "bob"),
        ("list|@reverse|1.k", "v"),
        ("db.@keys.0", "user"),
        ("db|@values|1", "5432"),
        ("list.@flatten.#", "5"),
        ('list.@flatten:{"deep":true}.4', "4"),
        ("rows.@join.n", "c"),
        ('rows|@join:{"preserve":true}|n', "a"),
        ("cfg.@fromstr.in", "1"),
        ("db.user.@tostr", '"bob"'),
        ("db.@ugly.@valid.user", "bob"),
        ("{a:rows.#.x}.@group", '[{"a":1},{"a":2}]'),
        ("@reverse.flag", "true"),
    ],
)
def test_a_path_leads_to_a_value(path: str, value: str) -> None:
    assert lookup(DOCUMENT, path).string() == value


@pytest.mark.parametrize(
    "path",
    [
        "nope",
        "db.nope",
        "db.user.x",
        "list.9",
        "list.-1",
        "list.x",
        "a.b",
        "rows.#(n==z).x",
        "rows.#(",
        "",
        "db.",
        "@none",
    ],
)
def test_a_path_that_leads_nowhere_gives_nothing(path: str) -> None:
    assert not lookup(DOCUMENT, path).exists


def test_truth_and_falsehood_are_compared_as_gjson_does() -> None:
    """`true` is above `false`, and `~true` takes what looks like truth."""
    document = '[{"v":true,"n":"t"},{"v":false,"n":"f"},{"v":"yes","n":"s"},{"v":1,"n":"1"},{"v":0,"n":"0"}]'
    found = {
        query: lookup(document, f"#(v{query})#.n").string()
        for query in ("==true", "!=true", ">false", ">=true", "<true", "<=false", "==~true", "==~false", "==~odd")
    }
    # A word is no number, and what is no number counts as 0 (strconv.ParseFloat's zero value).
    assert found == {
        "==true": '["t","0"]',
        "!=true": '["f","s","1"]',
        ">false": '["t","s","1"]',
        ">=true": '["t","s","1","0"]',
        "<true": '["f"]',
        "<=false": '["f","0"]',
        "==~true": '["t","1"]',
        "==~false": '["f","0"]',
        "==~odd": "[]",
    }


@pytest.mark.parametrize("modifier", ["@pretty", "@dig:x", "db.@pretty"])
def test_a_modifier_we_do_not_have_is_refused_by_name(modifier: str) -> None:
    with pytest.raises(InvalidManifest, match="not supported"):
        lookup(DOCUMENT, modifier)


def test_a_long_path_is_refused() -> None:
    with pytest.raises(InvalidManifest, match="characters"):
        lookup(DOCUMENT, "a" * (PATH_LIMIT + 1))


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ("[" * 100_000, "0.0.0"),
        ('{"a":' * 100_000, ".".join("a" * 500)),
        ("[" + "1," * 400_000 + "1]", "#(==2)#"),
        ("[" + "[1]," * 2_000 + "1]", "#.#.#.#.#"),
        ('{"' + "a" * 50_000 + '":1}', "*a*a*a*a*a*b"),
        ('{"' + "a" * 50_000 + '":1}', "*" + "a" * 900 + "b"),
        ('["' + '","'.join(["a" * 1000] * 1000) + '"]', "#(%*" + "a" * 500 + "b)#"),
        ('{"a":"' + "\\" * 100_001, "a"),
        ("[{}" + ",{}" * 3_000 + "]", "#(" * 200 + "a" + ")" * 200),
        ("{}", "[" * 500 + "]" * 500),
        ("{}", "@this|" * 170),
    ],
)
def test_hostile_input_costs_an_error_at_most(document: str, path: str) -> None:
    """Depth, width and patterns are bounded: an answer or a refusal, in seconds, never a crash."""
    began, refused = time.monotonic(), ""
    try:
        lookup(document, path)
    except InvalidManifest as error:
        refused = error.reason
    assert refused in {"", "PathTooCostly", "PathTooDeep", "PathTooLong"}
    assert time.monotonic() - began < 20


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1), json_values, min_size=1))
def test_every_key_is_found_under_its_own_name(body: dict[str, object]) -> None:
    """A path with every character escaped is the key itself, whatever it contains."""
    for name, value in body.items():
        escaped = "".join("\\" + char for char in name)
        document = json.dumps(body, ensure_ascii=False)
        found = lookup(document, escaped)
        assert json.loads(found.text) == value


@given(json_values)
def test_what_is_written_reads_back(value: object) -> None:
    """Go's spelling of JSON is JSON, and numbers survive as they were written."""
    text = encode(decode(json.dumps(value)))
    assert json.loads(text) == json.loads(json.dumps(value).encode("utf-8", "replace"))
    assert is_json(text)


@given(st.text())
def test_quoting_is_undone_by_unquoting(text: str) -> None:
    assert unquote(quote(text)) == text


@given(st.text(alphabet='{}[]",:\\ 1atrue', max_size=40), st.text(max_size=20))
def test_no_text_makes_the_walk_fail(document: str, path: str) -> None:
    """Whatever the document and the path, there is an answer or a refusal of ours."""
    list(members(document))
    list(elements(document))
    parse(document)
    with contextlib.suppress(InvalidManifest):
        lookup(document, path)


def test_values_do_not_print_themselves() -> None:
    """A found value shows kind and size, as everything that carries a secret."""
    assert "hunter2" not in repr(lookup('{"a":"hunter2"}', "a"))
    assert not MISSING.exists


def test_a_literal_name_is_one_key() -> None:
    assert lookup(DOCUMENT, literally("a.b")).string() == "dotted"


def test_a_document_nested_too_deeply_is_not_decoded() -> None:
    """Decoding recurses; 200 levels are more than any secret has."""
    assert decode("[" * 200 + "]" * 200)
    with pytest.raises(ValueError, match="nested"):
        decode('{"a":' * 201 + "1" + "}" * 201)
    assert decode('{"a":"' + "[" * 500 + '"}')
