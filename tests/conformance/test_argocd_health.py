"""Upstream's own cases of the health customisations that Argo CD 3.6 ships, read where they lie: verdict and message.

One test per kind. What is not ported stands in `known_gaps.toml` under `argocd/upstream-health/GROUP/KIND`; a kind that
upstream tests and that is neither passed nor listed fails. Inputs that are left out of the corpus are named there
(`omitted.txt`) and skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.argocd_engine import health
from tests.conformance.frame import UPSTREAM, parameters, root, upstream

SUITE = "argocd/upstream-health"
PENDING = ("Progressing", "Pending deletion")
"""Of an object that is being deleted upstream's test calls the script alone; the whole verdict says this."""


class _Loader(yaml.SafeLoader):
    """YAML with timestamps as text, as an API server hands them out."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _loader, node: node.value)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(), Loader=_Loader)
    return found


def _kinds() -> list[str]:
    for base in (root(), UPSTREAM):
        folder = base / SUITE
        if folder.is_dir():
            return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("health_test.yaml"))
    return ["absent"]


@pytest.mark.parametrize("case_id", parameters(SUITE, _kinds()))
def test_upstream_kinds_are_judged_as_upstream_tests_them(case_id: str) -> None:
    """Every input of a kind gets upstream's status and message."""
    base = upstream(*SUITE.split("/"))
    folder = base / case_id.removeprefix(f"{SUITE}/")
    omitted = set((base / "omitted.txt").read_text().splitlines())
    tests = [test for test in _read(folder / "health_test.yaml").get("tests") or [] if test.get("inputPath")]
    differing, judged = {}, 0
    for test in tests:
        path = (folder / test["inputPath"]).resolve()
        if str(path.relative_to(base.resolve())) in omitted or not path.is_file():
            continue
        body = _read(path)
        found = health({"object": body})
        wanted = (test["healthStatus"].get("status"), test["healthStatus"].get("message") or None)
        got = (found["status"], found.get("message") or None)
        judged += 1
        if got not in (wanted, PENDING if (body.get("metadata") or {}).get("deletionTimestamp") else wanted):
            differing[test["inputPath"]] = (wanted, got)
    if not judged:
        pytest.skip("every input of this kind is left out of the corpus")
    assert differing == {}
