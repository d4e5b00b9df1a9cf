"""What a round amounts to: figures with intervals, accuracy by ranks apart, answers with the changed words marked."""

from __future__ import annotations

import json
import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Member, Project
from tests.training import machine
from training.models import ModelVersion, Result, Round, Run
from training.services.pages import outcome
from training.services.planning import plans
from training.services.running import results, word_diffs
from training.services.running.results import bootstrap, wilson
from training.templatetags import training_tags

PROMPTS = 24
ROLES = ("policy", "reference")


def test_a_diff_marks_the_words_that_are_gone_and_those_that_are_new() -> None:
    diff = word_diffs.compare("Drink water and rest.", "Drink tea and rest.")
    assert diff.before == [("kept", "Drink "), ("changed", "water "), ("kept", "and rest.")]
    assert diff.after == [("kept", "Drink "), ("changed", "tea "), ("kept", "and rest.")]
    assert diff.change == 0.25


@pytest.mark.parametrize("ends", [("", ""), (" one", " one"), (" one", " other"), ("\n", " \t")])
def test_the_pieces_of_a_diff_are_the_whole_texts_however_long(ends: tuple[str, str]) -> None:
    texts = [" Rest,\n\nrest. " * 500 + end for end in ends]
    diff = word_diffs.compare(*texts)
    assert [word_diffs.joined(diff.before), word_diffs.joined(diff.after)] == texts
    assert (diff.change > 0) == (ends[0] != ends[1])


@pytest.mark.parametrize(("text", "change"), [("Same.", 0), ("Other!", 1)])
def test_a_diff_says_how_different_two_answers_are(text: str, change: float) -> None:
    assert word_diffs.compare("Same.", text).change == change


def test_an_interval_narrows_with_more_prompts_and_is_the_same_every_time() -> None:
    few, many = bootstrap([0.0, 1.0] * 5, seed=1), bootstrap([0.0, 1.0] * 200, seed=1)
    assert few.value == many.value == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high
    assert few == bootstrap([0.0, 1.0] * 5, seed=1)


def test_the_interval_of_a_share_by_hand() -> None:
    low, high = wilson(0.8, 10)[1:]
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)  # Wilson 1927, 8 of 10
    assert wilson(1.0, 4).high == pytest.approx(1.0)


def test_ties_and_what_could_not_be_judged_make_no_pairs() -> None:
    assert sorted(results.pair_gaps([1, 2, 2, None, 7])) == [1, 1, 1, 1, 2]


@pytest.fixture
def measured(project: Project, base: ModelVersion) -> Round:
    """A round that is through, whose new policy says tea where the old one said water."""
    plan = plans.draft(project).to_json()
    done = {"status": Round.Status.SUCCEEDED, "finished_at": timezone.now()}
    this_round = Round.objects.create(project=project, number=1, plan=plan, **done)
    metrics = {"heldout/kl": 1.5, "heldout/reward_accuracy_gap_1": 0.75}
    run = machine.queue_run(project, "evaluation", round=this_round, status=Run.Status.SUCCEEDED, metrics=metrics)
    (run.directory / "data").mkdir(parents=True)
    asked = [{"id": pk, "messages": [{"role": "user", "content": f"Question {pk}?"}]} for pk in range(PROMPTS)]
    (run.directory / "data/heldout_prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (run.directory / "data/heldout_rankings.jsonl").write_text(json.dumps(RANKED) + "\n")
    rows = [answer(pk, role) for pk in range(PROMPTS) for role in ROLES]
    machine.write_output(run, {"completions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    return this_round


RANKED = {
    "slate_id": 1,
    "prompt_id": 1,
    "messages": [{"role": "user", "content": "Question 1?"}],
    "completions": [{"text": text, "finish_reason": "stop"} for text in "abcd"],
    "judgements": [{"id": 1, "annotator": "1", "round": 1, "places": [1, 2, 2, None]}],
}


def answer(pk: int, role: str) -> dict[str, object]:
    is_new = role == "policy"
    return {
        "prompt_id": pk,
        "index": 0,
        "policy": role,
        "text": "Drink tea." if is_new and pk else "Drink water.",
        "n_tokens": 5 if is_new else 4,
        "logprob": -3.0,
        "reward": 1.0 + pk % 2 if is_new else 0.5,
        "finish_reason": "stop" if is_new else "length",
        "kl": 1.0 + pk % 2 if is_new else None,
    }


def test_the_figures_stand_before_and_after_with_the_interval_of_the_change(measured: Round) -> None:
    result = results.load(measured)
    assert result is not None
    figures = {figure["name"]: figure for figure in Result.objects.get().figures}
    assert figures["reward"]["before"] == [0.5, 0.5, 0.5]
    value, low, high = figures["reward"]["change"]
    assert value == 1.0
    assert 0.5 < low < 1.0 < high < 1.5
    assert figures["length"]["change"][0] == 1.0
    assert (figures["stop_rate"]["before"][0], figures["stop_rate"]["after"][0]) == (0.0, 1.0)
    assert figures["win_rate"]["after"][0] == 1.0
    value, low, high = figures["kl"]["after"]
    assert value == 1.5
    assert 1.0 < low < 1.5 < high < 2.0


def test_accuracy_by_ranks_apart_says_on_how_many_pairs(measured: Round) -> None:
    result = results.load(measured)
    assert result is not None
    row = result.gaps[0]
    assert (row["gap"], row["pairs"], row["accuracy"][0]) == (1, 2, 0.75)


def test_twenty_prompts_are_shown_the_most_changed_first(measured: Round) -> None:
    result = results.load(measured)
    assert result is not None
    changes = [pair["change"] for pair in result.answers]
    assert len(changes) == 20
    assert changes == sorted(changes, reverse=True)


def test_a_result_is_worked_out_once_and_outlives_its_files(measured: Round) -> None:
    first = results.load(measured)
    for path in measured.runs.get().directory.rglob("*.jsonl"):
        path.unlink()
    assert results.load(measured) == first


def test_a_round_whose_ppo_nobody_watched_says_so_and_why(measured: Round, client: Client, admin: Member) -> None:
    ppo = machine.make_model(measured.project, "ppo")
    unwatched = outcome.build(measured, ppo)
    assert unwatched is not None and unwatched.warning == (
        "No independent judge watched PPO in this round, so it may have exploited the reward model unseen. "
        "There is no new reward model to watch over."
    )
    machine.queue_run(measured.project, "ppo", round=measured, status=Run.Status.SUCCEEDED)
    ModelVersion.objects.filter(pk=ppo.pk).update(run=measured.runs.get(stage="ppo"))
    client.force_login(admin.user)
    address = reverse("training:round", args=[measured.project.slug, 1])
    assert "No independent judge watched PPO" in client.get(address).content.decode()
    ModelVersion.objects.filter(pk=ppo.pk).update(metrics={"gauge/watcher": 0.5})
    assert "No independent judge watched PPO" not in client.get(address).content.decode()


def test_a_policy_that_started_from_the_champion_stands_beside_it_and_not_beside_its_reference(
    measured: Round,
) -> None:
    run = measured.runs.get()
    roles = {"policy": 2.0, "reference": 0.0, "parent": 1.5}
    rows = [answer(pk, role) | {"reward": reward} for pk in range(PROMPTS) for role, reward in roles.items()]
    machine.write_output(run, {"completions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    result = results.load(measured)
    assert result is not None
    [reward] = [figure for figure in result.figures if figure["name"] == "reward"]
    assert (reward["before"][0], reward["after"][0]) == (1.5, 2.0)
    assert len(result.answers) == 20


@pytest.mark.database
def test_what_a_policy_wrote_that_is_no_text_is_shown_repaired(measured: Round) -> None:
    run = measured.runs.get()
    rows = [answer(pk, role) | {"text": "Drink\x00 tea."} for pk in range(PROMPTS) for role in ROLES]
    machine.write_output(run, {"completions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    result = results.load(measured)
    assert result is not None
    assert result.answers[0]["after"][0][1] == "Drink\ufffd tea."


def test_the_list_of_rounds_shows_the_judges_win_rate_or_calls_it_proxy(
    measured: Round, client: Client, admin: Member
) -> None:
    result = results.load(measured)
    assert result is not None
    client.force_login(admin.user)
    address = reverse("training:rounds", args=[measured.project.slug])

    def cell() -> str:
        html = client.get(address).content.decode().partition('data-label="Win rate">')[2]
        return " ".join(re.sub(r"<[^>]+>", " ", html.partition("</td>")[0]).split())

    assert cell() == "100% (100% to 100%) proxy"
    result.figures.insert(0, {"name": "watcher_win_rate", "after": [0.25, 0.125, 0.5]})
    result.save()
    assert cell() == "25% (12% to 50%) independent judge"
    result.figures = [figure for figure in result.figures if figure["name"] == "reward"]
    result.save()
    assert cell() == "–"


def test_a_round_whose_files_are_gone_has_no_result(measured: Round) -> None:
    for path in measured.runs.get().directory.rglob("*.jsonl"):
        path.unlink()
    assert results.load(measured) is None


def test_the_page_shows_both_answers_with_the_words_that_differ(client: Client, measured: Round, admin: Member) -> None:
    client.force_login(admin.user)
    shown = client.get(reverse("training:round", args=[measured.project.slug, 1])).content.decode()
    assert "Drink <del>water.</del>" in shown
    assert "Drink <ins>tea.</ins>" in shown
    assert "75% (" in shown
    assert "mostly rewritten" not in shown
    assert "+1.00 (" in shown


def test_words_are_not_marked_where_most_of_them_changed(client: Client, measured: Round, admin: Member) -> None:
    client.force_login(admin.user)
    run = measured.runs.get()
    rows = [answer(pk, role) for pk in range(PROMPTS) for role in ROLES]
    for row in rows:
        row["text"] = "Ask a neighbour." if row["policy"] == "policy" else "Drink water & rest."
    machine.write_output(run, {"completions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    shown = client.get(reverse("training:round", args=[measured.project.slug, 1])).content.decode()
    assert "Drink water &amp; rest." in shown
    assert "<del>" not in shown and "<ins>" not in shown
    assert shown.count("mostly rewritten") == 20
    assert "As annotators see it" not in shown


def test_compared_answers_can_be_read_as_people_read_them(client: Client, measured: Round, admin: Member) -> None:
    client.force_login(admin.user)
    rows = [answer(pk, role) for pk in range(PROMPTS) for role in ROLES]
    for row in rows:
        row["text"] = f"<think>Hm.</think>Rest **well**, drink $x^2$ water{'!' * (row['policy'] == 'policy')}"
    machine.write_output(measured.runs.get(), {"completions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    shown = client.get(reverse("training:round", args=[measured.project.slug, 1])).content.decode()
    assert shown.count("As annotators see it") == shown.count("<strong>well</strong>") == 40
    assert "<math" in shown and "Model reasoning" in shown


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ([-0.003, -0.012, 0.0001], "−0.3% (−1.2% to 0%)"),
        ([0.123, -0.05, 0.2], "+12% (−5% to +20%)"),
        ([0.0971, 0.0, 1.0], "+9.7% (0% to +100%)"),
        (None, "–"),
    ],
)
def test_a_change_of_a_share_has_a_sign_and_a_decimal_where_it_is_small(
    interval: list[float | None] | None, text: str
) -> None:
    assert training_tags.figure_change(interval, "stop_rate") == text


def test_a_change_that_is_rounded_to_nothing_has_no_sign() -> None:
    assert training_tags.figure_change([-0.001, -1.5, 0.004], "reward") == "0.00 (−1.50 to 0.00)"
    assert training_tags.figure_value([0.996], "stop_rate") == "100%"


def test_the_verdict_says_what_the_figures_amount_to_and_warns_of_length(measured: Round) -> None:
    result = results.load(measured)
    assert result is not None
    figures = {figure["name"]: figure for figure in result.figures}
    assert results.summary(result) == ["According to the reward model, the answers are better (+1.00)."]
    figures["length"]["change"] = [2.0, 1.0, 3.0]
    assert results.summary(result)[1] == ("They are 50% longer. Read some: length alone can raise the reward.")
    figures["reward"]["change"] = [-0.5, -1.2, 0.2]
    assert results.summary(result) == ["According to the reward model, there is no clear difference (−0.50)."]
    figures["reward"]["change"] = [-0.5, -1.2, -0.2]
    assert results.summary(result) == ["According to the reward model, the answers are worse (−0.50)."]


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (2.0, "According to the independent judge, the answers are better: they win 100% of the comparisons."),
        (0.5, "According to the independent judge, there is no clear difference: they win 50% of the comparisons."),
        (-2.0, "According to the independent judge, the answers are worse: they win 0% of the comparisons."),
    ],
)
def test_the_independent_judge_speaks_first_and_a_disagreement_with_the_reward_is_told(
    measured: Round, score: float, verdict: str
) -> None:
    rows = [
        answer(pk, role) | {"watcher": score if role == "policy" else 0.5} for pk in range(PROMPTS) for role in ROLES
    ]
    machine.write_output(measured.runs.get(), {"completions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    result = results.load(measured)
    assert result is not None
    first, *others = results.summary(result)
    assert first == verdict
    assert ("The two disagree" in " ".join(others)) == (score <= 0.5)
    assert result.figures[0]["name"] == "watcher_win_rate"
    assert len(result.parting) == (results.SHOWN_APART if score < 0.5 else 0)


def test_the_answers_on_which_reward_and_judge_disagree_most_stand_first_with_both_scores(
    measured: Round, client: Client, admin: Member
) -> None:
    rows = [
        answer(pk, role) | {"watcher": -2.0 * pk if role == "policy" else 0.0}
        for pk in range(PROMPTS)
        for role in ROLES
    ]
    machine.write_output(measured.runs.get(), {"completions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    result = results.load(measured)
    assert result is not None
    assert [pair["messages"][0]["content"] for pair in result.parting[:2]] == ["Question 23?", "Question 22?"]
    assert (result.parting[0]["after_reward"], result.parting[0]["after_judged"]) == (2.0, -46.0)
    client.force_login(admin.user)
    page = client.get(reverse("training:round", args=[measured.project.slug, measured.number])).content.decode()
    assert "Where reward model and judge disagree" in page and "judge -46.00 σ" in page.replace("−", "-")
