"""Members: inviting, roles, leaving. What a member judged outlives the membership."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.urls import reverse

from annotate import hooks
from annotate.models import (
    Assignment,
    AuditEvent,
    Demonstration,
    Kind,
    Member,
    Project,
    Role,
    SignInLink,
    WorkItem,
)
from annotate.services.people import accounts, links, members
from tests.factories import make_assignment, make_demonstration, make_member, make_project, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def page(name, project, *args):
    return reverse(f"annotate:{name}", args=[project.slug, *args])


def test_an_invitation_is_shown_once_as_a_link(client, project, admin):
    client.force_login(admin.user)
    response = client.post(page("invite", project), {"email": "New@Example.org", "role": "reviewer"})
    assert response.context["address"] in response.content.decode()
    link = SignInLink.objects.get()
    assert (link.email, link.role, link.project, link.created_by) == (
        "new@example.org",
        "reviewer",
        project,
        admin.user,
    )
    listed = client.get(page("members", project)).content.decode()
    assert "new@example.org" in listed
    assert response.context["made"].secret not in listed


def test_an_address_that_is_too_long_to_store_is_refused(client, project, admin):
    client.force_login(admin.user)
    long = f"{'a' * 60}@{'.'.join(['b' * 60] * 4)}.org"
    assert client.post(page("invite", project), {"email": long, "role": "annotator"}).status_code == 422


def test_who_is_a_member_already_is_not_invited_again(client, project, admin, reviewer):
    client.force_login(admin.user)
    for member in (admin, reviewer):
        invited = {"email": member.user.email.upper(), "role": "annotator"}
        answer = client.post(page("invite", project), invited)
        assert answer.status_code == 422
        assert f"{member} is already a member. Change the role in the list." in answer.content.decode()
    assert not SignInLink.objects.exists()
    members.remove(reviewer, actor=admin.user)
    assert client.post(page("invite", project), {"email": reviewer.user.email, "role": "annotator"}).status_code == 200


def test_an_invitation_does_not_tell_whether_the_person_has_an_account(client, project, admin):
    client.force_login(admin.user)
    told = set()
    for email in (make_user().email, "new@example.org"):
        answer = client.post(page("invite", project), {"email": email, "role": "annotator"})
        assert "unless this address already has an account: then only its owner can." in answer.content.decode()
        told.add(answer.content.decode().replace(email, "").replace(answer.context["address"], "").partition("<h1")[2])
    assert len(told) == 1


def test_a_revoked_invitation_leaves_the_list(client, project, admin):
    client.force_login(admin.user)
    client.post(page("invite", project), {"email": "new@example.org", "role": "annotator"})
    client.post(page("revoke-invitation", project, SignInLink.objects.get().pk))
    assert not SignInLink.objects.usable().exists()
    assert not client.get(page("members", project)).context["invitations"]


def test_a_role_is_changed_and_the_change_is_on_record(client, project, admin, annotator):
    client.force_login(admin.user)
    client.post(page("change-role", project, annotator.pk), {"role": "reviewer"})
    annotator.refresh_from_db()
    assert annotator.role == "reviewer"
    event = AuditEvent.objects.get(action="member.role_changed")
    assert (event.actor, event.detail) == (admin.user, {"before": "annotator", "after": "reviewer"})


def test_the_last_admin_stays(client, project, admin, annotator):
    client.force_login(admin.user)
    client.post(page("change-role", project, admin.pk), {"role": "annotator"})
    client.post(page("remove-member", project, admin.pk))
    admin.refresh_from_db()
    assert (admin.role, admin.removed_at) == ("admin", None)

    members.change_role(annotator, role=Role.ADMIN, actor=admin.user)
    members.remove(admin, actor=annotator.user)
    assert client.get(page("members", project)).status_code == 404


@pytest.mark.parametrize("leave", [members.remove, members.erase])
def test_who_was_removed_does_not_come_back_by_an_older_invitation(project, admin, annotator, leave):
    person = annotator.user
    made = links.make(person.email, purpose="invitation", project=project, role=Role.ADMIN, created_by=admin.user)
    leave(annotator, actor=admin.user)
    with pytest.raises(links.LinkSpent):
        links.consume(made.secret, signed_in=person)
    assert not Project.objects.for_user(person).exists()

    renewed = links.make(person.email, purpose="invitation", project=project, created_by=admin.user)
    links.consume(renewed.secret, signed_in=person)
    assert Project.objects.for_user(person).exists()


def test_an_older_invitation_does_not_undo_a_demotion(project, admin, reviewer):
    made = links.make(reviewer.user.email, purpose="invitation", project=project, role=Role.REVIEWER)
    members.change_role(reviewer, role=Role.ANNOTATOR, actor=admin.user)
    with pytest.raises(links.LinkSpent):
        links.consume(made.secret, signed_in=reviewer.user)
    reviewer.refresh_from_db()
    assert reviewer.role == Role.ANNOTATOR


def test_an_invitation_outlives_a_promotion_and_what_happens_in_other_projects(project, admin, annotator):
    elsewhere = make_project()
    here, there = (
        links.make(annotator.user.email, purpose="invitation", project=place, role=Role.ADMIN)
        for place in (project, elsewhere)
    )
    members.change_role(annotator, role=Role.REVIEWER, actor=admin.user)
    assert links.find(here.secret)
    members.remove(annotator, actor=admin.user)
    assert links.find(there.secret)


def test_who_leaves_gives_back_what_they_hold_and_keeps_no_name(project, admin, annotator):
    assignment = make_assignment(annotator, Kind.DEMONSTRATION)
    members.remove(annotator, actor=admin.user)
    assignment.refresh_from_db()
    assert assignment.status == Assignment.Status.RELEASED
    assert WorkItem.objects.get().seats_taken == 0
    assert str(Member.objects.get(pk=annotator.pk)) == "former member"
    assert not Project.objects.for_user(annotator.user).exists()


def test_labels_stay_when_their_author_leaves(project, admin, annotator):
    make_demonstration(annotator)
    members.remove(annotator, actor=admin.user)
    assert Demonstration.objects.trainable().count() == 1


def test_erasure_takes_the_labels_out_of_training_and_tells_the_trainer(project, admin, annotator, monkeypatch):
    told = []
    trainer = replace(hooks._trainer, labels_withdrawn=lambda kind, ids: told.append((kind, ids)))
    monkeypatch.setattr(hooks, "_trainer", trainer)
    label, email = make_demonstration(annotator), annotator.user.email
    members.erase(annotator, actor=admin.user)
    assert not Demonstration.objects.trainable().exists()
    assert Demonstration.objects.count() == 1
    assert ("demonstration", [label.pk]) in told
    annotator.refresh_from_db()
    assert annotator.user is None
    erased = AuditEvent.objects.get(action="member.erased")
    assert email not in f"{erased.subject} {erased.detail}"


def test_the_dialog_removes_with_or_without_labels(client, project, admin, annotator):
    client.force_login(admin.user)
    other = make_member(project)
    client.post(page("remove-member", project, annotator.pk))
    client.post(page("remove-member", project, other.pk), {"labels": "erase"})
    annotator.refresh_from_db()
    other.refresh_from_db()
    assert annotator.removed_at and not annotator.erased_at
    assert other.erased_at


def test_the_labels_of_a_former_member_can_still_be_removed(client, project, admin, annotator):
    person, label = annotator.user, make_demonstration(annotator)
    members.remove(annotator, actor=admin.user)
    annotator.refresh_from_db()
    left_at = annotator.removed_at
    client.force_login(admin.user)
    assert person.email in client.get(page("members", project)).content.decode()
    assert client.post(page("remove-member", project, annotator.pk)).status_code == 404
    answer = client.post(page("remove-member", project, annotator.pk), {"labels": "erase"}, follow=True)
    annotator.refresh_from_db()
    assert (annotator.user, annotator.removed_at) == (None, left_at)
    assert label not in Demonstration.objects.trainable()
    assert AuditEvent.objects.filter(action="member.erased", actor=admin.user).exists()
    assert not answer.context["former"]
    assert client.post(page("remove-member", project, annotator.pk), {"labels": "erase"}).status_code == 404


def test_the_labels_of_a_former_admin_are_removed_where_no_admin_is_left(project, admin):
    other = make_member(project, role=Role.ADMIN)
    members.remove(other, actor=admin.user)
    Member.objects.filter(pk=admin.pk).update(role=Role.ANNOTATOR)
    members.erase(other, actor=make_user(is_site_admin=True))
    other.refresh_from_db()
    assert other.erased_at


def test_an_admin_whose_account_is_closed_does_not_count(project, admin):
    other = make_member(project, role=Role.ADMIN)
    accounts.close(other.user, actor=admin.user)
    with pytest.raises(members.LastAdmin):
        members.change_role(admin, role=Role.REVIEWER, actor=admin.user)
    accounts.reopen(other.user, actor=admin.user)
    members.change_role(admin, role=Role.REVIEWER, actor=other.user)


def test_only_a_site_admin_makes_a_link_into_somebody_elses_account(client, project, admin, annotator):
    client.force_login(admin.user)
    address = reverse("annotate:reset-password", args=[annotator.user.pk])
    assert client.post(address).status_code == 403
    client.force_login(make_user(is_site_admin=True))
    response = client.post(address)
    assert response.context["made"].link.email == annotator.user.email


def test_a_member_of_another_project_is_not_there(client, project, admin):
    other = make_project()
    stranger = make_member(other)
    client.force_login(admin.user)
    assert client.post(page("change-role", project, stranger.pk), {"role": "admin"}).status_code == 404
    assert client.post(page("remove-member", project, stranger.pk)).status_code == 404


def test_the_members_page_costs_the_same_for_any_number_of_people(
    client, project, admin, django_assert_max_num_queries
):
    for _ in range(20):
        make_member(project)
    client.force_login(admin.user)
    with django_assert_max_num_queries(12):
        assert client.get(page("members", project)).status_code == 200
