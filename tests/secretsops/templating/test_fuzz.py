"""Anything may come as a template, and anything as the data of one: the answer is text or one kind of error."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secretsops.errors import TemplateFailed
from secretsops.templating import Limits, Template, external_secrets

CANARY = b"canary-5b1f"
LIMITS = Limits(seconds=0.5, steps=100_000, memory_bytes=8 * 1024 * 1024, keys=0, digests=0)

NAMES = sorted(external_secrets())
TOKENS = "{{ }} {{- -}} ( ) | . $ $x := = , if else end range with define template block break continue nil true '"
PIECES = st.one_of(
    st.sampled_from([*TOKENS.split(), '""', "``"]),
    st.sampled_from(
        [
            "{{ end }}",
            "{{ else }}",
            "{{/* c */}}",
            "{{ if .a }}",
            "{{ range .a }}",
            '{{ define "a" }}',
            '{{ template "a" . }}',
        ]
    ),
    st.sampled_from(
        [
            ".a",
            ".secret",
            "$.secret",
            "1",
            "-1",
            "1e9",
            "0x7fffffffffffffff",
            "'a'",
            "1i",
            '"%v"',
            '"\\xff"',
            "(list .secret)",
            "(dict .secret 1)",
        ]
    ),
    st.sampled_from(NAMES),
    st.text(max_size=5),
)
TEMPLATES = st.lists(PIECES, max_size=25).map(" ".join)
CALLS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.lists(
            st.sampled_from(
                [
                    ".secret",
                    ".a",
                    "1",
                    "-1",
                    "2.5",
                    "nil",
                    "true",
                    '"x"',
                    "(list .secret 1)",
                    "(dict .secret .a)",
                    "now",
                ]
            ),
            max_size=5,
        ),
    ).map(lambda call: " ".join([call[0], *call[1]])),
    min_size=1,
    max_size=4,
).map(lambda calls: f"{{{{ {' | '.join(calls)} }}}}")
BOUNDED = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(BOUNDED, max_examples=50_000)


def run(template: str, data: bytes) -> None:
    began = time.thread_time()
    failure: TemplateFailed | None = None
    try:
        made = Template.parse(template, functions=external_secrets(), limits=LIMITS)
        assert isinstance(made.render({"secret": CANARY, "a": data}, limits=LIMITS), bytes)
    except TemplateFailed as error:
        failure = error
    if failure is not None:
        assert "canary" not in f"{failure} {failure.hint}"
        assert failure.reason in {"TemplateSyntax", "TemplateFailed", "TemplateLimit"}
    assert time.thread_time() - began < 2.0


@BOUNDED
@given(TEMPLATES, st.binary(max_size=40))
def test_any_text_renders_or_is_an_error(template: str, data: bytes) -> None:
    """Tokens in any order."""
    run(template, data)


@pytest.mark.nightly
@LONG
@given(st.one_of(TEMPLATES, CALLS), st.binary(max_size=40))
def test_any_text_renders_or_is_an_error_many_times(template: str, data: bytes) -> None:
    """The same for hours."""
    run(template, data)


@BOUNDED
@given(CALLS, st.binary(max_size=40))
def test_any_call_gives_a_value_or_an_error(template: str, data: bytes) -> None:
    """Every function with arguments of any kind."""
    run(template, data)


@BOUNDED
@given(
    st.sampled_from(
        [name for name in NAMES if external_secrets()[name].parameters and not external_secrets()[name].variadic]
    ),
    st.lists(st.binary(max_size=60), min_size=5, max_size=5),
)
def test_any_bytes_are_taken_as_text(name: str, data: list[bytes]) -> None:
    """Every function on bytes of any kind where it wants a string."""
    parameters = external_secrets()[name].parameters
    arguments = [f"(index . `{at}`)" if kind in {"string", "any"} else "1" for at, kind in enumerate(parameters)]
    try:
        made = Template.parse(f"{{{{ {name} {' '.join(arguments)} }}}}", functions=external_secrets())
        made.render({str(at): value for at, value in enumerate(data)}, limits=LIMITS)
    except TemplateFailed:
        pass


@pytest.mark.parametrize("document", ["pkcs12", "pem", "json", "yaml", "jwk"])
@BOUNDED
@given(st.binary(max_size=200))
def test_documents_of_any_bytes(document: str, data: bytes) -> None:
    """What parses documents takes whatever comes, behind a beginning that looks right."""
    call, start = {
        "pkcs12": ("pkcs12cert", b"\x30\x82\x01\x00\x02\x01\x03\x30"),
        "pem": ('filterPEM "X"', b"-----BEGIN X-----\n"),
        "json": ("fromJson", b'{"a":'),
        "yaml": ("fromYaml", b"a: &a\n- "),
        "jwk": ("jwkPublicKeyPem", b'{"kty":"RSA","e":"AQAB","n":"'),
    }[document]
    run(f"{{{{ {call} .a }}}}", start + data)
