"""The choice of a base model: every folder of BASE_MODELS_DIR is listed, those that can be used can be picked."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from training.models import TrainingSettings
from training.services.registry import adoption_words, adoptions
from training.services.registry.adoptions import Folder

HELP = gettext_lazy(
    "The tiny model trains within minutes on a laptop. The choice is final once the model exists: later "
    "models are trained from it."
)


class FolderSelect(forms.Select):
    """A list in which what cannot be picked is shown, and greyed out."""

    blocked: frozenset[str] = frozenset()

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option = super().create_option(name, value, *args, **kwargs)
        if str(value) in self.blocked:
            option["attrs"]["disabled"] = True
        return option


class BaseModelField(forms.ChoiceField):
    """The name of a folder, or of the built-in model. `current` stays possible even if its folder is gone."""

    widget = FolderSelect

    def __init__(self, *, current: str, **options: Any) -> None:
        self.current = current
        self.folders = {folder.name: folder for folder in adoptions.folders()}
        choices = [(TrainingSettings.TINY, _("built-in tiny model"))]
        choices += [(name, _label(folder)) for name, folder in self.folders.items() if name != TrainingSettings.TINY]
        if current not in dict(choices):
            choices.append((current, current))  # its folder is gone; that is no reason to change the setting
        help_text = HELP if options.get("disabled") else _help(self.folders)
        super().__init__(choices=choices, help_text=help_text, **options)
        self.widget.blocked = frozenset(name for name in self.folders if self._refusal(name))

    def validate(self, value: Any) -> None:
        super().validate(value)
        if refusal := self._refusal(value):
            raise ValidationError(_("“%(name)s” cannot be used: %(why)s") % {"name": value, "why": refusal})

    def _refusal(self, name: str) -> str:
        folder = self.folders.get(name)
        if folder is None or name in (TrainingSettings.TINY, self.current) or folder.adopted:
            return ""
        return adoption_words.why_not(folder)


class ContextForm(forms.Form):
    """What an operator states of a model whose config says no context length."""

    context = forms.IntegerField(required=False, min_value=1, max_value=adoptions.LARGEST_CONTEXT)


def _label(folder: Folder) -> str:
    """One line, since a list on a phone has no more: why a folder failed stands below the list."""
    if folder.adopted:
        return f"{folder.name} · {adoption_words.facts(folder.adopted.report)}"
    return f"{folder.name} · {adoption_words.STATES[folder.state]}"


def _help(folders: dict[str, Folder]) -> SafeString:
    if all(folder.adopted for folder in folders.values()):
        return format_html("{}", HELP)
    left = [(name, adoption_words.why_not(folder)) for name, folder in folders.items() if not folder.adopted]
    items = format_html_join("", "<li><bdi>{}</bdi>: {}</li>", left)
    return format_html("{} {}<ul class='folders-left'>{}</ul>", HELP, _("Not available now:"), items)
