"""Forms of the members page."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.models import Project, Role, User


class InvitationForm(forms.Form):
    email = forms.EmailField(
        label=_("Email address"),
        max_length=User._meta.get_field("email").max_length,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices, initial=Role.ANNOTATOR)

    def __init__(self, data: Any = None, *, project: Project) -> None:
        super().__init__(data)
        self._project = project

    def clean_email(self) -> str:
        email = str(self.cleaned_data["email"]).lower()
        if User.objects.filter(email=email, is_active=False).exists():
            raise forms.ValidationError(_("This account is closed. A site admin can reopen it on the page “People”."))
        if member := self._project.members.active().filter(user__email=email).first():
            raise forms.ValidationError(
                _("%(name)s is already a member. Change the role in the list.") % {"name": member}
            )
        return email


class RoleForm(forms.Form):
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices)
