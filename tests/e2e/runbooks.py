"""The runbooks of a README as programs: their shell blocks, in order, with the values of a test for the example's.

A runbook is a section `## Runbook: NAME` whose blocks are fenced as `sh`. Lines `export NAME=example` name what
differs from team to team; a test says the value of each, and forgets none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECTION = re.compile(r"^## Runbook: (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export ([A-Z_]+)=(.*)$", re.MULTILINE)


def runbooks(text: str) -> dict[str, list[str]]:
    """Give the blocks of every runbook of a README."""
    found = {}
    starts = list(_SECTION.finditer(text))
    for start in starts:
        rest = text[start.end() :]
        end = re.search(r"^## ", rest, re.MULTILINE)
        found[start[1]] = _BLOCK.findall(rest[: end.start()] if end else rest)
    return found


def filled(block: str, values: Mapping[str, str]) -> str:
    """Give a block with the exported examples replaced; an example nobody gave a value for is an error."""
    return _EXPORT.sub(lambda found: f"export {found[1]}={values[found[1]]}", block)
