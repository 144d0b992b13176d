"""Keys of the conformance corpus, loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsops.sealing.keys import KeyPair, read_key_pair
from tests.conformance.frame import HERE

KEYS = HERE / "corpus" / "sealed-secrets" / "keys"


@pytest.fixture(scope="session")
def key_folder() -> Path:
    """Give the folder of recorded keys."""
    return KEYS


def _pair(name: str) -> KeyPair:
    return read_key_pair((KEYS / name / "tls.key").read_bytes(), (KEYS / name / "tls.crt").read_bytes(), source=name)


@pytest.fixture(scope="session")
def alpha() -> KeyPair:
    """Give the oldest recorded key, RSA-4096."""
    return _pair("alpha")


@pytest.fixture(scope="session")
def bravo() -> KeyPair:
    """Give a newer recorded key, RSA-4096."""
    return _pair("bravo")


@pytest.fixture(scope="session")
def echo() -> KeyPair:
    """Give the recorded RSA-2048 key."""
    return _pair("echo2048")
