"""Projects: making one in the browser, its settings, its guidelines."""

from __future__ import annotations

import pytest
from django.urls import reverse

from annotate import hooks
from annotate.models import AuditEvent, Member, Project
from annotate.services import projects
from tests.factories import make_demonstration, make_project, make_ranking, make_user
from tests.training import machine
from training.models import TrainingSettings

pytestmark = [pytest.mark.django_db, pytest.mark.database]

FORM = {
    "name": "Häkeln & Stricken",
    "guidelines": "Be kind.",
    "demonstration_seats": 1,
    "ranking_seats": 2,
    "heldout_percent": 20,
    "training-base_model": "tiny",
    "training-completions_per_slate": 5,
    "training-demonstrations_minimum": 10,
    "training-rankings_minimum": 20,
    "training-slates_per_round": 30,
    "training-ppo_start": "sft",
}


@pytest.fixture
def site_admin(client):
    user = make_user(is_site_admin=True)
    client.force_login(user)
    return user


def test_a_site_admin_makes_a_project_with_its_training_settings(client, site_admin):
    response = client.post(reverse("annotate:create-project"), FORM)
    project = Project.objects.get()
    assert response.url == reverse("annotate:project", args=[project.slug])
    assert (project.name, project.slug, project.ranking_seats, project.heldout_share) == (
        "Häkeln & Stricken",
        "hakeln-stricken",
        2,
        0.2,
    )
    training = TrainingSettings.objects.get(project=project)
    assert (training.completions_per_slate, training.rankings_minimum) == (5, 20)
    assert Member.objects.get(project=project).user == site_admin
    assert AuditEvent.objects.get(action="project.created").actor == site_admin


def test_the_base_model_may_be_a_folder_that_the_operator_put_there_and_no_other(
    client, site_admin, settings, tmp_path
):
    settings.DATA_DIR, settings.BASE_MODELS_DIR = tmp_path, tmp_path / "base-models"
    for folder in (settings.BASE_MODELS_DIR / "our-model-1b", tmp_path / "secret"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    # The last one lies there, but nobody has examined it yet.
    for elsewhere in ("../secret", str(tmp_path / "secret"), "other-model", "our-model-1b"):
        answer = client.post(reverse("annotate:create-project"), FORM | {"training-base_model": elsewhere})
        assert answer.status_code == 422
    machine.adopt("our-model-1b")
    client.post(reverse("annotate:create-project"), FORM | {"training-base_model": "our-model-1b"})
    assert TrainingSettings.objects.get().base_model == "our-model-1b"


def test_a_bad_field_of_either_form_makes_nothing_and_keeps_what_was_typed(client, site_admin):
    for bad in ({"name": ""}, {"heldout_percent": 80}, {"training-completions_per_slate": 10}):
        response = client.post(reverse("annotate:create-project"), FORM | bad)
        assert response.status_code == 422
        assert "Be kind." in response.content.decode()
    assert not Project.objects.exists()


def test_projects_of_one_name_get_addresses_of_their_own(client, site_admin):
    for _ in range(2):
        client.post(reverse("annotate:create-project"), FORM | {"name": "New"})
    assert set(Project.objects.values_list("slug", flat=True)) == {"new-2", "new-3"}  # /projects/new/ is a page


def test_a_name_without_a_latin_letter_gets_an_address_too(client, site_admin):
    client.post(reverse("annotate:create-project"), FORM | {"name": "日常の質問"})
    assert Project.objects.get().slug == "project"


def test_only_site_admins_make_projects(client, admin):
    client.force_login(admin.user)
    assert client.get(reverse("annotate:create-project")).status_code == 403
    assert client.post(reverse("annotate:create-project"), FORM).status_code == 403


def test_people_see_their_projects_and_no_others(client, admin, project):
    make_project("Somebody else's")
    client.force_login(admin.user)
    page = client.get(reverse("annotate:projects"))
    assert [shown.pk for shown in page.context["projects"]] == [project.pk]


def test_a_project_admin_changes_the_settings(client, project, admin):
    client.force_login(admin.user)
    fields = {key: value for key, value in FORM.items() if key not in ("guidelines", "heldout_percent")}
    client.post(reverse("annotate:settings", args=[project.slug]), fields | {"trains_on_simulated": "on"})
    before = project.slug, project.heldout_share
    project.refresh_from_db()
    assert (project.name, project.ranking_seats, project.trains_on_simulated) == ("Häkeln & Stricken", 2, True)
    assert (project.slug, project.heldout_share) == before  # links keep working, and no prompt changes its split
    assert TrainingSettings.objects.get(project=project).slates_per_round == 30
    assert "ranking_seats" in AuditEvent.objects.get(action="project.changed").detail["fields"]


def test_saved_settings_leave_alone_what_someone_else_changed_meanwhile(project, admin):
    machine.make_settings(project)
    theirs = TrainingSettings.objects.get(project=project)
    form = hooks.project_form(FORM, project)
    assert form.is_valid()
    Project.objects.filter(pk=project.pk).update(guidelines="Be kind.")
    TrainingSettings.objects.filter(pk=theirs.pk).update(overrides={"ppo": {"iterations": 7}})
    project.name = "Renamed"
    projects.change(project, changed=["name"], actor=admin.user, training_form=form)
    project.refresh_from_db()
    theirs.refresh_from_db()
    assert (project.name, project.guidelines) == ("Renamed", "Be kind.")
    assert (theirs.slates_per_round, theirs.overrides) == (30, {"ppo": {"iterations": 7}})


def shown_by(page):
    """What the browser sends back from a settings page that nobody has touched."""
    fields = [field for form in (page.context["form"], page.context["training_form"]) for field in form]
    values = {field.html_name: field.value() for field in fields if field.value() is not False}
    return values | {field.html_initial_name: str(field.initial) for field in fields}


def test_a_stale_settings_page_undoes_nothing_that_another_admin_has_changed(client, project, admin):
    client.force_login(admin.user)
    TrainingSettings.objects.create(project=project)
    address = reverse("annotate:settings", args=[project.slug])
    hers, his = shown_by(client.get(address)), shown_by(client.get(address))
    client.post(address, hers | {"ranking_seats": 3, "trains_on_simulated": "on", "training-rankings_minimum": 40})
    assert client.post(address, his | {"name": "His", "training-slates_per_round": 60}).status_code == 302
    project.refresh_from_db()
    training = project.training_settings
    assert (project.name, project.ranking_seats, project.trains_on_simulated) == ("His", 3, True)
    assert (training.rankings_minimum, training.slates_per_round) == (40, 60)
    assert AuditEvent.objects.filter(action="project.changed").last().detail["fields"] == ["name", "slates_per_round"]


def test_nobody_overwrites_a_setting_that_they_have_not_seen(client, project, admin):
    client.force_login(admin.user)
    TrainingSettings.objects.create(project=project)
    address = reverse("annotate:settings", args=[project.slug])
    hers, his = shown_by(client.get(address)), shown_by(client.get(address))
    client.post(address, hers | {"name": "Hers", "ranking_seats": 3})
    refused = client.post(address, his | {"ranking_seats": 5})
    assert refused.status_code == 422
    [said] = refused.context["form"].errors["ranking_seats"]
    assert said == "Someone else has changed this to “3” in the meantime. Save again to replace it."
    again = {field.html_name: field.value() for field in refused.context["form"]}
    assert (again["name"], again["ranking_seats"]) == ("Hers", "5"), (
        "what is not his is up to date, what he typed stays"
    )
    assert 'name="initial-ranking_seats" value="3"' in refused.content.decode()
    client.post(address, his | {"ranking_seats": 5, "name": "Hers", "initial-name": "Hers", "initial-ranking_seats": 3})
    project.refresh_from_db()
    assert (project.name, project.ranking_seats) == ("Hers", 5)


@pytest.mark.parametrize("number", [0, 100_001, 999_999_999_999])
@pytest.mark.parametrize("field", ["demonstrations_minimum", "rankings_minimum", "slates_per_round"])
def test_a_project_wants_at_least_one_label_and_no_more_than_people_can_make(client, site_admin, field, number):
    page = client.post(reverse("annotate:create-project"), FORM | {f"training-{field}": number})
    assert page.status_code == 422
    assert field in page.context["training_form"].errors
    assert "1 to 100,000." in page.context["training_form"].fields[field].help_text
    assert not Project.objects.exists()


def test_guidelines_are_edited(client, project, admin):
    client.force_login(admin.user)
    address = reverse("annotate:edit-guidelines", args=[project.slug])
    client.post(address, {"text": "Be kind.\r\nBe brief.", "before": ""})
    project.refresh_from_db()
    assert project.guidelines == "Be kind.\nBe brief."
    client.post(address, {"text": "Be brief.", "before": "Be kind.\r\nBe brief."})  # as a browser sends it back
    project.refresh_from_db()
    assert project.guidelines == "Be brief."


def test_nobody_overwrites_guidelines_that_they_have_not_seen(client, project, admin):
    projects.edit_guidelines(project, text="Hers.", before="", actor=admin.user)
    client.force_login(admin.user)
    response = client.post(
        reverse("annotate:edit-guidelines", args=[project.slug]), {"text": "His & longer.", "before": ""}
    )
    assert response.status_code == 409
    page = response.content.decode()
    assert "Hers." in page
    assert "His &amp; longer." in page
    project.refresh_from_db()
    assert project.guidelines == "Hers."


def test_the_overview_counts_what_there_is(client, project, admin, annotator):
    make_demonstration(annotator)
    make_ranking(annotator)
    client.force_login(admin.user)
    totals = client.get(reverse("annotate:project", args=[project.slug])).context["overview"].totals
    assert (totals.answers, totals.rankings, totals.members) == (1, 1, 2)
    assert (totals.train_prompts, totals.heldout_prompts, totals.open_answers) == (2, 0, 1)


def test_the_audit_list_shows_the_projects_own_events(client, project, admin):
    projects.edit_guidelines(project, text="Be kind.", before="", actor=admin.user)
    projects.edit_guidelines(make_project(), text="Elsewhere.", before="", actor=admin.user)
    client.force_login(admin.user)
    page = client.get(reverse("annotate:audit", args=[project.slug])).context["page"]
    assert [event.action for event in page] == ["guidelines.changed"]
