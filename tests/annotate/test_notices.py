"""Notices: who is told, how they are read, and what goes by mail."""

from __future__ import annotations

from smtplib import SMTPDataError, SMTPRecipientsRefused, SMTPServerDisconnected

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.core.mail.backends.locmem import EmailBackend
from django.db import transaction
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from annotate.models import Member, Notice, Project, Role
from annotate.services import notices
from tests.factories import make_member, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def page(client: Client, annotator: Member) -> Client:
    client.force_login(annotator.user)
    return client


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """What the mail server answers, by the address that the email goes to; it delivers all others."""
    errors: dict[str, Exception] = {}
    deliver = EmailBackend.send_messages

    def answer(backend: EmailBackend, messages: list[EmailMessage]) -> int:
        for message in messages:
            if error := errors.get(message.to[0]):
                raise error
        return deliver(backend, messages)

    monkeypatch.setattr(EmailBackend, "send_messages", answer)
    return errors


def told(project: Project, **more: object) -> None:
    notices.tell(project, **{"kind": "rankings.wanted", "text": "Sets wait.", "address": "/projects/"} | more)


def test_each_person_whose_role_is_meant_is_told_once(
    project: Project, annotator: Member, reviewer: Member, admin: Member
) -> None:
    make_member(project, is_simulated=True)
    told(project)
    told(project, role=Role.ADMIN, text="Round 1 has started.")
    told(project, role=Role.REVIEWER, text="To review.", actor=admin.user)
    texts = {
        member: [notice.text for notice in member.notices.order_by("pk")] for member in (annotator, reviewer, admin)
    }
    assert texts == {
        annotator: ["Sets wait."],
        reviewer: ["Sets wait.", "To review."],
        admin: ["Sets wait.", "Round 1 has started."],
    }
    assert Notice.objects.count() == 5


def test_what_is_rolled_back_is_never_announced(project: Project, annotator: Member) -> None:
    with transaction.atomic():
        told(project)
        transaction.set_rollback(True)
    assert not Notice.objects.exists()


def test_the_bell_counts_what_is_unread_and_opening_a_notice_reads_it(page: Client, project: Project) -> None:
    for _ in range(2):
        told(project)
    assert "Notifications, 2 unread" in page.get("/").content.decode()
    answer = page.post(reverse("annotate:open-notice", args=[Notice.objects.first().pk]))
    assert answer.url == "/projects/"
    assert "Notifications, 1 unread" in page.get("/").content.decode()
    page.post(reverse("annotate:read-notices"))
    assert "unread" not in page.get(reverse("annotate:notices")).content.decode()


def test_more_notices_than_anybody_reads_are_not_counted_one_by_one(page: Client, project: Project) -> None:
    for _ in range(notices.MOST_COUNTED + 1):
        told(project)
    assert "Notifications, 99+ unread" in page.get("/").content.decode()


def test_who_has_left_a_project_hears_no_more_of_it(page: Client, project: Project, annotator: Member) -> None:
    told(project)
    Member.objects.filter(pk=annotator.pk).update(removed_at="2026-01-01T00:00Z")
    assert "Sets wait." not in page.get(reverse("annotate:notices")).content.decode()


def test_mail_is_off_until_somebody_switches_it_on_and_then_is_for_the_chosen_projects(
    page: Client, project: Project, annotator: Member
) -> None:
    other = make_member(user=annotator.user)
    told(project)
    page.post(reverse("annotate:choose-mail"), {"project": [project.pk, "x"]})
    told(project, text="Round 2 needs rankings.")
    told(other.project)
    notices.send_mails()
    notices.send_mails()
    assert [(message.to, message.subject) for message in mail.outbox] == [
        ([annotator.user.email], f"{project.name}: Round 2 needs rankings.")
    ]
    assert "http://localhost:8000/projects/" in mail.outbox[0].body
    page.post(reverse("annotate:choose-mail"), {})
    told(project)
    notices.send_mails()
    assert len(mail.outbox) == 1


def test_what_a_mail_server_missed_is_sent_once_it_is_back(
    project: Project, annotator: Member, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    Member.objects.update(wants_mail=True)
    told(project)
    works, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9  # where nobody listens
    calls = notices.MOST_REFUSALS + 2
    for _ in range(calls):
        notices.send_mails()
    assert caplog.text.count("could not be mailed") == calls
    settings.EMAIL_BACKEND = works
    notices.send_mails()
    assert [message.to for message in mail.outbox] == [[annotator.user.email]]


def test_a_mail_server_that_hangs_up_is_asked_once_a_call_and_each_time_for_another_email(
    project: Project, annotator: Member, reviewer: Member, refused: dict[str, Exception]
) -> None:
    Member.objects.update(wants_mail=True)
    told(project)
    refused[annotator.user.email] = SMTPServerDisconnected("closed")
    notices.send_mails()
    assert not mail.outbox
    notices.send_mails()
    assert [message.to for message in mail.outbox] == [[reviewer.user.email]]


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (SMTPRecipientsRefused({"a@example.org": (550, b"no such user")}), notices.MOST_REFUSALS),
        (SMTPDataError(554, b"spam"), notices.MOST_REFUSALS),
        (UnicodeError("no such domain"), notices.MOST_REFUSALS),
        (SMTPRecipientsRefused({"a@example.org": (452, b"mailbox full")}), notices.MOST_REFUSALS + 2),
        (SMTPDataError(451, b"come back later"), notices.MOST_REFUSALS + 2),
    ],
)
def test_an_email_that_is_refused_for_good_is_tried_a_few_times_and_keeps_no_other_waiting(
    project: Project, annotator: Member, reviewer: Member, refused: dict[str, Exception], error: Exception, tries: int
) -> None:
    Member.objects.update(wants_mail=True)
    told(project)
    refused[annotator.user.email] = error
    notices.send_mails()
    assert [message.to for message in mail.outbox] == [[reviewer.user.email]]
    for _ in range(notices.MOST_REFUSALS + 1):
        notices.send_mails()
    assert annotator.notices.get().mail_tries == tries


def test_a_subject_is_one_line_whatever_happened(project: Project, annotator: Member) -> None:
    Member.objects.update(wants_mail=True)
    told(project, text="Round 1 has failed:\nBcc: somebody@example.org")
    notices.send_mails()
    assert "\n" not in mail.outbox[0].subject


def test_nobody_reads_the_notices_of_others(page: Client, project: Project) -> None:
    foreign = make_member(user=make_user())
    told(foreign.project)
    assert page.post(reverse("annotate:open-notice", args=[foreign.notices.get().pk])).status_code == 404
