"""Notices: who is told, how they are read, and what goes by mail."""

from __future__ import annotations

import pytest
from django.core import mail
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


def test_a_mail_server_that_refuses_is_logged_and_asked_a_few_times(
    project: Project, annotator: Member, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    Member.objects.update(wants_mail=True)
    told(project)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9  # where nobody listens
    for _ in range(notices.MOST_TRIES + 2):
        notices.send_mails()
    notice = Notice.objects.get()
    assert (notice.mailed_at, notice.mail_tries) == (None, notices.MOST_TRIES)
    assert caplog.text.count("could not be mailed") == notices.MOST_TRIES


def test_a_subject_is_one_line_whatever_happened(project: Project, annotator: Member) -> None:
    Member.objects.update(wants_mail=True)
    told(project, text="Round 1 has failed:\nBcc: somebody@example.org")
    notices.send_mails()
    assert "\n" not in mail.outbox[0].subject


def test_nobody_reads_the_notices_of_others(page: Client, project: Project) -> None:
    foreign = make_member(user=make_user())
    told(foreign.project)
    assert page.post(reverse("annotate:open-notice", args=[foreign.notices.get().pk])).status_code == 404
