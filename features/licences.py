"""Licences in money: a price for each tool, what is held of it, what can be recovered."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from features.switching import Course
from features.tools import ToolProfile

MONTHS = 12
_CURRENCY = re.compile(r"[A-Z]{3}")
_ASKED = re.compile(r"(?:(?P<tool>[^=\s]+)=)?(?P<amount>[^=\sA-Za-z]+)\s*(?P<currency>[A-Z]{3})?")


@dataclass(frozen=True)
class Price:
    """Of one licence a month. currency: three letters (ISO 4217)."""

    amount: float
    currency: str

    def __post_init__(self) -> None:
        if not 0 <= self.amount < math.inf:
            raise ValueError(f"licence-price: expected an amount of 0 or more, came {self.amount}")
        if _CURRENCY.fullmatch(self.currency) is None:
            raise ValueError(f"currency: expected three capital letters such as EUR, came {self.currency!r}")

    def yearly(self, seats: int | None) -> float | None:
        """What so many licences cost a year; None where it is not said how many."""
        return None if seats is None else round(seats * self.amount * MONTHS, 2)


def prices_of(
    tools: Mapping[str, ToolProfile], asked: Sequence[str] = (), *, currency: str = "EUR"
) -> dict[str, Price]:
    """The price by tool: what is asked for, else the tool profile's; no entry where neither is known.

    asked: `30` for every tool, `claude=20` for one, `cursor=32USD` in another currency than `currency`; the last word on
    a tool counts, and one about the tool more than one about all. Raises ValueError for anything else.
    """
    found = {
        name: Price(profile.licence_price, profile.licence_currency or currency)
        for name, profile in tools.items()
        if profile.licence_price is not None
    }
    own: dict[str, Price] = {}
    for text in asked:
        match = _ASKED.fullmatch(text.strip())
        amount = _number(match["amount"]) if match else None
        if match is None or amount is None:
            raise ValueError(
                f"licence-price: expected AMOUNT, TOOL=AMOUNT or TOOL=AMOUNT with a currency, came {text!r}"
            )
        price = Price(amount, match["currency"] or currency)
        if match["tool"] is None:
            found = dict.fromkeys(tools, price)
        elif match["tool"] in tools:
            own[match["tool"]] = price
        else:
            raise ValueError(f"licence-price: expected a tool of {', '.join(sorted(tools))}, came {match['tool']!r}")
    return found | own


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class Idle:
    """Licences that can be recovered, by what became of their people; None where that would tell of few."""

    course: Course
    seats: int | None


@dataclass(frozen=True)
class ToolLicences:
    """Of one tool. held, recoverable: None where that would tell of few. price: None where none is known."""

    tool: str
    held: int | None
    recoverable: int | None
    price: Price | None

    @property
    def yearly(self) -> float | None:
        """What the recoverable ones cost a year; None without a price."""
        return None if self.price is None else self.price.yearly(self.recoverable)


@dataclass(frozen=True)
class Licences:
    """held: seats now. recoverable: None where that would tell of few. idle: the same by what became of the people."""

    held: int
    recoverable: int | None
    idle: tuple[Idle, ...]
    tools: tuple[ToolLicences, ...]

    @property
    def yearly(self) -> dict[str, float]:
        """By currency, what the recoverable licences of all tools cost a year, as far as they and their price are said."""
        found: dict[str, float] = {}
        for one in self.tools:
            if one.price is not None and one.yearly is not None:
                found[one.price.currency] = found.get(one.price.currency, 0.0) + one.yearly
        return found

    @property
    def left_out(self) -> tuple[str, ...]:
        """The tools that are no part of `yearly`."""
        return tuple(one.tool for one in self.tools if one.yearly is None)

    @property
    def one_price(self) -> Price | None:
        """The price that all tools have in common."""
        prices = {one.price for one in self.tools}
        return prices.pop() if len(prices) == 1 else None
