"""The account page: name, time zone, password, API tokens; and what becomes of the tokens after a new password."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from annotate.addresses import posts_from
from annotate.compression import shows_secret
from annotate.forms.accounts import AccountForm, TokenForm
from annotate.models import ApiToken
from annotate.permissions import SignedInRequest
from annotate.services.people import accounts, tokens


@login_required
@require_http_methods(["GET", "POST"])
def account(request: SignedInRequest) -> HttpResponse:
    form = AccountForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        accounts.change(form.instance, changed=form.changed_data)
        messages.success(request, _("Saved."))
        return redirect("annotate:account")
    return _account_page(request, form, TokenForm(), status=422 if form.errors else 200)


@login_required
@posts_from("annotate:home")
def decline_password(request: SignedInRequest) -> HttpResponse:
    """Close the card that offers a password."""
    accounts.decline_password(request.user)
    return redirect("annotate:home")


@require_safe
@shows_secret
def who(request: HttpRequest) -> HttpResponse:
    """Who is signed in, for a page opened before someone signed in, and the CSRF token to continue with."""
    return JsonResponse({"person": request.user.pk, "token": get_token(request)})


@login_required
@posts_from("annotate:account")
@shows_secret
def make_token(request: SignedInRequest) -> HttpResponse:
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _account_page(request, AccountForm(instance=request.user), form, status=422)
    made = tokens.make(request.user, **form.cleaned_data)
    # Rendered, not redirected to: the secret is kept nowhere, not even in the session.
    return render(request, "annotate/accounts/token.html", {"made": made})


@login_required
@posts_from("annotate:account")
def revoke_token(request: SignedInRequest, pk: int) -> HttpResponse:
    token = get_object_or_404(ApiToken.objects.for_user(request.user), pk=pk)
    tokens.revoke(token, actor=request.user)
    messages.success(request, _("Token “%(name)s” revoked.") % {"name": token.name})
    return redirect("annotate:account")


@login_required
@require_http_methods(["GET", "POST"])
def check_tokens(request: SignedInRequest) -> HttpResponse:
    """Asked after a new password: tokens outlive it, so that programs continue, and so would an intruder's."""
    mine = ApiToken.objects.for_user(request.user).usable().order_by("-pk")
    if request.method == "GET":
        return render(request, "annotate/accounts/check_tokens.html", {"tokens": mine})
    chosen = {value for value in request.POST.getlist("token") if value.isascii() and value.isdigit()}
    revoked = [token for token in mine if str(token.pk) in chosen]
    for token in revoked:
        tokens.revoke(token, actor=request.user)
    if revoked:
        messages.success(
            request,
            ngettext("%(count)d token revoked.", "%(count)d tokens revoked.", len(revoked)) % {"count": len(revoked)},
        )
    return redirect("annotate:account")


def _account_page(request: SignedInRequest, form: AccountForm, token_form: TokenForm, *, status: int) -> HttpResponse:
    mine = ApiToken.objects.for_user(request.user).usable().order_by("-pk")
    context = {"form": form, "token_form": token_form, "tokens": mine}
    return render(request, "annotate/accounts/account.html", context, status=status)
