"""Recorded behaviour of External Secrets 2.9.0: property paths for each provider."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import pytest

from secretsops.errors import SecretsOpsError
from secretsops.external.select import select
from secretsops.secret import Plaintext
from tests.conformance.frame import parameters, root

SUITE = root() / "external-secrets"
DIALECTS = {"vault": "vault", "aws_secretsmanager": "aws", "aws_parameterstore": "aws"}


@cache
def _paths() -> dict[str, dict[str, Any]]:
    path = SUITE / "gjson" / "cases.json"
    return {case["name"]: case for case in json.loads(path.read_text())} if path.is_file() else {}


@pytest.mark.parametrize("case_id", parameters("external-secrets/gjson", _paths()))
def test_a_property_is_found_as_recorded(case_id: str) -> None:
    """The same bytes, the same absence, or an error where the peer had one; for every provider of the case."""
    case = _paths()[case_id.rpartition("/")[2]]
    expected = {name: _without_text(expect) for name, expect in case["expect"].items()}
    assert expected == {name: _look_up(case, DIALECTS[name]) for name in case["expect"]}


def _without_text(expect: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in expect.items() if key != "error_text"}


def _look_up(case: dict[str, Any], dialect: str) -> dict[str, Any]:
    document = Plaintext(case["json"].encode("utf-8", "surrogatepass"))
    try:
        found = select(document, case["path"], dialect)
    except SecretsOpsError:
        return {"error": True}
    return {"missing": True} if found is None else {"value_b64": base64.b64encode(found.reveal()).decode()}
