"""The Celery tasks of annotate: shells around services."""

from __future__ import annotations

from celery import shared_task

from annotate.services import notices


@shared_task(name="annotate.mail_notices.v1")  # type: ignore[untyped-decorator]  # Celery has no types
def mail_notices() -> None:
    """Send the mails that are due; see services/notices.py."""
    notices.send_mails()
