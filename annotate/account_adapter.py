"""How allauth is adapted: no sign-up page, our account page after a new password, and a limit on guesses per source."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest
from django.urls import reverse

from annotate.models import ApiToken, User


class InvitationOnlyAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Closes sign-up: people come in through a SignInLink."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        """A new password ends the other sessions, but no API token: people who have some are asked about them."""
        assert isinstance(request.user, User)  # these pages are behind the sign-in
        has_tokens = ApiToken.objects.for_user(request.user).usable().exists()
        return reverse("annotate:check-tokens" if has_tokens else "annotate:account")

    def set_password(self, user: User, password: str) -> None:
        """Store the password and nothing else: the whole row would reopen an account that is being closed."""
        user.set_password(password)
        user.save(update_fields=["password"])

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Failed guesses count by address and source together: wrong ones from elsewhere do not lock the owner out.

        Guesses at many addresses from one source are counted by the limit for each source (ACCOUNT_RATE_LIMITS).
        """
        key = super()._get_login_attempts_cache_key(request, **credentials)
        return f"{key}:{self.get_client_ip(request)}"
