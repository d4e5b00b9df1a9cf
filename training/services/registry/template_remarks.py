"""What is said at an import about prompts that the base model's chat template does not take.

They stay in the project: each round leaves them out and counts them in its plan. Here it is said once, to the person
who imports them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import ngettext

from annotate.models import Project
from training.models import Adoption, ModelVersion, TrainingSettings
from training.services.registry import adoptions

if TYPE_CHECKING:
    from annotate.services.importing.reports import Shapes


def remarks(project: Project, shapes: Shapes) -> list[str]:
    """A sentence for each kind of prompt among those imported that the template refuses."""
    template = _template(project)
    if not template:
        return []
    found = []
    if shapes.with_system and not template["system"]:
        found.append(_system(shapes.with_system))
    if shapes.with_two_users_in_a_row and template["alternates"]:
        found.append(_two_users(shapes.with_two_users_in_a_row))
    if shapes.with_two_assistants_in_a_row and template["alternates"]:
        found.append(_two_assistants(shapes.with_two_assistants_in_a_row))
    if shapes.beginning_with_assistant and not template["begins_with_assistant"]:
        found.append(_begins_with_assistant(shapes.beginning_with_assistant))
    return found


def _template(project: Project) -> dict[str, Any]:
    """What is known of the template; nothing for the built-in model, whose plain turns take everything."""
    adoption = _adoption(project)
    return (adoption.report.get("template") or {}) if adoption else {}


def _adoption(project: Project) -> Adoption | None:
    """Where the project's base model came from, or will come from."""
    base = ModelVersion.objects.bases().filter(project=project).select_related("adoption").last()
    if base:
        return base.adoption
    training = TrainingSettings.objects.filter(project=project).first()
    if training is None or training.base_model == TrainingSettings.TINY:
        return None
    try:
        return adoptions.adopted(training.base_model)
    except (adoptions.NotAdopted, adoptions.UnknownFolder):
        return None


def _system(number: int) -> str:
    return ngettext(
        "This project’s base model does not support system turns. %(number)d "
        "of these prompts has one: people can answer it, but rounds leave it out.",
        "This project’s base model does not support system turns. %(number)d "
        "of these prompts have one: people can answer them, but rounds leave them out.",
        number,
    ) % {"number": number}


def _two_users(number: int) -> str:
    return ngettext(
        "This project’s base model requires turns to alternate. %(number)d of "
        "these prompts has two user turns in a row, so rounds leave it out.",
        "This project’s base model requires turns to alternate. %(number)d of "
        "these prompts have two user turns in a row, so rounds leave them out.",
        number,
    ) % {"number": number}


def _two_assistants(number: int) -> str:
    return ngettext(
        "This project’s base model requires turns to alternate. %(number)d of "
        "these prompts has two assistant turns in a row, so rounds leave it out.",
        "This project’s base model requires turns to alternate. %(number)d of "
        "these prompts have two assistant turns in a row, so rounds leave them out.",
        number,
    ) % {"number": number}


def _begins_with_assistant(number: int) -> str:
    return ngettext(
        "This project’s base model does not support conversations that start with an assistant turn. "
        "%(number)d of these prompts does, so rounds leave it out.",
        "This project’s base model does not support conversations that start with an assistant turn. "
        "%(number)d of these prompts do, so rounds leave them out.",
        number,
    ) % {"number": number}
