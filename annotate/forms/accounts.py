"""Forms of the account page: who I am, and tokens for my programs."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.models import ApiToken, User
from annotate.services.people import time_zones


class TimeZoneField(forms.ChoiceField):
    """Offers about 70 zones by region and accepts every zone the server knows, since the browser may name another."""

    default_error_messages = {"invalid_choice": _("Unknown time zone “%(value)s”. Choose one from the list.")}

    def valid_value(self, value: str) -> bool:
        return value in time_zones.known()


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic class at run time
    time_zone = TimeZoneField(label=_("Time zone"), help_text=_("Times on every page are shown in this zone."))

    class Meta:
        model = User
        fields = ("name", "time_zone")
        labels = {"name": _("Name")}
        help_texts = {"name": _("The name other people in your projects see.")}
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "name"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["time_zone"]
        assert isinstance(field, TimeZoneField)
        field.choices = time_zones.choices(self["time_zone"].value())
        field.widget.attrs["data-time-zone"] = "offer"


class WelcomeForm(AccountForm):
    """The same for a newcomer: the name has to be given, and the browser's zone is chosen at first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].required = True
        self.fields["name"].error_messages["required"] = _("Enter your name.")
        self.fields["name"].widget.attrs["autofocus"] = True
        self.fields["time_zone"].widget.attrs["data-time-zone"] = "offer" if self.is_bound else "choose"


class TokenForm(forms.Form):
    name = forms.CharField(
        label=_("Name"), max_length=80, help_text=_("The program that uses it, so that you recognise it later.")
    )
    scopes = forms.MultipleChoiceField(
        label=_("Scopes"),
        choices=ApiToken.Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        initial=[ApiToken.Scope.READ],
    )
    days = forms.TypedChoiceField(
        label=_("Expires after"),
        coerce=int,
        initial=90,
        choices=[(7, _("7 days")), (30, _("30 days")), (90, _("90 days")), (365, _("1 year"))],
    )

    def __init__(self, data: Any = None) -> None:
        # The page's other form has a name, too: two fields of one id would leave one without a label.
        super().__init__(data, auto_id="token_%s")
