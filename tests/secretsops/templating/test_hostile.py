"""What a stranger's template may cost, and what its errors may say."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest

from secretsops.errors import TemplateFailed
from secretsops.templating import Limits, Template, external_secrets

SECRET = b"hunter2-canary-4711"
DATA = {"secret": SECRET, "big": b"x" * 900_000, "json": b'{"a": [1, 2]}'}

COSTLY = {
    "a list without end": "{{ range until 1000000000 }}x{{ end }}",
    "a range without end": "{{ range 9223372036854775807 }}x{{ end }}",
    "a range that writes nothing": "{{ range 9223372036854775807 }}{{ end }}",
    "ranges in ranges": "{{ range until 9999 }}{{ range until 9999 }}{{ range until 9999 }}{{ end }}{{ end }}{{ end }}",
    "a gigabyte": '{{ repeat 1000000000 "x" }}',
    "a gigabyte in steps": '{{ $x := "xxxxxxxxxx" }}{{ range until 40 }}{{ $x = printf "%s%s" $x $x }}'
    "{{ end }}{{ $x }}",
    "an indent": '{{ indent 1000000000 "x" }}',
    "many wide lines": '{{ indent 100000 (repeat 100000 "\\n") }}',
    "a sequence": "{{ seq 1000000000 }}",
    "steps": "{{ untilStep 0 1000000000 1 }}",
    "wide": '{{ range until 100000 }}{{ printf "%999999d" 1 }}{{ end }}',
    "precise": '{{ range until 100000 }}{{ printf "%.999999f" 1.5 }}{{ end }}',
    "calls itself": '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}',
    "doubles itself": '{{ define "a" }}{{ template "a" . }}{{ template "a" . }}{{ end }}{{ template "a" . }}',
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "blocks": "{{ if true }}" * 5000 + "{{ end }}" * 5000,
    "actions": "{{ 1 }}" * 140_000,
    "spaces": "{{" + " " * 1_000_000,
    "else if": "{{ if false }}" + "{{ else if false }}" * 5000 + "{{ end }}",
    "holds itself": '{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ $d }}',
    "holds itself, as JSON": '{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ mustToJson $d }}',
    "holds itself, as YAML": '{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ toYaml $d }}',
    "holds itself, copied": '{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ deepCopy $d }}',
    "holds itself, compared": '{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ $e := dict }}'
    '{{ $_ := set $e "d" $e }}{{ deepEqual $d $e }}',
    "holds itself, merged": '{{ $d := dict }}{{ $_ := set $d "d" $d }}'
    '{{ merge $d (dict "d" (dict "d" $d)) | toJson | fail }}',
    "shares itself": "{{ $d := list 1 }}{{ range until 60 }}{{ $d = list $d $d }}{{ end }}{{ $d | mustToJson }}",
    "shares itself, printed": "{{ $d := list 1 }}{{ range until 60 }}{{ $d = list $d $d }}{{ end }}{{ $d }}",
    "shares itself, compared": "{{ $d := list 1 }}{{ $e := list 1 }}{{ range until 60 }}{{ $d = list $d $d }}"
    "{{ $e = list $e $e }}{{ end }}"
    "{{ deepEqual $d $e }}",
    "replaces by much": '{{ replace "x" (repeat 100000 "y") .big }}',
    "replaces nothing": '{{ replace "" (repeat 1000 "y") .big }}',
    "splits": '{{ splitList "" .big | len }}',
    "joins": "{{ $l := list }}{{ range until 9999 }}{{ $l = append $l $.big }}{{ end }}{{ join $.big $l }}",
    "wraps": '{{ range until 9999 }}{{ $x := wrapWith 1 "xxxxxxxxxx" $.big }}{{ end }}',
    "keys": '{{ range until 100 }}{{ genPrivateKey "ecdsa" }}{{ end }}',
    "digests": '{{ range until 100 }}{{ derivePassword 1 "long" "a" "b" "c" }}{{ end }}',
    "hashes": "{{ range until 100000 }}{{ $x := sha512sum $.big }}{{ end }}",
    "a pattern that backtracks": '{{ range until 1000 }}{{ $x := regexMatch "(x+x+)+y" $.big }}{{ end }}',
    "a pattern that grows": '{{ regexMatch "((((x{1,99}){1,99}){1,99}){1,99})" "x" | not | fail }}',
    "matches": '{{ range until 100 }}{{ $x := regexReplaceAll "x" $.big "$0$0$0$0" }}{{ end }}',
    "laughs": '{{ fromYaml "a: &a [x,x,x,x,x,x,x,x,x]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\\n'
    "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\\n"
    'g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]" | toJson | fail }}',
    "deep JSON": '{{ mustFromJson (repeat 100000 "[") }}',
    "deep YAML": '{{ fromYaml (repeat 100000 "[") | toJson | fail }}',
    "uniques": "{{ uniq (until 99999) }}",
    "randoms": "{{ randAlphaNum 1000000000 }}",
    "much output": "{{ range until 99999 }}{{ $.big }}{{ end }}",
    "much in a dict": "{{ $d := dict }}{{ range $i := until 99999 }}{{ range $j := until 99 }}"
    '{{ $_ := set $d (printf "%d-%d" $i $j) 1 }}{{ end }}{{ end }}',
    "titles": "{{ range until 9999 }}{{ $x := title $.big }}{{ end }}",
    "years": '{{ dateModify "2500000h" (toDate "2006" "9999") }}',
}


@pytest.mark.parametrize("template", COSTLY.values(), ids=COSTLY)
def test_a_costly_template_is_an_error_within_a_second(template: str) -> None:
    """Time is CPU time of this thread, so that a busy machine does not fail it."""
    began = time.thread_time()
    with pytest.raises(TemplateFailed) as caught:
        Template.parse(template, functions=external_secrets()).render(DATA)
    assert time.thread_time() - began < 1.0
    assert caught.value.reason in {"TemplateLimit", "TemplateFailed", "TemplateSyntax"}


@pytest.mark.parametrize(
    "template",
    [
        '{{ env "HOME" }}',
        '{{ expandenv "$HOME" }}',
        '{{ getHostByName "example.com" }}',
        '{{ lookup "v1" "Secret" "a" "b" }}',
    ],
)
def test_a_template_reaches_nothing_outside(template: str) -> None:
    """Environment, names and cluster are no functions."""
    with pytest.raises(TemplateFailed, match="not defined"):
        Template.parse(template, functions=external_secrets())


LEAKS = [
    "{{ fail .secret }}",
    "{{ .secret.field }}",
    "{{ range .secret }}{{ end }}",
    "{{ call .secret }}",
    "{{ index . .secret .secret }}",
    "{{ index (list 1) .secret }}",
    "{{ template .secret }}",
    "{{ dict .secret 1 | dig .secret .secret 5 }}",
    '{{ urlParse (printf "http://%%zz%s" .secret) }}',
    '{{ urlJoin (dict "userinfo" (printf "%%%s" .secret) ) }}',
    '{{ mustRegexMatch (printf "(%s" .secret) "x" }}',
    "{{ mustToDate .secret .secret }}",
    "{{ mustDateModify .secret now }}",
    "{{ semver .secret }}",
    '{{ semverCompare .secret "1.2.3" }}',
    "{{ mustFromJson .secret }}",
    "{{ decryptAES .secret .secret }}",
    "{{ pkcs12key .secret }}",
    "{{ pkcs12certPass .secret .secret }}",
    '{{ filterPEM "CERTIFICATE" .secret }}',
    "{{ filterCertChain .secret .secret }}",
    "{{ jwkPublicKeyPem .secret }}",
    '{{ jwkPrivateKeyPem (dict "kty" "RSA" "n" .secret "e" .secret | toJson) }}',
    '{{ rsaDecrypt .secret "SHA256" .secret .secret }}',
    '{{ rsaDecrypt "RSA-OAEP" "SHA256" .secret .secret }}',
    "{{ buildCustomCert .secret .secret }}",
    "{{ buildCustomCert (b64enc .secret) (b64enc .secret) }}",
    '{{ genSelfSignedCert "a" (list .secret) (list) 1 }}',
    '{{ genSelfSignedCert "a" nil (list .secret .secret 5) 1 }}',
    '{{ genSignedCert "a" nil nil 1 .secret }}',
    "{{ genCAWithKey .secret 1 .secret }}",
    "{{ toString .secret | lt 1 }}",
    "{{ eq .secret 1 }}",
    "{{ first .secret }}",
    "{{ slice .secret 1 }}",
    "{{ concat .secret }}",
    "{{ atoi .secret | index (list) }}",
    "{{ until .secret }}",
    "{{ substr 100 200 .secret }}",
    "{{ repeat -1 .secret }}",
    "{{ certSANs .secret }}",
    "{{ pemToPkcs12 .secret .secret }}",
    "{{ divf .secret .secret }}",
    "{{ set . .secret .secret }}",
    "{{ get (dict) 5 .secret }}",
    '{{ "hunter2-canary-4711" | 5 }}',
    '{{ fail "hunter2-canary-4711" }}',
    '{{ "hunter2-canary-4711\\q" }}',
    "{{ 'hunter2-canary-4711' }}",
    '{{ template "hunter2-canary-4711" }}',
    '{{ "hunter2-canary-4711',
    "hunter2-canary-4711 {{ end }}",
    '{{ define "hunter2-canary-4711" }}a{{ end }}{{ define "hunter2-canary-4711" }}b{{ end }}',
    "{{ randInt 5 5 | printf .secret }}",
    '{{ bcrypt (printf "%s\\x00" .secret) }}',
]


@pytest.mark.parametrize("template", LEAKS)
def test_no_error_holds_a_value(template: str) -> None:
    """Neither the message nor the hint, plain, encoded or digested, of any way to fail."""
    with pytest.raises(TemplateFailed) as caught:
        Template.parse(template, functions=external_secrets()).render(DATA)
    said = f"{caught.value} {caught.value.hint} {caught.value.problem}".lower()
    forms = [
        SECRET,
        base64.b64encode(SECRET),
        SECRET.hex().encode(),
        *(hashlib.new(name, SECRET).hexdigest().encode() for name in ("md5", "sha1", "sha256", "sha512")),
    ]
    assert [form for form in forms if form.decode().lower() in said] == []
    assert "canary" not in said


def test_a_template_never_prints_itself() -> None:
    """Its text may hold what should have been a secret."""
    template = Template.parse("hunter2")
    assert "hunter2" not in f"{template} {template!r}"


def test_the_limits_are_an_argument() -> None:
    """Whoever renders decides what it may cost."""
    template = Template.parse("{{ range until 50 }}x{{ end }}")
    assert template.render({}) == b"x" * 50
    with pytest.raises(TemplateFailed, match="more output"):
        template.render({}, limits=Limits(output_bytes=10))
    with pytest.raises(TemplateFailed, match="longer list"):
        template.render({}, limits=Limits(items=10))
