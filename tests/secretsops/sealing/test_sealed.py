"""Secret to SealedSecret and back: placement, scopes, templates, refusals, silence about values."""

from __future__ import annotations

import base64
import traceback
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secretsops.errors import CannotUnseal, InvalidManifest, Refused, SecretsOpsError
from secretsops.manifest import Manifest
from secretsops.sealing.keys import KeyPair, KeyRing
from secretsops.sealing.scope import CLUSTER_WIDE, NAMESPACE_WIDE, Scope
from secretsops.sealing.sealed import Wishes, open_sealed, seal_secret
from secretsops.secret import SecretData

CANARY = "canary-7f3a9"


def secret(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "shop"},
        "stringData": {"user": CANARY},
    } | changes


def sealed_by(key: KeyPair, body: dict[str, Any], **wishes: Any) -> Manifest:
    return Manifest(seal_secret(body, key.certificate.public, Wishes(**wishes), default_namespace=lambda: ""))


names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
keys = st.text(alphabet="abcXYZ019-_.", min_size=1, max_size=20)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=names,
    namespace=names,
    scope=st.sampled_from(Scope),
    data=st.dictionaries(keys, st.text(max_size=50), min_size=1),
)
def test_a_secret_survives_sealing(
    echo: KeyPair, name: str, namespace: str, scope: Scope, data: dict[str, str]
) -> None:
    """Whatever is sealed opens to the same data, name, namespace and owner."""
    body = secret(metadata={"name": name, "namespace": namespace}, stringData=data)
    sealed = sealed_by(echo, body, scope=scope)
    opened = open_sealed(sealed, KeyRing([echo]))
    assert SecretData.of(body).encoded() == opened.secret.body["data"]
    assert (name, namespace) == (opened.secret.name, opened.secret.namespace)
    assert {echo.fingerprint} == set(opened.keys.values())
    assert scope is Scope.of(sealed.annotations)


@pytest.mark.parametrize(
    ("scope", "renamed", "moved"),
    [(Scope.STRICT, False, False), (Scope.NAMESPACE_WIDE, True, False), (Scope.CLUSTER_WIDE, True, True)],
)
def test_scopes_decide_what_a_rename_breaks(echo: KeyPair, scope: Scope, *, renamed: bool, moved: bool) -> None:
    """Strict binds name and namespace, namespace-wide the namespace, cluster-wide nothing."""
    for field, value, opens in (("name", "other", renamed), ("namespace", "else", moved)):
        sealed = sealed_by(echo, secret(), scope=scope)
        sealed.body["metadata"][field] = value
        if opens:
            assert value == open_sealed(sealed, KeyRing([echo])).secret.metadata[field]
        else:
            with pytest.raises(CannotUnseal):
                open_sealed(sealed, KeyRing([echo]))


def test_a_scope_annotation_added_later_does_not_open(echo: KeyPair) -> None:
    """The label comes from the object's own annotations, so widening after sealing fails; the template has no say."""
    sealed = sealed_by(echo, secret())
    sealed.body["metadata"]["annotations"] = {CLUSTER_WIDE: "true"}
    with pytest.raises(CannotUnseal):
        open_sealed(sealed, KeyRing([echo]))
    sealed = sealed_by(echo, secret())
    sealed.body["spec"]["template"]["metadata"]["annotations"] = {CLUSTER_WIDE: "true", NAMESPACE_WIDE: "true"}
    assert open_sealed(sealed, KeyRing([echo])).secret.name == "db"


@pytest.mark.parametrize(
    ("body", "wishes", "reason"),
    [
        (secret(kind="ConfigMap"), {}, "NotASecret"),
        (secret(kind="List"), {}, "NotASecret"),
        (secret(stringData={}), {}, "EmptySecret"),
        (secret(metadata={"namespace": "shop"}), {}, "NameMissing"),
        (secret(metadata={"name": "db"}), {}, "NamespaceMissing"),
        (secret(), {"namespace": "other"}, "NamespaceMismatch"),
        (secret(data={"a": CANARY + "!"}), {}, "InvalidBase64"),
        (secret(data=[CANARY]), {}, "InvalidSecret"),
        (secret(stringData={"n": 5}), {}, "InvalidString"),
        (secret(metadata={"name": "db", "namespace": "shop", "labels": {"a": 1}}), {}, "InvalidSecret"),
        (secret(type=[CANARY]), {}, "InvalidSecret"),
    ],
)
def test_bad_secrets_are_refused_without_their_values(
    echo: KeyPair, body: dict[str, Any], wishes: dict[str, Any], reason: str
) -> None:
    """Each refusal has a stable reason and quotes no value."""
    with pytest.raises(SecretsOpsError) as caught:
        sealed_by(echo, body, **wishes)
    assert reason == caught.value.reason
    assert CANARY not in "".join(traceback.format_exception_only(caught.value)) + caught.value.hint
    assert caught.value.__cause__ is None


def test_templates_see_items_and_each_others_text(echo: KeyPair) -> None:
    """An item wins over a template of its name, before and after; a missing name renders as Go has it."""
    sealed = sealed_by(echo, secret(stringData={"user": "alice", "same": "sealed"}))
    sealed.body["spec"]["template"]["data"] = {
        "url": "{{ .user }}@{{ .host }} {{ .same }} {{ .none }}",
        "host": "{{ upper .user }}",
        "same": "template",
        "none": None,
        "odd": "{{ randAlphaNum 8 }}",
    }
    opened = open_sealed(sealed, KeyRing([echo]))
    data = {key: base64.b64decode(text) for key, text in opened.secret.body["data"].items()}
    assert len(data.pop("odd")) == 8
    assert data == {
        "user": b"alice",
        "same": b"sealed",
        "host": b"ALICE",
        "url": b"alice@{{ upper .user }} sealed ",
        "none": b"",
    }
    assert opened.volatile == {"odd"}


@pytest.mark.parametrize(
    ("template", "reason", "told"),
    [
        ("{{ fail .a }}", "TemplateFailed", "template.data does not render (url)"),
        (f"{{{{ fail `{CANARY}` }}}}", "TemplateFailed", "template.data does not render (url)"),
        (f"x{{{{ .{CANARY} ", "TemplateSyntax", "template.data does not parse (url: 1:"),
        ("{{ range until 1000000000 }}{{ end }}", "TemplateLimit", "template.data asks for too much (url)"),
    ],
)
def test_a_broken_template_fails_the_whole_and_repeats_nothing(
    echo: KeyPair, template: str, reason: str, told: str
) -> None:
    """Neither value nor text; the place only where the text alone decides it."""
    sealed = sealed_by(echo, secret(stringData={"a": CANARY}))
    sealed.body["spec"]["template"]["data"] = {"url": template}
    with pytest.raises(InvalidManifest) as caught:
        open_sealed(sealed, KeyRing([echo]))
    assert (caught.value.reason, caught.value.message[: len(told)]) == (reason, told)
    assert CANARY not in caught.value.message + caught.value.hint


def test_one_bad_item_fails_the_whole_and_is_named(echo: KeyPair, bravo: KeyPair) -> None:
    """No partial Secret; the message names the items that failed and nothing else about them."""
    sealed = sealed_by(echo, secret(stringData={"a": CANARY, "b": CANARY, "c": CANARY}))
    foreign = sealed_by(bravo, secret(stringData={"b": CANARY}))
    items = sealed.body["spec"]["encryptedData"]
    items["b"] = foreign.body["spec"]["encryptedData"]["b"]
    with pytest.raises(CannotUnseal, match=r"^no key could decrypt secret \(b\)$"):
        open_sealed(sealed, KeyRing([echo]))
    items["c"] = CANARY + "!"
    with pytest.raises(InvalidManifest) as caught:
        open_sealed(sealed, KeyRing([echo]))
    assert CANARY not in str(caught.value)
    assert "(c)" in str(caught.value)


def test_the_deprecated_form_opens(echo: KeyPair) -> None:
    """`spec.data` is a whole Secret sealed as JSON; with items beside it, it is refused."""
    import json

    from secretsops.sealing import envelope
    from secretsops.secret import Plaintext

    text = json.dumps(secret(stringData=None, data={"a": "MQ=="}, type="Opaque")).encode()
    blob = envelope.seal(Plaintext(text), label=b"shop/db", public=echo.certificate.public)
    body = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"data": blob, "encryptedData": {}},
    }
    opened = open_sealed(Manifest(body), KeyRing([echo])).secret
    assert (opened.body["data"], opened.body["type"]) == ({"a": "MQ=="}, "Opaque")
    body["spec"] = {"data": blob, "encryptedData": {"a": blob}}
    with pytest.raises(Refused):
        open_sealed(Manifest(body), KeyRing([echo]))


def test_an_opened_secret_does_not_print_its_values(echo: KeyPair) -> None:
    """Representations of what was opened hold names and fingerprints only."""
    assert CANARY not in repr(open_sealed(sealed_by(echo, secret()), KeyRing([echo])))
