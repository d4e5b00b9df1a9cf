"""Checks of what Roundtable talks to: the broker, the address by which people come, the mail server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from celery import current_app
from django.conf import settings
from django.core.mail import get_connection
from django.http.request import validate_host
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from training.services.office.doctor.findings import Check, Finding, Level

PATIENCE_S = 2
LOCAL = ("localhost", "127.0.0.1", "::1")


def broker() -> Iterator[Finding]:
    folder = "" if settings.REDIS_URL else settings.CELERY_BROKER_TRANSPORT_OPTIONS["folder"]
    error = _why_no_folder(Path(folder)) if folder else _why_no_connection()
    if error:
        fault = _("The broker cannot be used: %(error)s.") % {"error": error}
        where = folder or settings.CELERY_BROKER_URL.rpartition("@")[2]
        remedy = _("Start it, or make %(where)s usable. Nothing is lost meanwhile, but runs start late.")
        yield Finding("broker", fault, remedy % {"where": where})


def unreadable_messages() -> Iterator[Finding]:
    aside = list((Path(settings.CELERY_BROKER_TRANSPORT_OPTIONS["folder"]) / "unreadable").glob("*"))
    if aside:
        fault = ngettext(
            "%(number)d message could not be read and was moved to broker/unreadable.",
            "%(number)d messages could not be read and were moved to broker/unreadable.",
            len(aside),
        )
        remedy = _("Nothing is lost; you can delete them. The worker's log says what was wrong with each.")
        yield Finding("broker", fault % {"number": len(aside)}, remedy, Level.NOTE)


def public_url() -> Iterator[Finding]:
    address = urlsplit(settings.PUBLIC_URL)
    if not address.scheme.startswith("http") or not address.hostname:
        fault = _("PUBLIC_URL is not a valid address: “%(url)s”.") % {"url": settings.PUBLIC_URL}
        yield Finding("address", fault, _("Set it to the address people use, such as https://roundtable.example."))
        return
    if not validate_host(address.hostname, settings.ALLOWED_HOSTS):
        fault = _("ALLOWED_HOSTS does not include %(host)s, the host of PUBLIC_URL.") % {"host": address.hostname}
        yield Finding("address", fault, _("Add it to ALLOWED_HOSTS, or unset ALLOWED_HOSTS."))
    if address.scheme == "http" and address.hostname not in LOCAL:
        fault = _("People connect over plain http, so others on their network can read passwords and labels.")
        yield Finding(
            "address", fault, _("Put a proxy with a TLS certificate in front and set PUBLIC_URL to its https address.")
        )


def mail() -> Iterator[Finding]:
    if not settings.EMAIL_BACKEND.endswith(".smtp.EmailBackend"):
        fault = _("No mail server is configured, so no email is sent.")
        yield Finding(
            "mail", fault, _("Set EMAIL_URL to send email. Sign-in links can also be passed on by hand."), Level.NOTE
        )
        return
    try:
        with get_connection(timeout=PATIENCE_S):
            return
    except OSError as error:
        fault = _("The mail server is not responding: %(error)s.") % {"error": error}
        yield Finding("mail", fault, _("Correct EMAIL_URL, or start the server."))


def _why_no_folder(folder: Path) -> str:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _why_no_connection() -> str:
    limits = {"socket_connect_timeout": PATIENCE_S, "socket_timeout": PATIENCE_S, "max_retries": 0}
    try:
        with current_app.connection_for_write(connect_timeout=PATIENCE_S, transport_options=limits) as connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE_S)
            return ""
    except Exception as error:  # each transport has its own
        return str(error)


CHECKS: tuple[Check, ...] = (broker, unreadable_messages, public_url, mail)
