"""The members page: who takes part, as what; inviting and removing."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from annotate.addresses import posts_from
from annotate.compression import shows_secret
from annotate.forms.members import InvitationForm, RoleForm
from annotate.models import Member, Role, SignInLink
from annotate.models.members import MemberQuerySet
from annotate.permissions import ProjectRequest, role_required
from annotate.services.people import links, members

LAST_ADMIN = gettext_lazy("A project needs at least one admin who can sign in. Make someone else an admin first.")


@role_required(Role.ADMIN)
@require_safe
def index(request: ProjectRequest) -> HttpResponse:
    return _page(request, InvitationForm(project=request.project))


@role_required(Role.ADMIN)
@posts_from("annotate:members", "slug")
@shows_secret
def invite(request: ProjectRequest) -> HttpResponse:
    form = InvitationForm(request.POST, project=request.project)
    if not form.is_valid():
        return _page(request, form, status=422)
    made = links.make(
        **form.cleaned_data, purpose=SignInLink.Purpose.INVITATION, project=request.project, created_by=request.user
    )
    # Rendered, not redirected to: the secret is kept nowhere, not even in the session.
    address = request.build_absolute_uri(links.path_of(made.secret))
    back = reverse("annotate:members", args=[request.project.slug])
    return render(request, "annotate/members/link.html", {"made": made, "address": address, "back": back})


@role_required(Role.ADMIN)
@posts_from("annotate:members", "slug")
def revoke(request: ProjectRequest, pk: int) -> HttpResponse:
    invitations = SignInLink.objects.for_user(request.user).filter(project=request.project)
    link = get_object_or_404(invitations, pk=pk)
    links.revoke(link, actor=request.user)
    messages.success(request, _("The invitation for %(email)s is revoked.") % {"email": link.email})
    return _back(request)


@role_required(Role.ADMIN)
@posts_from("annotate:members", "slug")
def change_role(request: ProjectRequest, pk: int) -> HttpResponse:
    member = _member(request, pk)
    form = RoleForm(request.POST)
    if not form.is_valid():
        return _page(request, InvitationForm(project=request.project), status=422)
    try:
        members.change_role(member, role=form.cleaned_data["role"], actor=request.user)
        messages.success(request, _("%(name)s: %(role)s.") % {"name": member, "role": member.get_role_display()})
    except members.LastAdmin:
        messages.error(request, str(LAST_ADMIN))
    return _back(request)


@role_required(Role.ADMIN)
@posts_from("annotate:members", "slug")
def remove(request: ProjectRequest, pk: int) -> HttpResponse:
    """Remove a member; `labels=erase` also takes the labels out of training, those of a former member, too."""
    if request.POST.get("labels") == "erase":
        member, leave = get_object_or_404(_members(request).filter(erased_at=None), pk=pk), members.erase
        done = _("%(name)s is no longer a member, and the labels are removed.")
    else:
        member, leave = _member(request, pk), members.remove
        done = _("%(name)s is no longer a member.")
    name = str(member.user or member)
    try:
        leave(member, actor=request.user)
        messages.success(request, done % {"name": name})
    except members.LastAdmin:
        messages.error(request, str(LAST_ADMIN))
    return _back(request)


def _member(request: ProjectRequest, pk: int) -> Member:
    return get_object_or_404(_members(request).active(), pk=pk)


def _members(request: ProjectRequest) -> MemberQuerySet:
    return Member.objects.for_user(request.user).filter(project=request.project)


def _back(request: ProjectRequest) -> HttpResponse:
    return redirect("annotate:members", request.project.slug)


def _page(request: ProjectRequest, form: InvitationForm, *, status: int = 200) -> HttpResponse:
    everybody = request.project.members.all()
    invitations = request.project.invitations.usable()
    context = {
        "form": form,
        "members": everybody.active().select_related("user").order_by("role", "user__name", "user__email"),
        "former": everybody.former().select_related("user").order_by("-removed_at"),
        "invitations": invitations.select_related("created_by").order_by("-pk"),
        "roles": Role.choices,
    }
    return render(request, "annotate/members/index.html", context, status=status)
