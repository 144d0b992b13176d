"""sprig's numbers: casts, int64 and decimal arithmetic, ranges (sprig v3.3.0 `numeric.go`, cast v1.7.0). Pure.

What never lives here: comparison, which is Go's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from secretsops.templating.constants import read_float, read_integer
from secretsops.templating.evaluator import Run
from secretsops.templating.formatting import show
from secretsops.templating.gotypes import Int64, IntSlice, wrap64
from secretsops.templating.signature import CallFailed, Function, function


def _from_float(number: float) -> int:
    """Give a float as int64 as amd64 converts it: what does not fit is the smallest integer."""
    if number != number or abs(number) >= 2**63:  # noqa: PLR0124 - NaN
        return -(2**63)
    return int(number)


def _without_zero_decimal(text: str) -> str:
    whole, dot, fraction = text.partition(".")
    return whole if dot and fraction and not fraction.strip("0") else text


def to_int(value: Any) -> int:
    """Give any value as an integer (`cast.ToInt64`): 0 where it is none."""
    if isinstance(value, bytes):
        text = _without_zero_decimal(value[:200].decode("utf-8", "replace"))
        number = read_integer(text)
        return number if number is not None and -(2**63) <= number < 2**63 else 0
    if type(value).__name__ in {"Duration", "Month", "Weekday"}:
        return 0 if type(value).__name__ == "Duration" else int(value)
    if isinstance(value, int):
        return wrap64(int(value))
    return _from_float(value) if isinstance(value, float) else 0


_WORDS = {"inf": math.inf, "infinity": math.inf, "nan": math.nan}


def to_float(value: Any) -> float:
    """Give any value as a float (`cast.ToFloat64`): 0 where it is none."""
    if isinstance(value, bytes):
        text = value[:1000].decode("utf-8", "replace")
        word = _WORDS.get(text.lower().lstrip("+-"))
        if word is not None and len(text) - len(text.lstrip("+-")) <= 1:
            return -word if text.startswith("-") else word
        return read_float(text) or 0.0
    if type(value).__name__ == "Duration":
        return 0.0
    return float(value) if isinstance(value, int | float) else 0.0


def _fold(first: int, values: tuple[Any, ...], combine: Callable[[int, int], int]) -> Int64:
    for value in values:
        first = wrap64(combine(first, to_int(value)))
    return Int64(first)


def _div(one: Any, other: Any) -> Int64:
    left, right = to_int(one), to_int(other)
    if not right:
        raise CallFailed("integer divide by zero")
    quotient = abs(left) // abs(right)
    return Int64(wrap64(quotient if (left < 0) == (right < 0) else -quotient))


def _mod(one: Any, other: Any) -> Int64:
    left, right = to_int(one), to_int(other)
    if not right:
        raise CallFailed("integer divide by zero")
    rest = abs(left) % abs(right)
    return Int64(-rest if left < 0 else rest)


def _decimals(name: str, first: Any, values: tuple[Any, ...]) -> float:
    """Compute in decimal, as shopspring/decimal does: exactly, division to 16 places."""
    import decimal

    context = decimal.Context(prec=4000, Emax=999999, Emin=-999999, rounding=decimal.ROUND_HALF_UP)
    total = _decimal(first, decimal.Decimal)
    for value in values:
        number = _decimal(value, decimal.Decimal)
        match name:
            case "add":
                total = context.add(total, number)
            case "sub":
                total = context.subtract(total, number)
            case "mul":
                total = context.multiply(total, number)
            case _:
                if not number:
                    raise CallFailed("decimal division by 0")
                total = context.quantize(context.divide(total, number), decimal.Decimal("1e-16"))
    return float(total) or 0.0  # a decimal has no negative zero


def _decimal(value: Any, make: Callable[[str], Any]) -> Any:
    number = to_float(value)
    if math.isnan(number) or math.isinf(number):
        raise CallFailed("no decimal for a number that is not finite")
    return make(repr(number))


def _extreme(choose: Callable[[float, float], float], first: Any, values: tuple[Any, ...]) -> float:
    result = to_float(first)
    for value in values:
        number = to_float(value)
        result = math.nan if math.isnan(result) or math.isnan(number) else choose(result, number)
    return result


def _round(value: Any, places: int, *on: float) -> float:
    limit = on[0] if on else 0.5
    try:
        power = math.pow(10, to_float(places))
    except OverflowError:
        power = math.inf
    digit = power * to_float(value)
    if math.isinf(digit) or math.isnan(digit):
        return digit / power if power else math.nan
    rounded = math.ceil(digit) if math.modf(digit)[0] >= limit else math.floor(digit)
    return rounded / power if power else math.nan


def _whole(round_it: Callable[[float], int], value: Any) -> float:
    number = to_float(value)
    return number if math.isinf(number) or math.isnan(number) else float(round_it(number))


def _steps(run: Run, start: int, stop: int, step: int) -> IntSlice:
    if (stop < start and step >= 0) or (stop >= start and step <= 0):
        return IntSlice()
    numbers = range(start, stop, step)
    run.meter.items((abs(stop - start) + abs(step) - 1) // abs(step))
    return IntSlice(numbers)


def _seq(run: Run, *parameters: int) -> bytes:
    if not 1 <= len(parameters) <= 3:
        return b""
    start = parameters[0] if len(parameters) > 1 else 1
    end = parameters[-1]
    step = parameters[1] if len(parameters) == 3 else -1 if end < start else 1
    increment = -1 if end < start else 1
    if len(parameters) == 3 and end < start and step > 0:
        return b""
    return " ".join(map(str, _steps(run, start, end + increment, step))).encode()


def _octal(run: Run, value: Any) -> Int64:
    text = show(value, run.meter)[:100].decode("utf-8", "replace")
    digits = text[1:] if text[:1] in "+-" else text
    if not digits or not digits.isascii() or not set(digits) <= set("01234567"):
        return Int64(0)
    number = int(text, 8)
    return Int64(number if -(2**63) <= number < 2**63 else 0)


def _atoi(text: bytes) -> int:
    digits = text[1:] if text[:1] in {b"+", b"-"} else text
    if not digits.isdigit() or len(digits) > 4000:
        return 0
    number = int(text)
    return max(-(2**63), min(2**63 - 1, number))


def random_int(run: Run, low: int, high: int) -> int:
    """Give a number from `low` to before `high`."""
    if high <= low:
        raise CallFailed("the range is empty")
    span = high - low
    return low + int.from_bytes(run.world.chance(16), "big") % span


TABLE: dict[str, Function] = {
    "atoi": function("string", _atoi),
    "int": function("any", to_int),
    "int64": function("any", lambda value: Int64(to_int(value))),
    "float64": function("any", to_float),
    "toDecimal": function("any", _octal, run=True),
    "seq": function("int...", _seq, run=True),
    "until": function("int", lambda run, count: _steps(run, 0, count, -1 if count < 0 else 1), run=True),
    "untilStep": function("int int int", _steps, run=True),
    "add1": function("any", lambda value: _fold(to_int(value), (1,), int.__add__)),
    "add": function("any...", lambda *values: _fold(0, values, int.__add__)),
    "sub": function("any any", lambda one, other: _fold(to_int(one), (other,), int.__sub__)),
    "mul": function("any any...", lambda first, *values: _fold(to_int(first), values, int.__mul__)),
    "div": function("any any", _div),
    "mod": function("any any", _mod),
    "randInt": function("int int", random_int, run=True),
    "add1f": function("any", lambda value: _decimals("add", value, (1,))),
    "addf": function("any...", lambda *values: _decimals("add", 0.0, values)),
    "subf": function("any any...", lambda first, *values: _decimals("sub", first, values)),
    "mulf": function("any any...", lambda first, *values: _decimals("mul", first, values)),
    "divf": function("any any...", lambda first, *values: _decimals("div", first, values)),
    "biggest": function("any any...", lambda first, *values: _fold(to_int(first), values, max)),
    "max": function("any any...", lambda first, *values: _fold(to_int(first), values, max)),
    "min": function("any any...", lambda first, *values: _fold(to_int(first), values, min)),
    "maxf": function("any any...", lambda first, *values: _extreme(max, first, values)),
    "minf": function("any any...", lambda first, *values: _extreme(min, first, values)),
    "floor": function("any", lambda value: _whole(math.floor, value)),
    "ceil": function("any", lambda value: _whole(math.ceil, value)),
    "round": function("any int float...", _round),
}
