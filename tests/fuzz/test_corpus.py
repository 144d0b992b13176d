"""Every input that once led the fuzzer somewhere new is dealt with: no crash, no hang, nothing told."""

from __future__ import annotations

import time

import pytest

from tests.fuzz.__main__ import SECOND, read
from tests.fuzz.targets import TARGETS, seeds


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_dealt_with(name: str) -> None:
    kept = read(name)
    assert kept, "python -m tests.fuzz --keep writes it"
    for content in [*seeds(name), *kept]:
        begun = time.thread_time()
        TARGETS[name](content)
        assert time.thread_time() - begun < SECOND, content[:100]
