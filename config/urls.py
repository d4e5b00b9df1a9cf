"""Where each address leads. Every route has its row in tests/test_permissions.py."""

from allauth.account import views as allauth_views
from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

# The admin's own form would bypass the login throttle.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

# Of allauth only what people here use: sign-up is by invitation, forgotten passwords by a one-time link.
account_urls = [
    path("login/", allauth_views.login, name="account_login"),
    path("logout/", allauth_views.logout, name="account_logout"),
    path("inactive/", allauth_views.account_inactive, name="account_inactive"),
    path("password/change/", allauth_views.password_change, name="account_change_password"),
    path("password/set/", allauth_views.password_set, name="account_set_password"),
]

handler400 = "config.errors.bad_request"
handler403 = "config.errors.not_allowed"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"

urlpatterns = [
    path("", include("annotate.urls")),
    path("", include("training.urls")),
    path("api/v1/", include("annotate.api.urls")),
    path("api/v1/", include("training.api.urls")),
    path("account/", include(account_urls)),
    path("django-admin/", admin.site.urls),
]
