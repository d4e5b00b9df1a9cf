"""The audit: everything people do is in it, and nobody can change it, whatever they use."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.urls import reverse

from annotate.models import AuditEvent, SignInLink
from annotate.services import audit
from annotate.services.people import links, members
from tests.factories import bearer, make_demonstration, make_member, make_project, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.database]
LOGIN, PASSWORD = "/account/login/", "seven green bicycles"


@pytest.fixture
def ada():
    return make_user("ada@example.org", password=PASSWORD)


def actions(**wanted):
    return list(AuditEvent.objects.filter(**wanted).order_by("pk").values_list("action", flat=True))


@pytest.mark.parametrize(
    "change",
    [
        {"action": "nothing.happened"},
        {"subject": "somebody else", "is_erased": True},
        {"detail": {"role": "annotator"}},
        {"created_at": "2020-01-01T00:00:00Z"},
        {"actor": None},
        {"project": None, "is_erased": True},
        {"action": "nothing.happened", "subject": "", "is_erased": True},
    ],
    ids=str,
)
def test_the_database_refuses_to_change_a_row(project, admin, change):
    event = audit.record("member.joined", actor=admin.user, project=project, subject="x@example.org", role="admin")
    before = AuditEvent.objects.values().get(pk=event.pk)
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        AuditEvent.objects.filter(pk=event.pk).update(**change)
    assert AuditEvent.objects.values().get(pk=event.pk) == before


def test_the_database_refuses_to_delete_rows(project):
    audit.record("project.created", project=project)
    with pytest.raises(DatabaseError, match="never deleted"), transaction.atomic():
        AuditEvent.objects.all().delete()
    if connection.vendor == "postgresql":
        connection.check_constraints()  # nothing is left to be checked at the end, which would refuse it as well
        with pytest.raises(DatabaseError, match="never deleted"), transaction.atomic():
            connection.cursor().execute("TRUNCATE annotate_auditevent")
    assert AuditEvent.objects.count() == 1


def test_erasing_takes_the_person_out_of_older_rows_and_of_no_others(project, admin, ada):
    made = links.make(ada.email, purpose="invitation", project=project, created_by=admin.user)
    links.consume(made.secret, signed_in=ada)
    member = project.members.get(user=ada)
    make_demonstration(member)
    audit.record("person.signed_in", actor=ada, subject=ada.email)
    audit.record("prompt.withdrawn", actor=ada, project=project, subject="prompt 7")
    members.erase(member, actor=admin.user)

    rows = AuditEvent.objects.all()
    assert not rows.naming(ada).exists()
    assert not any(ada.email in f"{event.subject} {event.detail}" for event in rows)
    assert ada.email not in str(list(SignInLink.objects.values()))
    withdrawn = rows.get(action="prompt.withdrawn")
    assert (withdrawn.subject, withdrawn.actor, withdrawn.is_erased) == ("prompt 7", None, True)
    assert rows.get(action="link.made").actor == admin.user


def test_erasing_takes_out_an_address_that_is_longer_than_a_subject(project, admin):
    member = make_member(project, user=make_user(f"{'a' * 60}@{'b' * 60}.{'c' * 60}.org"))
    audit.record("member.joined", project=project, subject=member.user.email)
    members.erase(member, actor=admin.user)
    assert not AuditEvent.objects.filter(subject__startswith="aaa").exists()


def test_who_works_elsewhere_stays_in_what_belongs_to_no_project(project, admin, ada):
    member, other = make_member(project, user=ada), make_project()
    make_member(other, user=ada)
    audit.record("person.signed_in", actor=ada, subject=ada.email)
    audit.record("project.changed", actor=ada, project=other, subject=other.name)
    audit.record("project.changed", actor=ada, project=project, subject=project.name)
    members.erase(member, actor=admin.user)
    assert actions(actor=ada) == ["person.signed_in", "project.changed"]
    assert AuditEvent.objects.get(project=project, action="project.changed").is_erased


def test_sign_ins_failed_ones_and_passwords_are_on_record(client, ada):
    client.post(LOGIN, {"login": ada.email, "password": "wrong"})
    client.post(LOGIN, {"login": "a password typed here", "password": "wrong"})
    client.post(LOGIN, {"login": "nobody@example.org", "password": "wrong"})
    client.post(LOGIN, {"login": ada.email, "password": PASSWORD})
    new = {"oldpassword": PASSWORD, "password1": "eight blue bicycles", "password2": "eight blue bicycles"}
    client.post("/account/password/change/", new)
    client.post(reverse("account_logout"))
    failed = AuditEvent.objects.filter(action="person.sign_in_failed").order_by("pk")
    assert [event.subject for event in failed] == [ada.email, ""]
    assert failed[0].detail == {"source": "127.0.0.1"}
    assert actions(actor=ada) == ["person.signed_in", "password.changed", "person.signed_out"]


def test_making_a_site_admin_is_on_record(ada):
    call_command("sign_in_link", ada.email, "--site-admin")
    call_command("sign_in_link", "first@example.org", "--site-admin")
    made = AuditEvent.objects.filter(action="account.made_site_admin").order_by("pk")
    assert [event.subject for event in made] == [ada.email, "first@example.org"]


def test_site_admins_read_what_belongs_to_no_project(client, ada, project):
    audit.record("person.signed_in", actor=ada, subject=ada.email)
    audit.record("prompt.withdrawn", actor=ada, project=project, subject="prompt 7")
    client.force_login(make_user(is_site_admin=True))
    page = client.get(reverse("annotate:site-audit")).content.decode()
    assert ada.email in page
    assert "prompt 7" not in page


def test_what_comes_in_is_on_record_with_who_sent_it(client, project, admin):
    client.force_login(admin.user)
    client.post(reverse("annotate:add-prompts", args=[project.slug]), {"paste": "Why?\nWhen?"})
    headers = bearer(admin.user)
    client.post(f"/api/v1/projects/{project.slug}/prompts/", "[7]", "application/json", headers=headers)
    slate = '{"prompt": {"text": "Who?"}, "completions": [{"text": "a"}, {"text": "b"}]}'
    client.post(f"/api/v1/projects/{project.slug}/slates/", slate, "application/json", headers=headers)
    imports = AuditEvent.objects.filter(action="prompts.imported").order_by("pk")
    assert [event.detail for event in imports] == [
        {"created": 2, "existing": 0, "rejected": 0},
        {"created": 0, "existing": 0, "rejected": 1},
    ]
    assert {event.actor for event in imports} == {admin.user}
    assert AuditEvent.objects.get(action="slate.added").actor == admin.user


def test_details_are_shown_without_the_signs_of_code(client, project, admin):
    changed = {"ppo.beta": [0.2, 0.1], "sft.epochs": [4, 5]}
    audit.record("training_settings.changed", actor=admin.user, project=project, subject="Everyday", fields=changed)
    client.force_login(admin.user)
    shown = client.get(reverse("annotate:audit", args=[project.slug])).content.decode()
    assert "ppo.beta: 0.2, 0.1; sft.epochs: 4, 5" in shown
