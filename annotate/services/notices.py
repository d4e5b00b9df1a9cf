"""Notices: telling members what happened, in the application and, for those who want it, by email.

Other apps call `tell` inside the transaction of what happened: both are stored, or neither. Emails are sent by a
task that looks for what is due, so that a failing mail server delays nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from smtplib import SMTPDataError, SMTPRecipientsRefused

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Member, Notice, Project, Role, User
from annotate.models.notices import NoticeQuerySet
from annotate.services import audit

MOST_REFUSALS = 10  # of one email
REFUSED = 500  # and above: the codes that say that trying again is of no use (RFC 5321, section 4.2.1)
MAILS_A_TIME = 50
MAILED_FOR = timedelta(days=1)  # older notices are not sent when a mail server recovers
MOST_COUNTED = 99  # unread notices; more are "99+"

logger = logging.getLogger(__name__)


def tell(
    project: Project, *, kind: str, text: str, address: str = "", role: str = Role.ANNOTATOR, actor: User | None = None
) -> None:
    """A notice for each person in `project` whose role contains `role`, but not for `actor`, who did it.

    Called inside the transaction of what happened.
    """
    members = project.members.with_role(role).people()
    if actor:
        members = members.exclude(user=actor)
    Notice.objects.bulk_create(
        Notice(member=member, kind=kind, text=text, address=address, wants_mail=member.wants_mail) for member in members
    )


def tell_member(member: Member, *, kind: str, text: str, address: str) -> None:
    """A notice for `member` alone, where a message reaches this person. An identical unread notice is not repeated.

    Called inside the transaction of what happened.
    """
    reached = Member.objects.active().people().filter(pk=member.pk).first()
    if reached and not reached.notices.unread().filter(kind=kind, text=text, address=address).exists():
        Notice.objects.create(member=reached, kind=kind, text=text, address=address, wants_mail=reached.wants_mail)


def count_unread(user: User) -> int:
    """How many unread notices `user` has; MOST_COUNTED + 1 stands for more."""
    return Notice.objects.for_user(user).unread()[: MOST_COUNTED + 1].count()


def mark_read(notices: NoticeQuerySet) -> None:
    """Mark these as read."""
    notices.unread().update(read_at=Now())


@transaction.atomic
def choose_mail(user: User, *, projects: Iterable[int]) -> None:
    """From now on `user` gets emails for the notices of these projects, and of no others."""
    mine = user.memberships.active()
    mine.update(wants_mail=False)
    chosen = mine.filter(project__in=list(projects))
    chosen.update(wants_mail=True)
    names = sorted(chosen.values_list("project__slug", flat=True))
    audit.record("mail.chosen", actor=user, subject=user.email, projects=names)


def can_mail() -> bool:
    """Whether a mail server is configured."""
    return not settings.EMAIL_BACKEND.endswith("console.EmailBackend")


def send_mails() -> None:
    """Send what is due; fewest tries first, so that none keeps the others waiting.

    A failed email is logged and tried again by another call, unless the server keeps refusing it. Where the server
    itself fails, that ends this call: one that hangs must not hold up the worker that reconciles rounds.
    """
    if not can_mail():
        return
    due = Notice.objects.filter(wants_mail=True, mailed_at=None, mail_refusals__lt=MOST_REFUSALS)
    due = due.filter(created_at__gt=Now() - MAILED_FOR, member__removed_at=None, member__user__is_active=True)
    for notice in due.select_related("member__user", "member__project").order_by("mail_tries", "pk")[:MAILS_A_TIME]:
        tries = Notice.objects.filter(pk=notice.pk, mail_tries=notice.mail_tries)
        is_mine = tries.update(mail_tries=F("mail_tries") + 1)  # of two senders at once only one gets the row
        if is_mine and not _try_to_send(notice):
            return


def _try_to_send(notice: Notice) -> bool:
    """Whether the mail server works, though it may have refused this one."""
    row = Notice.objects.filter(pk=notice.pk)
    try:
        _send(notice)
    except Exception as error:  # whatever the mail server answers, the notice is in the application
        logger.warning("notice %s could not be mailed", notice.pk, exc_info=True)
        codes = _codes(error)
        if codes and min(codes) >= REFUSED:
            row.update(mail_refusals=F("mail_refusals") + 1)
        return bool(codes)
    row.update(mailed_at=Now())
    return True


def _codes(error: Exception) -> list[int]:
    """With which codes the mail server refused this one email; none where it failed as a whole, as for any other."""
    if isinstance(error, SMTPRecipientsRefused):
        return [code for code, _answer in error.recipients.values()]
    if isinstance(error, SMTPDataError):
        return [error.smtp_code]
    return [] if isinstance(error, OSError) else [REFUSED]  # what is no failed connection: it cannot be written


def _send(notice: Notice) -> None:
    user, project = notice.member.user, notice.member.project
    assert user is not None
    body = _("%(text)s\n\n%(address)s\n\nYou can turn these emails off on your account page.") % {
        "text": notice.text,
        "address": settings.PUBLIC_URL + notice.address,
    }
    subject = " ".join(f"{project.name}: {notice.text[:120]}".split())  # line ends would be refused
    send_mail(subject, body, None, [user.email])
