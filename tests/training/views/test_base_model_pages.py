"""Base models on the page of the site admins, in the API and in the forms of projects."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries, Settings

from annotate.models import ApiToken, Member, Project, User
from annotate.services.people import tokens
from tests.factories import make_user
from tests.training import machine
from training.forms.settings import TrainingSettingsForm
from training.models import Adoption, TrainingSettings
from training.services.registry import adoption_words, adoptions, base_models, model_folders, template_remarks

pytestmark = [pytest.mark.django_db, pytest.mark.database]

NO_TURNS = machine.REPORT["template"] | {"system": False, "alternates": True, "begins_with_assistant": False}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_folders, "QUIET_S", 0.0)


@pytest.fixture
def folders(data_dir: Path, settings: Settings) -> dict[str, Path]:
    """One folder that can be used, one that was refused, one that nobody has looked at."""
    settings.BASE_MODELS_DIR = data_dir / "base-models"
    made = {name: settings.BASE_MODELS_DIR / name for name in ("good", "bad", "new <b>")}
    for path in made.values():
        path.mkdir(parents=True)
        (path / "config.json").write_text("{}")
    machine.adopt("good", findings=[{"level": "note", "kind": "template_missing", "sentence": "no template"}])
    refuse("bad", {"level": "block", "kind": "lfs_pointer", "field": "model.safetensors", "sentence": "a pointer"})
    return made


def refuse(name: str, finding: dict[str, object]) -> None:
    taken = adoptions.claim(adoptions.create_pending(name, context=None).pk, worker="w")
    assert taken
    report = {"sha256": "1" * 64, "fits": False, "findings": [finding]}
    adoptions.refuse(taken, report, adoption_words.refusal(report))


@pytest.fixture
def site_admin(client: Client) -> User:
    user = make_user(is_site_admin=True)
    client.force_login(user)
    return user


def shown(client: Client) -> str:
    return client.get(reverse("training:base-models")).content.decode()


def test_the_page_tells_every_folder_with_its_facts_findings_and_files(
    client: Client, site_admin: User, folders: dict[str, Path]
) -> None:
    page = shown(client)
    for said in (
        "1.1 billion parameters",
        "context of 2,048 tokens",
        "It has no chat template",
        "model.safetensors is only a Git LFS pointer",
        "2 files used (235.0\xa0KB)",
        "README.md",
        "44.7",
        "Preset: 1.5B",
        "For base models of about 1.5 billion parameters",
        "new &lt;b&gt;",
        "not checked yet",
        "No worker is running",
    ):
        assert said in page
    assert page.count("Preset: ") == 1, "of what cannot be chosen there is none"


def test_the_page_costs_the_same_however_many_folders_there_are(
    client: Client, site_admin: User, folders: dict[str, Path], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    shown(client)
    with CaptureQueriesContext(connection) as few:
        shown(client)
    for number in range(6):
        folder = folders["good"].with_name(f"more-{number}")
        folder.mkdir()
        if number % 2:
            machine.adopt(folder.name)
    with django_assert_num_queries(len(few)):
        shown(client)


def test_a_kind_that_the_table_does_not_know_is_shown_in_the_engines_words(
    client: Client, site_admin: User, folders: dict[str, Path]
) -> None:
    unknown = {"level": "block", "kind": "from_tomorrow", "sentence": "The moon is in the way."}
    refuse("bad", unknown)
    assert "The moon is in the way." in shown(client)
    without_numbers = {"level": "block", "kind": "weights_truncated", "field": "a", "sentence": "a is cut."}
    assert adoption_words.sentence(without_numbers) == "a is cut."


def test_a_folder_is_examined_again_with_the_context_that_is_stated(
    client: Client, site_admin: User, folders: dict[str, Path]
) -> None:
    missing = {"level": "block", "kind": "context_missing", "field": "context", "sentence": "no context"}
    refuse("bad", missing)
    assert "Context length in tokens" in shown(client)
    address = reverse("training:base-model-examine", args=["bad"])
    assert client.post(address, {"context": "-3"}, follow=True).status_code == 200
    assert not Adoption.objects.live().exists()
    page = client.post(address, {"context": "512"}, follow=True).content.decode()
    asked = Adoption.objects.live().get()
    assert (asked.folder, asked.context, asked.asked_by) == ("bad", 512, site_admin)
    assert "waiting for check" in page
    live = reverse("training:base-model-live", args=["bad"])
    assert "hx-get" in client.get(live, headers={"HX-Request": "true"}).content.decode()
    assert client.get(live).status_code == 302
    assert client.get(reverse("training:base-model-live", args=["gone"]), headers={"HX-Request": "true"}).content == b""
    assert client.post(reverse("training:base-model-examine", args=["gone"])).status_code == 404
    assert client.post(reverse("training:base-model-examine", args=["a\x00b"])).status_code == 404


def test_a_stated_context_stays_until_it_is_taken_back(
    client: Client, site_admin: User, folders: dict[str, Path]
) -> None:
    Adoption.objects.filter(folder="bad").update(context=64)
    address = reverse("training:base-model-examine", args=["bad"])
    client.post(address)
    assert Adoption.objects.live().get().context == 64
    client.post(address, {"context": ""})
    assert Adoption.objects.live().get().context is None


def test_a_folder_that_is_gone_is_shown_as_long_as_a_project_has_its_copy(
    client: Client, site_admin: User, folders: dict[str, Path], project: Project
) -> None:
    machine.make_settings(project, base_model="good")
    machine.make_base(project)
    assert "1 project uses it" in shown(client)
    (folders["good"] / "config.json").unlink()
    folders["good"].rmdir()
    assert "The folder “good” no longer exists." in shown(client)


def test_the_form_lists_every_folder_and_takes_only_adopted_ones(
    client: Client, site_admin: User, folders: dict[str, Path]
) -> None:
    page = client.get(reverse("annotate:create-project")).content.decode()
    assert '<option value="good">good · 1.1 billion parameters · context of 2,048 tokens' in page
    assert '<option value="bad" disabled>bad · cannot be used</option>' in page
    assert "model.safetensors is only a Git LFS pointer" in page
    assert "new &lt;b&gt; · not checked yet" in page
    fields = {"training-completions_per_slate": 4, "training-slates_per_round": 9, "training-ppo_start": "sft"}
    fields |= {"training-demonstrations_minimum": 1, "training-rankings_minimum": 1}
    for name, is_taken in {"good": True, "bad": False, "new <b>": False, "gone": False}.items():
        assert TrainingSettingsForm(fields | {"training-base_model": name}).is_valid() == is_taken
    refused = TrainingSettingsForm(fields | {"training-base_model": "bad"})
    assert "Git LFS" in str(refused.errors["base_model"])


def test_a_project_that_waits_for_its_folder_can_change_its_other_settings(
    folders: dict[str, Path], project: Project
) -> None:
    machine.make_settings(project, base_model="bad", overrides={})
    fields = {"training-completions_per_slate": 3, "training-slates_per_round": 9, "training-ppo_start": "sft"}
    fields |= {"training-demonstrations_minimum": 1, "training-rankings_minimum": 1, "training-base_model": "bad"}
    form = TrainingSettingsForm(fields, project=project)
    assert form.is_valid()
    form.save()
    assert TrainingSettings.objects.get().completions_per_slate == 3


def test_the_api_lists_the_folders_and_has_one_examined(client: Client, folders: dict[str, Path]) -> None:
    user = make_user(is_site_admin=True)
    secret = tokens.make(user, name="t", scopes=list(ApiToken.Scope.values), days=1).secret
    headers = {"Authorization": f"Bearer {secret}"}
    listed = client.get(reverse("training-api:base-models"), headers=headers).json()["results"]
    assert {one["folder"]: (one["state"], one["can_be_used"]) for one in listed} == {
        "bad": ("refused", False),
        "good": ("adopted", True),
        "new <b>": ("new", False),
    }
    assert listed[0]["findings"] == [
        {
            "level": "block",
            "text": "model.safetensors is only a Git LFS pointer. Fetch the file with “git lfs pull”.",
        }
    ]
    assert listed[1]["report"]["parameters"] == 1_100_000_000
    assert [one["preset"] for one in listed] == [None, "1.5B", None]
    assert [one["other_presets"] for one in listed] == [[], ["1.5B-lora"], []]
    address = reverse("training-api:base-model-examine", args=["new <b>"])
    answer = client.post(address, {"context": 9}, headers=headers, content_type="application/json")
    assert (answer.status_code, answer.json()["state"]) == (201, "pending")
    assert adoptions.claim(Adoption.objects.live().get().pk, worker="w")
    other = client.post(address, {"context": 10}, headers=headers, content_type="application/json")
    assert other.status_code == 409
    for bad in (0, "many", 10**12):
        answer = client.post(address, {"context": bad}, headers=headers, content_type="application/json")
        assert answer.status_code == 400


SHAPES = SimpleNamespace(
    prompts=9,
    with_system=2,
    with_two_users_in_a_row=1,
    with_two_assistants_in_a_row=3,
    beginning_with_assistant=1,
)


def test_prompts_that_the_template_refuses_are_reported_at_import(folders: dict[str, Path], admin: Member) -> None:
    machine.adopt("good", template=NO_TURNS)
    machine.make_settings(admin.project, base_model="good")
    before = template_remarks.remarks(admin.project, SHAPES)
    assert [
        said
        for said in ("2 of these prompts", "1 of these prompts", "3 of these prompts")
        if not any(said in one for one in before)
    ] == []
    assert len(before) == 4
    base_models.register(admin.project)
    machine.adopt("good")  # what the folder holds later is not this project's
    assert template_remarks.remarks(admin.project, SHAPES) == before
    plain = SimpleNamespace(**dict.fromkeys(vars(SHAPES), 0))
    assert template_remarks.remarks(admin.project, plain) == []


def test_nothing_is_said_of_templates_that_take_everything_or_are_not_known(
    folders: dict[str, Path], project: Project
) -> None:
    training = machine.make_settings(project, base_model="good")
    assert template_remarks.remarks(project, SHAPES) == []
    for name in ("tiny", "bad", "gone"):
        training.base_model = name
        training.save()
        assert template_remarks.remarks(project, SHAPES) == []
