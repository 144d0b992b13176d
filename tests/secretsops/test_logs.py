"""The log: to standard error, as text or JSON lines, without foreign texts."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from secretsops.logs import configure, fields


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    root.setLevel(level)


def test_text_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, message, fields; below the level nothing."""
    configure(level="info")
    logging.getLogger("x").debug("quiet")
    logging.getLogger("x").info("applied %s", "shop", extra=fields(count=3, app="a b", ok=True))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(' info applied shop count=3 app="a b" ok=True\n')
    assert err.count("\n") == 1


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, whatever the message holds."""
    configure(level="debug", style="json")
    logging.getLogger("a.b").warning("two\nlines", extra=fields(reason="R"))
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    told = json.loads(line)
    assert (told["level"], told["logger"], told["message"], told["reason"]) == ("warning", "a.b", "two\nlines", "R")
    assert told["time"].endswith("Z")


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_exception_is_named_and_not_quoted(capsys: pytest.CaptureFixture[str], style: str) -> None:
    """Class and place; the message of a foreign exception may carry values."""
    configure(style=style)
    try:
        int("canary-in-the-message")
    except ValueError:
        logging.getLogger("x").exception("failed")
    err = capsys.readouterr().err
    assert "canary" not in err
    assert "ValueError at test_logs.py:" in err


def test_libraries_do_not_talk(capsys: pytest.CaptureFixture[str]) -> None:
    """Their debug output carries headers and bodies."""
    configure(level="debug")
    for library in ("urllib3", "botocore", "kubernetes", "hvac", "git"):
        logging.getLogger(f"{library}.below").debug("canary")
        logging.getLogger(library).info("canary")
    assert capsys.readouterr().err == ""


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The last call counts."""
    configure()
    configure(level="error", style="json")
    logging.getLogger("x").warning("no")
    logging.getLogger("x").error("yes")
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert isinstance(logging.getLogger().handlers[0], logging.StreamHandler)
    assert sys.stderr is not None
