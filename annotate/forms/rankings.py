"""Ranking a slate: a place for every completion, ties and "cannot judge" included."""

from __future__ import annotations

from typing import Any, NamedTuple

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.forms.labels import LabelForm
from annotate.models import Completion
from annotate.services.rankings import dense_places, letters, same_text
from annotate.services.text import NOTE_LIMIT, is_id

CANNOT_JUDGE = "none"
AREAS = ("ranked", "unranked", "unjudged")  # of the board, from the top
FEW = 3  # answers: in a set this small, the order shown is often the one that is meant


class Card:
    """One completion as one annotator sees it: under a letter, with the radio buttons of its place."""

    def __init__(self, completion: Completion, letter: str, form: RankingForm) -> None:
        self.completion = completion
        self.letter = letter
        self.same = form.same_text[letter]  # the letters of the other answers with its text
        self.name = f"place-{completion.pk}"
        value = str(form[self.name].value() or "")
        self.place = value if value == CANNOT_JUDGE or value in map(str, form.places) else ""

    @property
    def area(self) -> str:
        return {"": "unranked", CANNOT_JUDGE: "unjudged"}.get(self.place, "ranked")

    @property
    def sort_key(self) -> tuple[int, int, str]:
        """Best first; then what has no place yet, then what cannot be judged."""
        place = int(self.place) if self.area == "ranked" else 0
        return AREAS.index(self.area), place, self.letter


class Area(NamedTuple):
    """Cards shown together: those with a place, those that wait for one, those that cannot be judged."""

    name: str
    cards: list[Card]


class RankingForm(LabelForm):
    """Places for `completions`, which come in the order in which this annotator sees them."""

    note = forms.CharField(label=gettext_lazy("Why? (optional)"), required=False, max_length=NOTE_LIMIT)
    is_confirmed = forms.BooleanField(required=False)  # yes, the order shown is the order meant

    def __init__(
        self, data: Any = None, *, completions: list[Completion], stored: dict[str, Any] | None = None
    ) -> None:
        self.completions = completions
        self.letters = letters([completion.pk for completion in completions])
        self.same_text = same_text({self.letters[completion.pk]: completion.text for completion in completions})
        super().__init__(data, stored=stored)
        for completion in completions:
            self.fields[f"place-{completion.pk}"] = forms.ChoiceField(
                choices=[*((str(n), n) for n in self.places), (CANNOT_JUDGE, 0)], required=False
            )

    @property
    def places(self) -> range:
        return range(1, len(self.completions) + 1)

    @property
    def cards(self) -> list[Card]:
        """Best first, as far as they have been placed."""
        cards = [Card(completion, self.letters[completion.pk], self) for completion in self.completions]
        return sorted(cards, key=lambda card: card.sort_key)

    @property
    def areas(self) -> list[Area]:
        cards = self.cards
        return [Area(name, [card for card in cards if card.area == name]) for name in AREAS]

    @property
    def is_incomplete(self) -> bool:
        return any(card.area == "unranked" for card in self.cards)

    @property
    def is_unconfirmed(self) -> bool:
        """Whether only the question "did you mean this order?" stands between the form and its submission."""
        return self.has_error("is_confirmed", code="unchanged")

    def clean(self) -> dict[str, Any]:
        chosen = {c.pk: self.cleaned_data.get(f"place-{c.pk}", "") for c in self.completions}
        missing = [self.letters[pk] for pk, place in chosen.items() if not place]
        if missing:
            raise forms.ValidationError(_("Not ranked yet: %(letters)s.") % {"letters": ", ".join(missing)})
        places = dense_places({pk: None if place == CANNOT_JUDGE else int(place) for pk, place in chosen.items()})
        is_unchanged = len(places) > FEW and list(places.values()) == list(self.places)
        if is_unchanged and not self.cleaned_data["is_confirmed"]:
            self.add_error("is_confirmed", forms.ValidationError(_("The order is unchanged."), code="unchanged"))
        note = self.cleaned_data.get("note", "")
        return {"submission_id": self.cleaned_data.get("submission_id"), "places": places, "note": note}

    def typed(self, stored: dict[str, Any]) -> dict[str, Any]:
        places = stored.get("places", {})
        if len(places) == len(self.completions):  # as long as one is missing, a hole may yet be filled
            places = dense_places(places)
        typed = {f"place-{pk}": CANNOT_JUDGE if place is None else str(place) for pk, place in places.items()}
        return {"note": stored.get("note", "")} | typed

    def draft(self) -> dict[str, Any]:
        chosen = {c.pk: self.data.get(f"place-{c.pk}", "") for c in self.completions}
        places = {
            str(pk): None if place == CANNOT_JUDGE else int(place)
            for pk, place in chosen.items()
            if place == CANNOT_JUDGE or (is_id(place) and int(place) in self.places)
        }
        return {"places": places, "note": self.data.get("note", "")}
