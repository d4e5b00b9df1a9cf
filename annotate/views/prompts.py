"""The prompts of a project: list and search, adding by paste or file, withdrawing."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate.addresses import posts_from
from annotate.forms.prompts import PromptsForm
from annotate.models import Kind, Prompt, Role, Split
from annotate.models.prompts import NUMBER
from annotate.permissions import ProjectRequest, role_required
from annotate.services import prompts, splits
from annotate.services.importing import sources
from annotate.services.text import search_term
from annotate.views.paging import Page, list_address

PAGE_SIZE = 50


@role_required(Role.ADMIN)
@require_safe
def index(request: ProjectRequest) -> HttpResponse:
    everything = request.project.prompts.all()
    query, split, like = (search_term(request.GET.get(name, "")) for name in ("q", "split", "like"))
    found = everything.active().matching(query) if query else everything.active()
    if split in Split.values:
        found = found.of_split(split)
    elif split == "near":
        found = found.near_duplicates()
    if like:
        number = int(like) if NUMBER.fullmatch(f"#{like}") else 0
        found = found.like(get_object_or_404(everything, pk=number))
    counts = everything.active().sides()
    page = Page(found, request, size=PAGE_SIZE)
    near = prompts.near_duplicates_of(page.rows)
    labels = prompts.label_counts(page.rows)
    answers, rankings = labels[Kind.DEMONSTRATION], labels[Kind.RANKING]
    context = {
        "page": page,
        "rows": [(prompt, near.get(prompt.pk), answers[prompt.pk], rankings[prompt.pk]) for prompt in page],
        "query": query,
        "split": split,
        "like": like,
        "counts": counts,
        "split_warning": splits.warning(request.project, **counts),
        "withdrawn_count": everything.withdrawn().count(),
    }
    return render(request, "annotate/prompts/index.html", context)


@role_required(Role.ADMIN)
@require_http_methods(["GET", "POST"])
def add(request: ProjectRequest) -> HttpResponse:
    form = PromptsForm(request.POST, request.FILES) if request.method == "POST" else PromptsForm()
    if not (form.is_bound and form.is_valid()):
        return render(request, "annotate/prompts/add.html", {"form": form}, status=422 if form.is_bound else 200)
    source: sources.Source = form.cleaned_data["source"]
    context = {"imported": prompts.add(request.project, source.records, actor=request.user), "is_list": source.is_list}
    return render(request, "annotate/prompts/imported.html", context)


@role_required(Role.ADMIN)
@posts_from("annotate:prompts", "slug")
def withdraw(request: ProjectRequest, pk: int) -> HttpResponse:
    prompt = get_object_or_404(Prompt.objects.for_user(request.user).filter(project=request.project), pk=pk)
    prompts.withdraw(prompt, actor=request.user)
    messages.success(request, _("Withdrawn. No one is asked about it any more."))
    return redirect(list_address(request, "annotate:prompts", request.project.slug))
