"""The records that a refusal or a finding is about, by the pages where people look at them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from annotate.models import Demonstration, Project, Prompt

DEMONSTRATIONS = "demonstrations"  # whose records the engine names by their own ids, and all others by their prompts'


class RecordLink(NamedTuple):
    """A record by its name, with the page that shows it: `url` is empty where none does any more."""

    label: str
    url: str


def prompts(project: Project, ids: Iterable[str], *, what: str) -> list[RecordLink]:
    """The prompts of records that the engine named, on the page where they can be read and withdrawn."""
    numbers = _numbers(ids)
    if what == DEMONSTRATIONS:
        of_label = dict(Demonstration.objects.filter(project=project, pk__in=numbers).values_list("pk", "prompt_id"))
        numbers = list(dict.fromkeys(of_label[number] for number in numbers if number in of_label))
    there = set(Prompt.objects.active().filter(project=project, pk__in=numbers).values_list("pk", flat=True))
    page = reverse("annotate:prompts", args=[project.slug])
    return [
        RecordLink(
            _("prompt %(number)d") % {"number": number},
            f"{page}?{urlencode({'q': f'#{number}'})}" if number in there else "",
        )
        for number in numbers
    ]


def demonstrations(project: Project, ids: Iterable[str]) -> list[RecordLink]:
    """The answers that people wrote, on the page where a reviewer reads and returns them."""
    return [
        RecordLink(
            _("answer %(number)d") % {"number": number},
            reverse("annotate:review", args=[project.slug, "demonstration", number]),
        )
        for number in _numbers(ids)
    ]


def _numbers(ids: Iterable[str]) -> list[int]:
    return [int(one) for one in ids if str(one).isdecimal()]
