"""Three-way merge and drift: what Git dropped goes, what Git says is set, what others added stays; nothing is shown."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drills.sandbox.embedded.patches import merge_patch
from recovery.app import IgnoreRule
from recovery.diff import apply_patch, changes, in_sync, last_applied_text, merge, quantity, with_last_applied
from recovery.marks import LAST_APPLIED
from secretsops.manifest import Manifest

SCALARS = st.one_of(st.text(max_size=3), st.integers(-3, 3), st.booleans())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=8,
)
DATA = st.dictionaries(st.sampled_from(["spec", "data", "extra"]), VALUES, max_size=3)


def widget(data: dict[str, Any], **annotations: str) -> Manifest:
    metadata = {"name": "a", "namespace": "n", "annotations": annotations}
    return Manifest({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, **copy.deepcopy(data)})


def deployment(*containers: dict[str, Any], last: Manifest | None = None) -> Manifest:
    annotations = {LAST_APPLIED: last_applied_text(last)} if last else {}
    return Manifest(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "n", "annotations": annotations},
            "spec": {"template": {"spec": {"containers": list(containers)}}},
        }
    )


@given(DATA, DATA)
def test_after_an_apply_nothing_is_left_to_apply(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The patch, applied by RFC 7386, brings the object in sync; a second patch is empty."""
    live = with_last_applied(widget(before))
    patch = apply_patch(live, widget(after))
    patched = Manifest(merge_patch(live.body, patch))
    assert in_sync(patched, widget(after))
    assert apply_patch(patched, widget(after)) == {}


@given(DATA, DATA)
def test_what_others_added_stays_and_what_git_dropped_goes(before: dict[str, Any], after: dict[str, Any]) -> None:
    """A field nobody in Git ever named survives; a top-level field that was dropped is gone."""
    live = with_last_applied(widget(before))
    live.body["foreign"] = {"kept": True}
    patched = merge_patch(live.body, apply_patch(live, widget(after)))
    assert patched["foreign"] == {"kept": True}
    assert set(before) - set(after) == {name for name in before if name not in patched}


@given(VALUES, VALUES, VALUES)
def test_merging_what_is_already_there_changes_nothing(last: Any, live: Any, wanted: Any) -> None:
    """Merge is idempotent: merging its own result again gives the same."""
    once = merge(last, live, wanted, keyed=True)
    assert merge(wanted, once, wanted, keyed=True) == once


def test_lists_of_named_parts_merge_by_name() -> None:
    """A sidecar injected by others stays, a container dropped from Git goes, a default field stays."""
    last = deployment({"name": "web", "image": "one"}, {"name": "old", "image": "x"})
    live = deployment(
        {"name": "web", "image": "one", "imagePullPolicy": "Always"},
        {"name": "old", "image": "x"},
        {"name": "sidecar", "image": "mesh"},
        last=last,
    )
    patch = apply_patch(live, deployment({"name": "web", "image": "two"}))
    assert patch["spec"]["template"]["spec"]["containers"] == [
        {"name": "web", "image": "two", "imagePullPolicy": "Always"},
        {"name": "sidecar", "image": "mesh"},
    ]


def test_ports_of_two_protocols_are_two_ports() -> None:
    """UDP 53 and TCP 53 do not melt into one."""
    ports = [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]
    live = deployment({"name": "dns", "ports": ports})
    assert in_sync(live, deployment({"name": "dns", "ports": list(reversed(ports))})) is False
    patch = apply_patch(live, deployment({"name": "dns", "ports": list(reversed(ports))}))
    assert patch["spec"]["template"]["spec"]["containers"][0]["ports"] == list(reversed(ports))


def test_a_patch_with_a_list_carries_the_version_it_was_made_from() -> None:
    """A merge patch replaces lists whole: a change in between must be a conflict."""
    live = deployment({"name": "web", "image": "one"})
    live.body["metadata"]["resourceVersion"] = "7"
    assert apply_patch(live, deployment({"name": "web", "image": "two"}))["metadata"]["resourceVersion"] == "7"


def test_last_applied_is_written_as_kubectl_writes_it() -> None:
    """Sorted, compact, HTML characters escaped, one line feed, without itself."""
    text = last_applied_text(widget({"data": {"b": "<&>", "a": "é"}}, **{LAST_APPLIED: "old", "x": "y"}))
    assert text.endswith("}\n")
    assert '"data":{"a":"é","b":"\\u003c\\u0026\\u003e"}' in text
    assert json.loads(text)["metadata"]["annotations"] == {"x": "y"}


@pytest.mark.parametrize(
    ("one", "two"),
    [("1", "1000m"), ("1Gi", "1024Mi"), ("0.5", "500m"), ("1e3", "1k"), (1, "1"), ("1Ei", "1152921504606846976")],
)
def test_quantities_of_one_value_are_equal(one: Any, two: Any) -> None:
    """The server rewrites quantities; that is no drift."""
    assert quantity(one) == quantity(two)
    sizes = [{"spec": {"resources": {"requests": {"cpu": value}}}} for value in (one, two)]
    assert in_sync(widget(sizes[0]), widget(sizes[1]))


@pytest.mark.parametrize("text", ["", "m", "1 Gi", "1Zi", "--1", None])
def test_what_is_no_quantity_is_none(text: Any) -> None:
    assert quantity(text) is None
    assert quantity("3M") == Decimal(3_000_000)


def test_secret_values_never_appear_in_changes() -> None:
    """Keys do, values do not, before or after, data or stringData."""
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
    live = Manifest({**body, "data": {"password": "b2xkLXZhbHVl"}})
    wanted = Manifest({**body, "stringData": {"password": "new-value"}})
    found = changes(live, wanted)
    assert [change.path for change in found] == ["data.password"]
    assert not any(value in repr(found) for value in ("old-value", "new-value", "b2xkLXZhbHVl", "bmV3LXZhbHVl"))


def test_ignored_fields_are_no_drift() -> None:
    """By JSON pointer, with escapes and list indexes; other objects of the kind keep their drift."""
    live, wanted = widget({"spec": {"a/b": [1, 2]}}), widget({"spec": {"a/b": [1, 3]}})
    rule = IgnoreRule(group="example.com", kind="Widget", pointers=("/spec/a~1b/1",))
    assert not in_sync(live, wanted)
    assert in_sync(live, wanted, [rule])
    assert not in_sync(live, wanted, [IgnoreRule(group="", kind="*", name="b", pointers=("/spec",))])


@pytest.mark.parametrize("empty", [{}, []])
def test_an_empty_field_that_the_server_does_not_store_is_no_difference(empty: object) -> None:
    """`data: {}` of a ConfigMap reads back absent; a value that is absent is a difference."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    assert changes(Manifest(body), Manifest({**body, "data": empty})) == []
    assert changes(Manifest(body), Manifest({**body, "data": {"a": "b"}})) != []
