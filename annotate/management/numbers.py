"""Numbers on the command line: each option says from where to where its number may be."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import TypeVar

LARGEST = 2**31 - 1  # that every database stores

Number = TypeVar("Number", int, float)


def between(least: Number, most: Number) -> Callable[[str], Number]:
    """The `type` of an option: a number like these two, not below the first and not above the second."""

    def number(text: str) -> Number:
        value = type(least)(text)
        if not least <= value <= most:
            raise ArgumentTypeError(f"{text} is not between {least} and {most}")
        return value

    return number


seed = between(0, 2**63 - 1)
share = between(0.0, 1.0)
