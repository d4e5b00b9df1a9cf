"""The folders of BASE_MODELS_DIR: what a worker found in each, for site admins, who may have one examined again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Count
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate.addresses import fragment_of, posts_from
from annotate.permissions import SignedInRequest, site_admin_required
from training.forms.base_models import ContextForm
from training.models import Adoption
from training.rlhf.model_folder.findings import BLOCK
from training.services.registry import adoption_words, adoptions
from training.services.registry.adoptions import Folder
from training.services.registry.model_folders import Unreadable

MOVING = (adoption_words.NEW, adoption_words.CHANGED, *Adoption.LIVE)


@dataclass(frozen=True)
class Card:
    """A folder and its newest examination, in words."""

    folder: Folder
    projects: int = 0  # that go on with an adopted copy

    @property
    def key(self) -> str:
        """What its elements are named after: the name of a folder may hold any character."""
        return hashlib.sha256(self.folder.name.encode()).hexdigest()[:8]

    @property
    def is_moving(self) -> bool:
        return self.folder.state in MOVING

    @property
    def state(self) -> str:
        return str(adoption_words.STATES[self.folder.state])

    @property
    def tone(self) -> str:
        return adoption_words.TONES.get(self.folder.state, "")

    @property
    def why_not(self) -> str:
        return "" if self.folder.adopted else adoption_words.why_not(self.folder)

    @property
    def is_refused(self) -> bool:
        """Whether the findings say what `why_not` says."""
        return any(found.level == BLOCK for found in self.findings)

    @property
    def report(self) -> dict[str, Any]:
        return self.folder.report

    @property
    def findings(self) -> list[adoption_words.Remark]:
        return adoption_words.findings(self.report)

    @property
    def parameters(self) -> str:
        return adoption_words.parameters(self.report.get("parameters"))

    @property
    def context(self) -> str:
        return adoption_words.context(self.report)

    @property
    def template(self) -> str:
        return adoption_words.template(self.report)

    @property
    def template_notes(self) -> list[str]:
        return adoption_words.template_notes(self.report)

    @property
    def memory(self) -> list[tuple[str, int]]:
        return adoption_words.memory(self.report)

    @property
    def size(self) -> int:
        return sum(file["bytes"] for file in self.report.get("files", []))

    @property
    def wants_context(self) -> bool:
        """Whether the model's config names no context length, so that the operator may."""
        is_missed = any(finding.get("field") == "context" for finding in self.report.get("findings", []))
        return is_missed or self.report.get("context_source") == "operator"


@site_admin_required
@require_safe
def index(request: SignedInRequest) -> HttpResponse:
    """Every folder, and what is known of it."""
    found, used = adoptions.folders(), _projects_by_folder()
    context = {
        "cards": [Card(folder, used.get(folder.name, 0)) for folder in found],
        "gone": sorted(used.keys() - {folder.name for folder in found}),
        "is_waiting_for_worker": any(not folder.has_worker for folder in found),
    }
    return render(request, "training/base_models/index.html", context)


@site_admin_required
@require_safe
@fragment_of("training:base-models")
def live(request: SignedInRequest, folder: str) -> HttpResponse:
    """A folder's part of the page, which changes while a worker examines it."""
    try:
        found = adoptions.find(folder)
    except adoptions.UnknownFolder:
        return HttpResponse()  # it was removed meanwhile
    card = Card(found, _projects_by_folder().get(folder, 0))
    return render(request, "training/base_models/_folder.html", {"card": card})


@site_admin_required
@posts_from("training:base-models")
def examine(request: SignedInRequest, folder: str) -> HttpResponse:
    """Have a worker examine a folder again, perhaps with the context that the operator states."""
    form = ContextForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(map(str, form.errors["context"])))
        return redirect("training:base-models")
    try:
        context = form.cleaned_data["context"] if "context" in request.POST else adoptions.stated_context(folder)
        adoptions.ask(folder, context=context, asked_by=request.user)
    except adoptions.UnknownFolder as unknown:
        raise Http404 from unknown
    except (Unreadable, adoptions.UnderWay) as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, _("“%(name)s” is being checked again.") % {"name": folder})
    return redirect("training:base-models")


def _projects_by_folder() -> dict[str, int]:
    """How many projects go on with what was adopted from each folder."""
    chosen = Adoption.objects.filter(model_versions__isnull=False).order_by().values_list("folder")
    return dict(chosen.annotate(number=Count("model_versions__project", distinct=True)))
