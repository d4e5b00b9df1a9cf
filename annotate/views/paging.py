"""Newest first, a page at a time, by the last id seen: as quick on the last page as on the first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from urllib.parse import urlencode

from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from annotate.services.text import is_id

Row = TypeVar("Row", bound=Model)


class Page(Generic[Row]):
    """The rows below `?before=<id>`; `older` and `newest` are addresses, empty where there is nothing to go to."""

    def __init__(self, rows: QuerySet[Row], request: HttpRequest, *, size: int) -> None:
        before = request.GET.get("before", "")
        is_paged = is_id(before)
        if is_paged:
            rows = rows.filter(pk__lt=int(before))
        found = list(rows.order_by("-pk")[: size + 1])
        self.rows = found[:size]
        others = {key: value for key, value in request.GET.items() if key != "before"}
        self.newest = "?" + urlencode(others) if is_paged else ""
        self.older = "?" + urlencode(others | {"before": self.rows[-1].pk}) if len(found) > size else ""

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __bool__(self) -> bool:
        return bool(self.rows)


def list_address(request: HttpRequest, page: str, *args: str) -> str:
    """The way back to a list: its forms post to addresses that carry its search, its filter and where it was."""
    query = request.GET.urlencode()
    return reverse(page, args=args) + (f"?{query}" if query else "")
