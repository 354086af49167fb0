"""Amounts that are none: whatever is neither a sum of money nor a number of tokens, in the shapes in which it comes."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

_NOT_FINITE: list[Any] = [
    *(float(text) for text in ("nan", "inf", "-inf")),
    *(Decimal(text) for text in ("NaN", "-NaN", "sNaN", "NaN123", "Infinity", "-Infinity")),
    *("nan", "NaN", "-nan", "sNaN", "inf", "-inf", "+inf", "Infinity", "INFINITY", " inf "),
]
_NEGATIVE: list[Any] = [
    *(-1, -(2**31), -(2**62), -(2**63), -(10**30)),
    *(-1.0, -0.1, -5e-324, -1e300),
    *(Decimal(-1), Decimal("-0.000000001"), Decimal("-1e-30"), Decimal("-1e999")),
    *("-1", "-0.01", "-1e10", "\u2212 1"),
]
_RUBBISH: list[Any] = [
    *("", " ", "abc", "1,5", "1.5.2", "0x10", "1/2", "$5", "5 $", "five", "1e", "--1", "1 000"),
    *("½", "None", "null", "true", "\0", "1\0", "{}", "1;2", "\ud800"),
]
_TOO_LARGE: list[Any] = [
    *(2**62, 2**63 - 1, 2**63, 2**64, 10**30, 10**4_000),
    *(1e18, 1e300, 1.7976931348623157e308),
    *(Decimal(2**62), Decimal("1e18"), Decimal("1e30"), Decimal("1e999999")),
    *(str(2**62), "1e18", "1e400", "1e999999999999999999999", "9" * 5_000, "1" + "0" * 100),
]
_WRONG_TYPES: list[Any] = [
    *(True, False, 1j, Fraction(1, 2), b"1", bytearray(b"1"), memoryview(b"1")),
    *([], [1], (1,), {1}, {"a": 1}, range(3), object(), int, len, Path("1")),
    *(dt.date(2026, 1, 1), dt.timedelta(1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
]

BAD = [*_NOT_FINITE, *_NEGATIVE, *_RUBBISH, *_TOO_LARGE, *_WRONG_TYPES]
"""Bad as money and as a number of tokens."""

BAD_MONEY = [*BAD, Decimal("4611686018.427387904"), "4611686018.4273879031", 4_611_686_019, 1e17]
"""Those that are only too large for books in nano-dollars, too."""

BAD_COUNTS = [*BAD, 1.0, 0.0, "1", "0", Decimal(1), 2.5]
"""What may be money, but is no whole number, too."""
