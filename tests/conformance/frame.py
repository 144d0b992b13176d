"""The frame of the conformance tests: where the corpus is, how cases become tests, what may deviate.

A test asks for its cases and gets one parameter per folder (or per entry of a file), its id being suite, kind and
case: `sealed-secrets/cli/ns-flag`. The corpus root is `SECRETSOPS_CONFORMANCE`, else the recorded cases beside this
file. Deviations stand in `known_gaps.toml` and nowhere else:

    [gap]      id = "reason"                      expected failure; one that passes fails the run (strict)
    [better]   id = {compat = "why", ...}         our documented behaviour is asserted instead
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
UPSTREAM = HERE.parent.parent.parent / "shared" / "conformance"
"""The peers' own data files, read where they lie; never copied into the repository."""


def root() -> Path:
    """Give the corpus root."""
    return Path(os.environ.get("SECRETSOPS_CONFORMANCE") or HERE / "corpus")


def upstream(*parts: str) -> Path:
    """Give a folder of the peers' own data files; the test skips, saying so, where it is absent."""
    for base in (root(), UPSTREAM):
        if (folder := base.joinpath(*parts)).is_dir():
            return folder
    pytest.skip(f"{'/'.join(parts)} is not in this corpus; SECRETSOPS_CONFORMANCE names another")


@cache
def deviations() -> dict[str, Any]:
    """Give the tables of `known_gaps.toml`."""
    return tomllib.loads((HERE / "known_gaps.toml").read_text())


def better(case_id: str) -> dict[str, Any]:
    """Give what we do instead of the recorded behaviour, empty where we do the same."""
    found: dict[str, Any] = deviations().get("better", {}).get(case_id, {})
    assert not found or found.get("compat"), f"{case_id}: [better] needs its `compat` reason"
    return found


def parameters(prefix: str, names: Iterable[str], *, marks: Iterable[pytest.MarkDecorator] = ()) -> list[Any]:
    """Give one test parameter per case name, known gaps marked as strictly expected failures."""
    gaps = deviations().get("gap", {})
    found = []
    for name in names:
        case_id = f"{prefix}/{name}"
        gap = [pytest.mark.xfail(reason=gaps[case_id], strict=True)] if case_id in gaps else []
        found.append(pytest.param(case_id, id=case_id, marks=[*marks, *gap]))
    return found


def folders(prefix: str, *, marks: Iterable[pytest.MarkDecorator] = ()) -> list[Any]:
    """Give one test parameter (the case id) per case folder below `prefix` of the corpus."""
    base = root() / prefix
    names = sorted(entry.name for entry in base.iterdir() if entry.is_dir()) if base.is_dir() else []
    return parameters(prefix, names, marks=marks)


def folder(case_id: str) -> Path:
    """Give the folder of a case."""
    return root() / case_id
