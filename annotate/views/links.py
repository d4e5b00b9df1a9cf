"""One-time links: GET shows what will happen, so that a previewing mail program uses nothing up; POST does it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from annotate.compression import shows_secret
from annotate.models import SignInLink, User
from annotate.services.people import links
from annotate.views.welcome import way_in


@shows_secret
@require_http_methods(["GET", "POST"])
def show(request: HttpRequest, secret: str) -> HttpResponse:
    try:
        link = links.find(secret)
        if request.method == "GET":
            return render(request, "annotate/links/show.html", {"link": link} | _membership(request, link))
        person = request.user if isinstance(request.user, User) else None
        user = links.consume(secret, signed_in=person)
    except links.LinkSpent:
        return render(request, "annotate/links/spent.html", status=410)
    except links.SignInFirst:
        return render(request, "annotate/links/sign_in_first.html", {"link": link}, status=409)
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    return _next_page(request, link, user)


def _membership(request: HttpRequest, link: SignInLink) -> dict[str, Any]:
    """What the page tells invited people who are members already: the member, and whether the role stays as it is.

    Nobody else is told: someone who is not signed in has the link, but need not be that person.
    """
    if not isinstance(request.user, User) or request.user.email != link.email:
        return {}
    member = request.user.memberships.active().filter(project=link.project).first()
    return {"member": member, "keeps_role": member.may(link.role)} if member else {}


def _next_page(request: HttpRequest, link: SignInLink, user: User) -> HttpResponse:
    if link.purpose == SignInLink.Purpose.PASSWORD_RESET:
        return redirect("account_set_password")
    if user.welcomed_at is None:
        return redirect("annotate:welcome")
    if link.project:
        member = user.memberships.active().get(project=link.project)
        welcome = _("Welcome to “%(project)s”. Your role is %(role)s.")
        messages.success(request, welcome % {"project": link.project, "role": member.get_role_display()})
        return redirect(way_in(member))
    return redirect(settings.LOGIN_REDIRECT_URL)
