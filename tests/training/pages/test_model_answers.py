"""Two models side by side: their answers to the same held-out prompts, from whichever evaluations have them."""

from __future__ import annotations

import json
import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from annotate.models import Member, Project
from tests.training import machine
from training.models import ModelVersion, Question, Result, Round, Run
from training.services.pages.model_pages import model_answers
from training.services.planning.plans import Plan
from training.services.running import results
from training.stages.planning import PlannedParent, StagePlan

PROMPTS = 6


@pytest.fixture
def models(project: Project, data_dir: object) -> dict[str, ModelVersion]:
    """base-1, sft-1, ppo-1, ppo-2 and reward-1, without weights."""
    kinds = ("base", "sft", "reward", "ppo", "ppo")
    return {model.name: model for model in (machine.make_model(project, kind) for kind in kinds)}


def evaluate(models: dict[str, ModelVersion], texts: dict[str, str], rewards: dict[str, float], **roles: str) -> Run:
    """A round whose evaluation let models answer: of each role the model's name, of each model its text and reward."""
    project = models["sft-1"].project
    parents = {role: PlannedParent(name=name, model_version=models[name].pk) for role, name in roles.items()}
    parents["reward"] = PlannedParent(name="reward-1", model_version=models["reward-1"].pk)
    number = project.rounds.count() + 1
    plan = Plan(number=number, obstacle="", stages=[StagePlan(stage="evaluation", parents=parents)]).to_json()
    done = {"status": Round.Status.SUCCEEDED, "finished_at": timezone.now()}
    round = Round.objects.create(project=project, number=number, plan=plan, **done)
    run = machine.queue_run(project, "evaluation", round=round, status=Run.Status.SUCCEEDED)
    (run.directory / "data").mkdir(parents=True)
    asked = [{"id": pk, "messages": [{"role": "user", "content": f"Question {pk}?"}]} for pk in range(PROMPTS)]
    (run.directory / "data/heldout_prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    rows = [
        {
            "prompt_id": pk,
            "index": 0,
            "policy": role,
            "text": texts[name] if pk else "Drink water.",
            "n_tokens": 4,
            "logprob": -3.0,
            "reward": rewards[name],
            "finish_reason": "stop",
            "kl": None,
        }
        for pk in range(PROMPTS)
        for role, name in roles.items()
    ]
    machine.write_output(run, {"completions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    return run


TEXTS = {"sft-1": "Drink water.", "ppo-1": "Drink tea.", "ppo-2": "Drink milk."}
REWARDS = {"sft-1": 0.0, "ppo-1": 1.0, "ppo-2": 0.5}


def compared(page: Client, *pair: ModelVersion) -> str:
    address = reverse("training:models-compare", args=[pair[0].project.slug])
    return page.get(address, {"model": [model.pk for model in pair]}).content.decode()


def test_two_models_of_one_evaluation_show_their_answers_most_changed_first_and_a_win_rate(
    client: Client, admin: Member, models: dict[str, ModelVersion]
) -> None:
    evaluate(models, TEXTS, REWARDS, policy="ppo-1", reference="sft-1")
    found = model_answers.compare(models["ppo-1"], models["sft-1"])
    assert (found.before.name, found.after.name, found.judge, found.rounds) == ("sft-1", "ppo-1", "reward-1", [1])
    assert [pair["change"] for pair in found.answers] == [0.5] * (PROMPTS - 1) + [0.0]
    assert list(found.win_rate or []) == [1.0, 1.0, 1.0]
    client.force_login(admin.user)
    html = compared(client, models["ppo-1"], models["sft-1"])
    assert "Drink <del>water.</del>" in html and "Drink <ins>tea.</ins>" in html
    words = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "Proxy win rate of ppo-1 against sft-1: 100% (100% to 100%) how often the reward model reward-1" in words


@pytest.mark.parametrize("is_stored", [True, False])
def test_where_an_independent_judge_scored_both_its_win_rate_stands(
    client: Client, admin: Member, models: dict[str, ModelVersion], is_stored: bool
) -> None:
    run = evaluate(models, TEXTS, REWARDS, policy="ppo-1", reference="sft-1")
    assert run.round is not None
    run.round.plan["stages"][0]["parents"]["watcher"] = {"name": "watcher-1", "model_version": None, "stage": None}
    run.round.save()
    path = next(run.directory.rglob("completions.jsonl"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"watcher": -row["reward"]}) + "\n" for row in rows))
    if is_stored:
        results.load(run.round)
    client.force_login(admin.user)
    words = " ".join(re.sub(r"<[^>]+>", " ", compared(client, models["ppo-1"], models["sft-1"])).split())
    assert "Win rate of ppo-1 against sft-1: 0% (0% to 0%) how often the independent judge watcher-1" in words
    assert "Proxy win rate" not in words


def test_a_pair_that_is_not_the_rounds_own_is_read_from_the_same_evaluation(models: dict[str, ModelVersion]) -> None:
    evaluate(models, TEXTS, REWARDS, policy="ppo-2", reference="sft-1", parent="ppo-1")
    found = model_answers.compare(models["ppo-1"], models["sft-1"])
    assert found.answers[0]["after"] == [("kept", "Drink "), ("changed", "tea.")]
    assert list(found.win_rate or []) == [1.0, 1.0, 1.0]


def test_a_reward_model_among_the_compared_answers_nothing(
    client: Client, admin: Member, models: dict[str, ModelVersion]
) -> None:
    client.force_login(admin.user)
    evaluate(models, TEXTS, REWARDS, policy="ppo-1", reference="sft-1")
    shown = compared(client, models["ppo-1"], models["reward-1"], models["sft-1"])
    assert "Choose a pair" not in shown  # the two that answer are side by side at once
    shown = compared(client, models["ppo-1"], models["reward-1"], models["sft-1"], models["ppo-2"])
    assert "ppo-1 and sft-1" in shown and "reward-1 and" not in shown and "and reward-1" not in shown


def test_a_pair_that_is_the_rounds_own_reads_as_on_the_page_of_the_round(models: dict[str, ModelVersion]) -> None:
    run = evaluate(models, TEXTS, REWARDS, policy="ppo-2", reference="sft-1", parent="ppo-1")
    assert run.round is not None
    results.load(run.round)
    result = Result.objects.get()
    found = model_answers.compare(models["ppo-1"], models["ppo-2"])
    assert found.answers == result.answers
    assert found.win_rate == result.figure("win_rate")["after"]
    for path in run.directory.rglob("*.jsonl"):
        path.unlink()
    assert model_answers.compare(models["ppo-1"], models["ppo-2"]) == found


def test_answers_of_two_evaluations_have_no_rewards_and_no_win_rate(
    client: Client, admin: Member, models: dict[str, ModelVersion]
) -> None:
    evaluate(models, TEXTS, REWARDS, policy="ppo-1", reference="sft-1")
    evaluate(models, TEXTS, REWARDS, policy="ppo-2", reference="sft-1")
    found = model_answers.compare(models["ppo-1"], models["ppo-2"])
    assert (found.rounds, found.win_rate, len(found.answers)) == ([1, 2], None, PROMPTS)
    assert {pair["before_reward"] for pair in found.answers} == {None}
    client.force_login(admin.user)
    assert "No win rate" in compared(client, models["ppo-1"], models["ppo-2"])


def test_a_model_that_its_round_made_is_found_by_its_stage(models: dict[str, ModelVersion]) -> None:
    run = evaluate(models, TEXTS, REWARDS, policy="ppo-1", reference="sft-1")
    assert run.round is not None
    plan = run.round.plan
    plan["stages"][0]["parents"]["policy"] = {"name": "ppo-1", "model_version": None, "stage": "ppo"}
    Round.objects.filter(pk=run.round.pk).update(plan=plan)
    ppo = machine.queue_run(run.project, "ppo", round=run.round, status=Run.Status.SUCCEEDED)
    ModelVersion.objects.filter(pk=models["ppo-1"].pk).update(run=ppo)
    assert model_answers.compare(models["sft-1"], ModelVersion.objects.get(pk=models["ppo-1"].pk)).answers


def test_without_common_answers_both_can_be_asked_the_same_question(
    client: Client, admin: Member, models: dict[str, ModelVersion]
) -> None:
    evaluate(models, TEXTS, REWARDS, policy="ppo-1", reference="sft-1")
    client.force_login(admin.user)
    base, ppo = models["base-1"], models["ppo-1"]
    html = compared(client, ppo, base)
    assert "Ask both models a question" in html
    ask = reverse("training:questions", args=[base.project.slug])
    assert f'href="{ask}?model={base.pk}&amp;model={ppo.pk}"' in html
    assert "reward-1 scores answers but does not write any" in compared(client, ppo, models["reward-1"])
    ModelVersion.objects.filter(pk=base.pk).update(weights_deleted_at=timezone.now())
    html = compared(client, ppo, base)
    assert "the weights of at least one have been deleted" in html and f'href="{ask}?model=' not in html


def test_questions_that_both_have_answered_are_named(models: dict[str, ModelVersion]) -> None:
    project, pair = models["sft-1"].project, (models["sft-1"], models["ppo-1"])
    for text, who in (("Both?", pair), ("One?", pair[:1])):
        question = Question.objects.create(project=project, text=text)
        for model in who:
            run = machine.queue_run(project, "sampling", status=Run.Status.SUCCEEDED)
            question.answers.create(model_version=model, run=run, texts=[])
    assert [question.text for question in model_answers.compare(*pair).questions] == ["Both?"]


def test_a_comparison_asks_the_same_few_statements_however_many_evaluations_there_were(
    models: dict[str, ModelVersion], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(4):
        evaluate(models, TEXTS, REWARDS, policy="ppo-1", reference="sft-1")
    pair = [ModelVersion.objects.select_related("run").get(pk=models[name].pk) for name in ("sft-1", "ppo-1")]
    with django_assert_num_queries(2):
        model_answers.compare(*pair)
