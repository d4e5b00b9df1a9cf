"""Questions of admins: answered by the models they choose, seen by nobody else, learned from by no model."""

from __future__ import annotations

import json

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from annotate.models import AuditEvent, Completion, Kind, Member, Project, Prompt, Slate, Split
from annotate.services import prompts, splits, work
from tests.factories import make_project
from tests.training import engine_files, history, machine
from training.models import Answer, ModelVersion, Question, Round, Run, Sample, TrainingSettings
from training.services.labels import snapshots, trainable_labels
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


@pytest.mark.parametrize(("kind", "is_told"), [("left_out", True), ("crash", False)])
def test_a_question_that_a_model_cannot_read_says_what_to_do(
    page: Client, project: Project, base: ModelVersion, kind: str, is_told: bool
) -> None:
    question = ask(page, project, base)
    failed = {"status": Run.Status.FAILED, "error": "it ended", "ending": {"kind": kind}}
    Run.objects.filter(pk=question.answers.get().run_id).update(**failed)
    html = shown(page, question)
    assert "it ended" in html
    assert ("Shorten it and ask again." in html) == is_told


def test_a_question_says_that_it_waits_behind_training(page: Client, project: Project, base: ModelVersion) -> None:
    training = history.make_round(project, "sft")["sft"].run
    assert training is not None
    Run.objects.filter(pk=training.pk).update(status=Run.Status.QUEUED, stage=Stage.PPO)
    runs.claim(training.pk, owner="gpu@one")
    Run.objects.filter(pk=training.pk).update(step=12, total=40)
    html = shown(page, ask(page, project, base))
    assert f"Waiting for PPO of round 1 in “{project}”; start time unknown." in html


def test_a_question_says_nothing_of_what_another_project_trains(
    page: Client, project: Project, base: ModelVersion
) -> None:
    secret = make_project("Secret plans")
    plan = plans.Plan(number=7, obstacle="", stages=[]).to_json()
    round = Round.objects.create(project=secret, number=7, plan=plan)
    times = {"started_at": timezone.now(), "heartbeat_at": timezone.now()}
    machine.queue_run(secret, Stage.PPO, round=round, status=Run.Status.RUNNING, step=12, total=40, **times)
    html = shown(page, ask(page, project, base))
    assert "Waiting for a run of another project; start time unknown." in html
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


def answered(project: Project, admin: Member, *models: ModelVersion, texts: list[str], text: str = "Why?") -> Question:
    """A question whose answers are in: each of `models` wrote `texts`."""
    question = questions.ask(project, text=text, models=list(models), asked_by=admin.user)
    said = [{"text": each, "finish_reason": "length" if each == "Cut" else "stop"} for each in texts]
    question.answers.update(texts=said)
    Run.objects.filter(answer__question=question).update(status=Run.Status.SUCCEEDED)
    return question


def send(page: Client, question: Question) -> str:
    address = reverse("training:question-rank", args=[question.project.slug, question.pk])
    return page.post(address, follow=True).content.decode()


def test_the_answers_are_ranked_by_people_once_each_text_and_the_question_is_a_prompt_then(
    page: Client, project: Project, base: ModelVersion, admin: Member, annotator: Member
) -> None:
    sft = machine.make_model(project, "sft", parent=base)
    question = answered(project, admin, base, sft, texts=["Rest.", "Cut"])
    Answer.objects.filter(question=question, model_version=sft).update(
        texts=[{"text": "Rest.", "finish_reason": "stop"}, {"text": "Sleep.", "finish_reason": "stop"}]
    )
    html = send(page, question)
    slate = Slate.objects.get()
    assert sorted(slate.completions.values_list("text", "finish_reason")) == [
        ("Cut", "length"),
        ("Rest.", "stop"),
        ("Sleep.", "stop"),
    ]
    assert slate.prompt.messages == [{"role": "user", "content": "Why?"}]
    assert slate.prompt.split == splits.split_of(slate.prompt.group, project.heldout_share)
    assert "People are now asked to rank these answers." in html and f"#{slate.prompt.pk}" in html
    assert "Add to ranking queue" not in html
    event = AuditEvent.objects.get(action="question.sent")
    assert (event.actor, event.detail["slate"], event.detail["models"]) == (admin.user, slate.pk, ["base-1", "sft-1"])
    claim = work.claim(project, annotator=annotator, kind=Kind.RANKING)
    assert claim.assignment and claim.assignment.item.slate == slate


def test_a_second_click_says_that_the_answers_are_there_already(
    page: Client, project: Project, base: ModelVersion, admin: Member
) -> None:
    question = answered(project, admin, base, texts=["Rest.", "Sleep."])
    send(page, question)
    assert "People have been asked to rank these answers already." in send(page, question)
    stale = Question.objects.get(pk=question.pk)
    stale.slate_id = None  # as another admin's page saw it, a moment before
    with pytest.raises(questions.AlreadyRanked):
        questions.let_people_rank(stale, sent_by=admin.user)
    assert (Slate.objects.count(), Prompt.objects.count()) == (1, 1)
    assert AuditEvent.objects.filter(action="question.sent").count() == 1


@pytest.mark.parametrize(
    ("texts", "reason"), [(["Rest."], "two different answers"), ([f"{n}" for n in range(10)], "At most 9")]
)
def test_fewer_than_two_different_answers_and_more_than_nine_are_not_ranked(
    page: Client, project: Project, base: ModelVersion, admin: Member, texts: list[str], reason: str
) -> None:
    question = answered(project, admin, base, texts=texts)
    assert reason in send(page, question)
    assert not Slate.objects.exists() and not Prompt.objects.exists()


def test_answers_are_not_ranked_before_every_model_is_through(
    page: Client, project: Project, base: ModelVersion
) -> None:
    question = ask(page, project, base)
    assert "Add to ranking queue" not in shown(page, question)
    assert "Not every model has answered yet." in send(page, question)
    assert not Slate.objects.exists()


def test_a_question_that_is_a_held_out_prompt_stays_held_out_and_its_rankings_only_measure(
    page: Client, project: Project, base: ModelVersion, admin: Member, annotator: Member
) -> None:
    heldout = prompts.add_one(project, {"text": "why?", "group": "other"})[0]
    Prompt.objects.update(split=Split.HELDOUT)
    question = answered(project, admin, base, texts=["Rest.", "Sleep."])
    html = send(page, question)
    slate = Slate.objects.get()
    assert slate.prompt != heldout and slate.prompt.split == Split.HELDOUT, "as what it is nearly the same as"
    assert "It is held out: its rankings are used for evaluation only" in " ".join(html.split())
    machine.rank_what_waits(annotator)
    assert trainable_labels.count(project).rankings == 0
    assert trainable_labels.count(project).heldout_rankings == 1


def test_a_withdrawn_prompt_is_not_ranked_by_way_of_a_question(
    page: Client, project: Project, base: ModelVersion, admin: Member
) -> None:
    prompts.withdraw(prompts.add_one(project, {"text": "Why?"})[0], actor=admin.user)
    question = answered(project, admin, base, texts=["Rest.", "Sleep."])
    assert "The prompt is withdrawn." in send(page, question)
    assert not Slate.objects.exists()


def test_a_question_says_how_many_samples_come_at_which_temperature_and_how_many_models_are_through(
    page: Client, project: Project, base: ModelVersion
) -> None:
    sft = machine.make_model(project, "sft", parent=base)
    question = ask(page, project, base, sft)
    address = reverse("training:question", args=[project.slug, question.pk])
    html = " ".join(page.get(address).content.decode().split())
    assert "Each model writes 2 samples at temperature 1:" in html
    assert "Answers have at most 8 tokens." in html
    assert "0 of 2 models finished" in html
    assert "Waiting for a worker, first in the queue." in html
    assert "Waiting in the queue behind 1 other run." in html
    first = question.answers.earliest("pk").run
    runs.claim(first.pk, owner="gpu@one")
    first.refresh_from_db()
    assert "On gpu@one: writing answers." in shown(page, question)
    phase = {"name": "loading", "what": "policy", "done": 1, "total": 4, "unit": "items"}
    (engine_files.attempt(first) / "phase.json").write_text(json.dumps(phase), "utf-8")
    assert "On gpu@one: loading the policy, 1 of 4." in shown(page, question)
    Run.objects.filter(pk=first.pk).update(status=Run.Status.SUCCEEDED)
    assert "1 of 2 models finished" in shown(page, question)


def test_a_question_goes_on_from_an_answer_without_what_the_model_thought(
    page: Client, project: Project, base: ModelVersion, admin: Member
) -> None:
    question = answered(project, admin, base, texts=["Sleep.", "<think>Hm.</think>Rest."])
    follows = f"{question.answers.get().pk}-1"
    form = page.get(reverse("training:questions", args=[project.slug]), {"follows": follows}).content.decode()
    assert "The conversation so far" in form and "Rest." in form and "Hm." not in form
    asked = {"text": "How long?", "models": [base.pk], "follows": follows}
    page.post(reverse("training:questions", args=[project.slug]), asked)
    second = Question.objects.latest("pk")
    conversation = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Rest."},
        {"role": "user", "content": "How long?"},
    ]
    assert second.messages == conversation
    machine.work_off()
    assert len(second.answers.get().texts) == questions.DRAWS
    assert (
        json.loads((second.answers.get().run.directory / "data/prompts.jsonl").read_text())["messages"] == conversation
    )
    send(page, second)
    assert Slate.objects.get().prompt.messages == conversation


@pytest.mark.parametrize("follows", ["nonsense", "999999-0", "{own}-7", "{foreign}-0"])
def test_a_question_goes_on_from_no_answer_that_is_not_there(
    page: Client, project: Project, base: ModelVersion, admin: Member, follows: str
) -> None:
    own = answered(project, admin, base, texts=["Rest."]).answers.get()
    elsewhere = Question.objects.create(project=make_project("Secret plans"), text="Who?")
    said = [{"text": "Nobody.", "finish_reason": "stop"}]
    foreign = Answer.objects.create(
        question=elsewhere, model_version=base, run=machine.queue_run(elsewhere.project, "sampling"), texts=said
    )
    asked = {"text": "How long?", "models": [base.pk], "follows": follows.format(own=own.pk, foreign=foreign.pk)}
    answer = page.post(reverse("training:questions", args=[project.slug]), asked)
    assert answer.status_code == 422
    assert "Ask the question again" in answer.content.decode() and "Nobody." not in answer.content.decode()
    assert Question.objects.filter(project=project).count() == 1


def test_a_question_costs_the_same_few_statements_however_many_models_answer(
    page: Client,
    project: Project,
    base: ModelVersion,
    admin: Member,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    sft = [machine.make_model(project, "sft", parent=base) for _ in range(3)]
    few = answered(project, admin, base, texts=["Rest.", "Sleep."])
    many = answered(project, admin, base, *sft, texts=["Rest.", "Sleep."])
    for question in (few, many):
        shown(page, question)
        with django_assert_max_num_queries(16):
            shown(page, question)
