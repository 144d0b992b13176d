"""What `spec.target.template` makes of the values: precedence, sources, errors that hold none of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from secretsops.errors import InvalidManifest, SecretsOpsError, TemplateFailed, WorldFailed
from secretsops.external.template import Filled, fill, transformed
from secretsops.secret import Plaintext

VALUES = {"user": Plaintext(b"alice"), "pass": Plaintext(b"hunter2-canary")}
MAPS = {
    ("ConfigMap", "conf"): {"a": b"map {{ .user }}", "pairs": b"a: pairs {{ .user }}\nb: 5\nc: yes\nd:\n"},
    ("Secret", "held"): {"a": b"secret {{ .user }}"},
}


def texts(kind: str, name: str) -> Mapping[str, bytes] | None:
    return MAPS.get((kind, name))


def made(**body: Any) -> Filled:
    return fill(body, VALUES, texts)


def shown(filled: Filled) -> dict[str, str]:
    return {key: value.reveal().decode() for key, value in filled.values.items()}


def test_without_templates_of_data_the_values_come_along() -> None:
    """Metadata alone leaves the data as the provider has it; an empty template takes no label over."""
    filled = made(metadata={"labels": {"u": "{{ .user }}"}, "finalizers": ["a/b"]}, type="kubernetes.io/tls")
    assert shown(filled) == {"user": "alice", "pass": "hunter2-canary"}
    assert (filled.labels, filled.finalizers, filled.kind) == ({"u": "alice"}, ("a/b",), "kubernetes.io/tls")
    assert made() == Filled(values=VALUES)


def test_templates_take_the_place_of_values_and_merge_keeps_them() -> None:
    """`mergePolicy: Merge` lays templates over the values."""
    assert shown(made(data={"user": "x"})) == {"user": "x"}
    assert shown(made(data={"user": "x"}, mergePolicy="Merge")) == {"user": "x", "pass": "hunter2-canary"}


def test_later_sources_win_and_data_wins_over_all() -> None:
    """Inside one entry ConfigMap, Secret, literal; then the next entry; then `data`."""
    first = {
        "configMap": {"name": "conf", "items": [{"key": "a"}, {"key": "pairs", "templateAs": "KeysAndValues"}]},
        "secret": {"name": "held", "items": [{"key": "a"}]},
    }
    assert shown(made(templateFrom=[first])) == {"a": "secret alice", "b": "5", "c": "true", "d": ""}
    literal = {"literal": "a: literal"}
    assert shown(made(templateFrom=[first, literal]))["a"] == "literal"
    assert shown(made(templateFrom=[literal, first]))["a"] == "secret alice"
    assert shown(made(templateFrom=[literal], data={"a": "data"}))["a"] == "data"


def test_targets_are_data_labels_and_annotations_in_any_case() -> None:
    """Anything else is refused."""
    filled = made(templateFrom=[{"literal": "l: {{ .user }}", "target": "LABELS"}], metadata={"labels": {"l": "x"}})
    assert (filled.labels, dict(filled.values)) == ({"l": "x"}, {})
    with pytest.raises(InvalidManifest, match="invalid template target 'spec'"):
        made(templateFrom=[{"literal": "a: b", "target": "spec"}])


def test_a_source_that_is_not_there_may_come() -> None:
    """So trying again helps."""
    for entry in ({"configMap": {"name": "none", "items": []}}, {"secret": {"name": "held", "items": [{"key": "z"}]}}):
        with pytest.raises(WorldFailed) as caught:
            made(templateFrom=[entry])
        assert caught.value.retry


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"x": "{{ fail .pass }}"}},
        {"data": {"x": "{{ .pass.x }}"}},
        {"templateFrom": [{"literal": "{{ .pass }}"}]},
        {"templateFrom": [{"literal": "a: [{{ .pass }}"}]},
        {"templateFrom": [{"literal": "a: {b: {{ .pass }}}"}]},
        {"templateFrom": [{"literal": "a: {{ .pass }}", "valuesDecodingStrategy": "Base64"}]},
        {"metadata": {"annotations": {"x": "{{ atoi .pass .pass }}"}}},
    ],
)
def test_no_error_holds_a_value(body: dict[str, Any]) -> None:
    """Neither message nor hint; the key and the place are named."""
    with pytest.raises(SecretsOpsError) as caught:
        made(**body)
    said = f"{caught.value} {caught.value.hint}"
    assert "canary" not in said
    assert "could not apply template" in said


def test_templates_of_one_object_share_a_budget() -> None:
    """A thousand templates that each stay below the limits are one object that does not."""
    began = time.thread_time()
    with pytest.raises(InvalidManifest) as caught:
        made(data={f"k{number}": "{{ range until 9999 }}{{ end }}" for number in range(1000)})
    assert caught.value.reason == "TemplateLimit"
    assert time.thread_time() - began < 1.5


def test_a_key_is_made_anew_by_a_template() -> None:
    """`rewrite.transform`: `.value` is the key; what is missing renders `<no value>`, as with the peer."""
    assert transformed('{{ .value | upper | replace "-" "_" }}', "db-pass") == "DB_PASS"
    assert transformed("{{ .valu }}", "a") == "<no value>"
    with pytest.raises(TemplateFailed):
        transformed("{{ .value", "a")
