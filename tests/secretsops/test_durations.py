"""Go durations, read and printed as Go does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsops.durations import LIMIT, format_duration, parse_duration
from secretsops.errors import InvalidManifest


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0), ("+0", 0.0), ("1h30m", 5400.0), ("300ms", 0.3), ("-1.5h", -5400.0), ("+5s", 5.0), (".5s", 0.5),
        ("1.s", 1.0), ("2us", 2e-6), ("2µs", 2e-6), ("2μs", 2e-6), ("100ns", 1e-7), ("1h1h", 7200.0), ("0s", 0.0),
        ("720h", 2592000.0),
    ],
)  # fmt: skip
def test_durations_are_read(text: str, seconds: float) -> None:
    """Every unit, signs, fractions, repeated units."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "-", "+", "1", "1d", "s", "1 h", "h1", "1h 1m", "1h-1m", "--1s", ".s", "1e3s", "1H", "3000000h", "\u0661s"],
)
def test_what_is_no_duration(text: str) -> None:
    """Refused with a hint; Go refuses the same."""
    with pytest.raises(InvalidManifest) as caught:
        parse_duration(text)
    assert caught.value.reason == "InvalidDuration"
    assert "1h30m" in caught.value.hint


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.25, "250ms"), (1, "1s"), (1.5, "1.5s"), (90, "1m30s"), (3600, "1h0m0s"), (3661.001, "1h1m1.001s"),
        (-90, "-1m30s"), (0.0004, "0s"), (59.9996, "1m0s"),
    ],
)  # fmt: skip
def test_durations_are_printed(seconds: float, text: str) -> None:
    """As Go's `String`, to the millisecond."""
    assert format_duration(seconds) == text


@given(st.integers(-int(LIMIT), int(LIMIT)).map(lambda number: number / 1000))
def test_what_is_printed_reads_back(seconds: float) -> None:
    """To the millisecond."""
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=0.0011, rel=1e-9)
