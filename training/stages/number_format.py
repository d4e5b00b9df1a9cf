"""Numbers as people read them: without exponents, with a true minus sign, no more digits than count; and as they type
them.
"""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext

MINUS = "−"
SMALLEST = 0.0001  # that is written out


def number(value: float) -> str:
    """`value` as people read it: whole where it is whole, else with four digits that count, never with an exponent."""
    if value and abs(value) < SMALLEST:
        return gettext("under 0.0001") if value > 0 else gettext("just under 0")
    digits = ".4g" if abs(value) < 1000 and value % 1 else ".0f"
    return f"{value:{digits}}".replace("-", MINUS)


def typed(value: Any) -> str:
    """A setting as people type it: every digit, but 3e-6 for 3e-06 and 4 for 4.0."""
    if not isinstance(value, float):
        return str(value)
    digits, exponent, power = str(value).partition("e")
    return digits.removesuffix(".0") + (f"e{int(power)}" if exponent else "")


def percent(share: float, *, sign: str = "") -> str:
    """`share` in percent, with a decimal where it is small; `sign` as in a format: what is rounded to 0 has none."""
    value = share * 100
    text = f"{value:{sign}.1f}" if abs(value) < 10 else f"{value:{sign}.0f}"
    return _signed(text.removesuffix(".0")) + "%"


def decimal(value: float, *, sign: str = "") -> str:
    """`value` with two decimals; `sign` as in `percent`."""
    return _signed(f"{value:{sign}.2f}")


def _signed(text: str) -> str:
    return text.replace("-", MINUS) if text.strip("+-0.") else text.lstrip("+-")
