"""Time zones: the list that a person is offered, by region, and which ones are accepted at all.

Each stands for its neighbours; the browser can offer another one, its own.
"""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

OFFERED: dict[str, tuple[str | Promise, tuple[str, ...]]] = {  # by the first part of a zone's name
    "Africa": (
        _("Africa"),
        ("Abidjan", "Accra", "Algiers", "Cairo", "Casablanca", "Johannesburg", "Lagos", "Nairobi", "Tunis"),
    ),
    "America": (
        _("America"),
        (
            "Anchorage", "Argentina/Buenos_Aires", "Bogota", "Caracas", "Chicago", "Denver", "Halifax", "Lima",
            "Los_Angeles", "Mexico_City", "New_York", "Phoenix", "Puerto_Rico", "Santiago", "Sao_Paulo", "St_Johns",
            "Toronto", "Vancouver",
        ),
    ),
    "Asia": (
        _("Asia"),
        (
            "Bangkok", "Dhaka", "Dubai", "Ho_Chi_Minh", "Hong_Kong", "Jakarta", "Jerusalem", "Karachi", "Kathmandu",
            "Kolkata", "Manila", "Riyadh", "Seoul", "Shanghai", "Singapore", "Taipei", "Tashkent", "Tehran", "Tokyo",
        ),
    ),
    "Australia": (_("Australia"), ("Adelaide", "Brisbane", "Darwin", "Perth", "Sydney")),
    "Europe": (
        _("Europe"),
        (
            "Amsterdam", "Athens", "Berlin", "Dublin", "Helsinki", "Istanbul", "Kyiv", "Lisbon", "London", "Madrid",
            "Moscow", "Paris", "Rome", "Stockholm", "Vienna", "Warsaw", "Zurich",
        ),
    ),
    "Pacific": (_("Pacific"), ("Auckland", "Fiji", "Honolulu")),
}  # fmt: skip
UTC = "UTC"
NO_PLACES = {"Factory", "localtime", "posixrules"}  # that some systems list
Choice = tuple[str, str]


@cache
def known() -> frozenset[str]:
    """Every zone that this server can show times in."""
    return frozenset(available_timezones() - NO_PLACES)


def choices(current: str = "") -> list[Choice | tuple[str, list[Choice]]]:
    """UTC, then the zones of each region, as a form's choices; `current` is among them in any case."""
    names = {f"{region}/{city}" for region, (_label, cities) in OFFERED.items() for city in cities} & known()
    names |= {current} & known()
    others = sorted(name for name in names if name.partition("/")[0] not in OFFERED and name != UTC)
    grouped = [
        (str(label), sorted((name, city(name)) for name in names if name.partition("/")[0] == region))
        for region, (label, _cities) in OFFERED.items()
    ]
    return [(UTC, UTC), *((name, city(name)) for name in others), *grouped]


def city(name: str) -> str:
    """The place that a zone is named after: people find it by typing its first letters."""
    return name.rpartition("/")[2].replace("_", " ")
