"""Forms of the account page: who I am, and tokens for my programs."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.models import ApiToken, User


def time_zones() -> list[tuple[str, str]]:
    """Every zone of the IANA database, as a list of choices."""
    return [(name, name.replace("_", " ")) for name in sorted(available_timezones())]


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic class at run time
    time_zone = forms.ChoiceField(
        label=_("Time zone"), choices=time_zones, help_text=_("Times on every page are shown in this zone.")
    )

    class Meta:
        model = User
        fields = ("name", "time_zone")
        labels = {"name": _("Name")}
        help_texts = {"name": _("The name other people in your projects see.")}
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "name"})}


class TokenForm(forms.Form):
    name = forms.CharField(
        label=_("Name"), max_length=80, help_text=_("Names the program, so that you recognise it later.")
    )
    scopes = forms.MultipleChoiceField(
        label=_("May"),
        choices=ApiToken.Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        initial=[ApiToken.Scope.READ],
    )
    days = forms.TypedChoiceField(
        label=_("Works for"),
        coerce=int,
        initial=90,
        choices=[(7, _("7 days")), (30, _("30 days")), (90, _("90 days")), (365, _("a year"))],
    )

    def __init__(self, data: Any = None) -> None:
        # The page's other form has a name, too: two fields of one id would leave one without a label.
        super().__init__(data, auto_id="token_%s")
