"""Questions of admins: answered by the models they choose, seen by nobody else, learned from by no model."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Completion, Member, Project, Prompt, Slate
from tests.factories import make_project
from tests.training import history, machine
from training.models import ModelVersion, Question, Round, Run, Sample, TrainingSettings
from training.services.labels import snapshots
from training.services.planning import plans
from training.services.running import questions, runs
from training.stages import Stage


@pytest.fixture
def page(client: Client, admin: Member) -> Client:
    client.force_login(admin.user)
    return client


def ask(page: Client, project: Project, *models: ModelVersion, text: str = "What helps?") -> Question:
    asked = {"text": text, "models": [model.pk for model in models]}
    answer = page.post(reverse("training:questions", args=[project.slug]), asked)
    assert answer.status_code == 302, answer.content.decode()
    return Question.objects.latest("pk")


def shown(page: Client, question: Question) -> str:
    address = reverse("training:question-live", args=[question.project.slug, question.pk])
    return page.get(address, headers={"HX-Request": "true"}).content.decode()


def test_a_question_is_answered_by_the_engine_and_reaches_nobody_else(
    page: Client, project: Project, base: ModelVersion
) -> None:
    question = ask(page, project, base)
    assert "waiting for a worker" in shown(page, question)
    machine.work_off()
    answer = question.answers.get()
    assert (answer.run.status, len(answer.texts)) == (Run.Status.SUCCEEDED, questions.DRAWS)
    html = shown(page, question)
    assert "hx-trigger" not in html, "a question that is answered asks no more"
    for model in (Prompt, Slate, Completion, Sample):
        assert not model.objects.exists()
    assert snapshots.freeze(project).counts["prompts"] == 0


def test_a_question_says_that_it_waits_behind_training(page: Client, project: Project, base: ModelVersion) -> None:
    training = history.make_round(project, "sft")["sft"].run
    assert training is not None
    Run.objects.filter(pk=training.pk).update(status=Run.Status.QUEUED, stage=Stage.PPO)
    runs.claim(training.pk, owner="gpu@one")
    Run.objects.filter(pk=training.pk).update(step=12, total=40)
    html = shown(page, ask(page, project, base))
    assert "Waits behind the training: the worker is busy with the PPO of round 1." in html
    assert "It is at step 12 of 40." in html


def test_a_question_says_nothing_of_what_another_project_trains(
    page: Client, project: Project, base: ModelVersion
) -> None:
    secret = make_project("Secret plans")
    plan = plans.Plan(number=7, obstacle="", stages=[]).to_json()
    round = Round.objects.create(project=secret, number=7, plan=plan)
    machine.queue_run(secret, Stage.PPO, round=round, status=Run.Status.RUNNING, step=12, total=40)
    html = shown(page, ask(page, project, base))
    assert "the worker is busy with another project" in html
    for secret in ("PPO", "round 7", "12 of 40"):
        assert secret not in html


def test_a_question_asked_again_is_drawn_anew(page: Client, project: Project, base: ModelVersion) -> None:
    first, second = ask(page, project, base), ask(page, project, base)
    machine.work_off()
    assert first.answers.get().texts != second.answers.get().texts


def test_reward_models_and_too_many_models_are_refused_with_the_text_kept(
    page: Client, project: Project, base: ModelVersion
) -> None:
    reward = machine.make_model(project, "reward", parent=base)
    many = [machine.make_model(project, "sft", parent=base) for _ in range(questions.MOST_MODELS + 1)]
    address = reverse("training:questions", args=[project.slug])
    for chosen in ([reward], many):
        answer = page.post(address, {"text": "What helps?", "models": [model.pk for model in chosen]})
        assert answer.status_code == 422
        assert "What helps?" in answer.content.decode()
    assert not Question.objects.exists()


def test_a_question_does_not_stand_on_the_rounds_page_as_the_base_model_being_made(
    page: Client, project: Project, base: ModelVersion
) -> None:
    ask(page, project, base)
    rounds = page.get(reverse("training:rounds", args=[project.slug])).content.decode()
    assert "Curves, log and settings" not in rounds


def test_a_setting_that_the_engine_does_not_know_is_a_sentence_and_queues_nothing(
    page: Client, project: Project, base: ModelVersion
) -> None:
    TrainingSettings.objects.update(overrides={"sampling": {"heat": 2}})
    answer = page.post(reverse("training:questions", args=[project.slug]), {"text": "What helps?", "models": [base.pk]})
    assert "unknown field &#x27;heat&#x27;" in answer.content.decode()
    assert not Question.objects.exists()
    assert not Run.objects.exists()
