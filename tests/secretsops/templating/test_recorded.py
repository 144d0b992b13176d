"""Against Go: outputs recorded from text/template with sprig, and another engine over generated templates.

`recorded.json` holds what Go itself gave for each template (release and versions are named there). Texts of errors
are not compared: ours hold no values.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretsops.errors import TemplateFailed
from secretsops.templating import Template, argo_cd, as_go, external_secrets, sprig

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded.json").read_text())
DATA = {key: text.encode() for key, text in RECORDED["data"].items()}
SET = {**sprig(), **{name: external_secrets()[name] for name in ("toYaml", "fromYaml")}}


def rendered(text: str, *, strict: bool = True) -> bytes | None:
    try:
        return Template.parse(text, functions=SET, missing_key_fails=strict).render(DATA)
    except TemplateFailed:
        return None


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["template"][:60])
def test_go_gives_the_same(case: dict[str, Any]) -> None:
    """To the byte, and an error where Go has one."""
    expected = None if case.get("error") else case.get("output", "").encode()
    if "output_b64" in case:
        expected = base64.b64decode(case["output_b64"])
    assert expected == rendered(case["template"], strict=case.get("missingkey", "error") == "error")


# --- Another engine --------------------------------------------------------------------------------------

TEXTS = st.sampled_from(['"alice"', '"a,b,c"', '"héllo"', '""', '"x y"', '"12"', ".user", ".num"])
NUMBERS = st.sampled_from(["0", "1", "2", "7", "-3", "1.5"])
LISTS = st.sampled_from(["(list 1 2 3)", '(list "b" "a")', "(until 3)", '(splitList "," "x,y")'])
MAPS = st.sampled_from(['(dict "a" 1 "b" "x")', "(dict)"])
ANY = st.one_of(TEXTS, NUMBERS, LISTS, MAPS)
CALLS = st.one_of(
    st.tuples(st.sampled_from(["upper", "lower", "title", "trim", "quote", "b64enc", "sha256sum", "len"]), TEXTS),
    st.tuples(st.sampled_from(["add", "sub", "mul", "max", "min"]), NUMBERS, NUMBERS),
    st.tuples(st.sampled_from(["first", "last", "rest", "reverse", "len", "toJson"]), LISTS),
    st.tuples(st.sampled_from(["default", "print", "eq", "cat", "list", "dict"]), ANY, ANY),
    st.tuples(st.sampled_from(["toJson", "kindOf", "empty"]), ANY),
    st.tuples(st.just('printf "%v"'), ANY),
    st.tuples(st.sampled_from(["and", "or"]), ANY, ANY, ANY),
).map(" ".join)
TEMPLATES = st.one_of(
    CALLS.map(lambda call: f"{{{{ {call} }}}}"),
    st.tuples(CALLS, CALLS).map(lambda two: f"{{{{ if {two[0]} }}}}a{{{{ else }}}}{{{{- {two[1]} -}}}}  {{{{ end }}}}"),
    LISTS.map(lambda items: f"{{{{ range $i, $e := {items} }}}}{{{{ $i }}}}:{{{{ $e }}}} {{{{ end }}}}"),
)


@settings(max_examples=150, deadline=None)
@given(TEMPLATES)
def test_another_engine_gives_the_same(text: str) -> None:
    """gotpl, an engine of strangers; where it refuses or is known to differ there is nothing to compare."""
    gotpl = pytest.importorskip("gotpl")
    names = pytest.importorskip("gotpl.funcs.sprig.registry").text_func_map()
    functions = {name: names[name] for name in names if name not in {"env", "expandenv", "getHostByName"}}
    try:
        theirs = gotpl.Template(text, functions=functions).render({"user": "alice", "num": "42"})
    except Exception:  # noqa: BLE001 - its errors are its own
        return
    ours = rendered(text)
    if ours is not None:
        assert str(theirs).encode() == ours


# --- What templates are given ------------------------------------------------------------------------------


def test_plain_data_is_what_gos_json_decoder_gives() -> None:
    """Numbers are float64; a mapping of texts is a map[string]interface {}, one of bytes a map[string]string."""
    text = '{{ typeOf . }} {{ .n }} {{ typeOf .n }} {{ .l }} {{ .m.x }} {{ hasKey . "z" }}'
    data = {"n": 10_000_000, "l": [1, "a", None], "m": {"x": True}}
    assert Template.parse(text).render(data) == b"map[string]interface {} 1e+07 float64 [1 a <nil>] true false"
    assert Template.parse("{{ typeOf . }}").render({"a": b"x"}) == b"map[string]string"
    assert as_go({"a": (1, 2)}) == {b"a": [1.0, 2.0]}
    with pytest.raises(TemplateFailed):
        as_go({"a": object()})


def test_the_tables_are_as_the_kinds_of_template_have_them() -> None:
    """Each has its own functions, none reaches out."""
    assert {"toYaml", "pkcs12key", "hexdec"} <= set(external_secrets())
    assert {"toYaml", "fromYamlArray", "normalize", "slugify"} <= set(argo_cd())
    assert {"toYaml", "pkcs12key", "normalize"} & set(sprig()) == set()
    for table in (sprig(), external_secrets(), argo_cd()):
        assert {"env", "expandenv", "getHostByName"} & set(table) == set()


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ('{{ normalize "Feature/My_Branch.1" }}', b"feature-my-branch.1"),
        ('{{ slugify 10 true "Some Long Branch Name" }}', b"some-long"),
        ('{{ slugify 9 "Some Long Branch" }}', b"some-long"),
        ('{{ slugify "Ünïcode Näme" }}', b"unicode-name"),
        ('{{ fromYamlArray "[a, 1]" }}', b"[a 1]"),
    ],
)
def test_argo_cd_has_functions_of_its_own(text: str, made: bytes) -> None:
    """Names and slugs for branches."""
    assert Template.parse(text, functions=argo_cd()).render({}) == made


def test_delimiters_can_be_others() -> None:
    """As the flags of External Secrets allow."""
    assert Template.parse("[[ .a ]] {{ .a }}", left="[[", right="]]").render({"a": b"x"}) == b"x {{ .a }}"
