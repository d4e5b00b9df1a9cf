"""What an admin does about two answers of a result: people rank them, and later rounds show the prompt again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEvent, Completion, Kind, Member, Project, Prompt, Slate, Split
from annotate.services import prompts, work
from tests.factories import make_member, make_project, make_prompt
from tests.training import evaluated
from training.models import Probe, Result, Round, Sample, SentSample
from training.services.pages import pair_actions
from training.services.running import pairs, probes, results, word_diffs

LONG = "Drink water, and rest. " * 300 + "Then ask a doctor."
ANSWERS = ("Rest.", "Rest, rest, rest!")


@pytest.fixture
def page(client: Client, admin: Member, data_dir: Path) -> Client:
    client.force_login(admin.user)
    return client


def make_heldout(project: Project, **fields: object) -> Prompt:
    prompt = make_prompt(project, **fields)
    prompt.split = Split.HELDOUT
    prompt.save()
    return prompt


def press(page: Client, name: str, round: Round, prompt: Prompt, section: str = "parting") -> str:
    """The page after the button, as words."""
    answer = page.post(address(name, round, prompt), {"section": section})
    assert answer["Location"] == f"{round_page(round)}#{section}-{prompt.pk}"
    return shown(page, round)


def address(name: str, round: Round, prompt: Prompt) -> str:
    return reverse(f"training:pair-{name}", args=[round.project.slug, round.number, prompt.pk])


def round_page(round: Round) -> str:
    return reverse("training:round", args=[round.project.slug, round.number])


def shown(page: Client, round: Round) -> str:
    html = page.get(round_page(round)).content.decode()
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def load(round: Round) -> Result:
    result = results.load(round)
    assert result is not None
    return result


def test_people_rank_what_both_models_wrote_word_for_word_and_without_their_names(
    page: Client, project: Project, admin: Member, annotator: Member
) -> None:
    prompt = make_heldout(project)
    this_round = evaluated.make_round(project, {prompt: (LONG, LONG + "\x00 Now!")})
    assert f"Let people rank these two answers to prompt #{prompt.pk}" in shown(page, this_round)
    told = press(page, "rank", this_round, prompt)
    slate = Slate.objects.get()
    texts = Completion.objects.filter(slate=slate).values_list("text", "finish_reason")
    assert sorted(texts) == [(LONG, "stop"), (LONG + "\ufffd Now!", "length")]
    assert slate.prompt == prompt and not Sample.objects.exists()
    assert f"People have been asked to rank these two. The question is prompt #{prompt.pk}. It is held out:" in told
    assert "Let people rank these two" not in told
    event = AuditEvent.objects.get(action="sample.sent")
    assert (event.actor, event.detail) == (admin.user, {"slate": slate.pk, "prompt": prompt.pk})
    claim = work.claim(project, annotator=annotator, kind=Kind.RANKING)
    assert claim.assignment and claim.assignment.item.slate == slate


def test_two_answers_are_ranked_once_however_often_and_by_whomever_the_button_is_pressed(
    page: Client, project: Project
) -> None:
    prompt = make_heldout(project)
    rounds = [evaluated.make_round(project, {prompt: ANSWERS}) for _ in range(2)]
    shown(page, rounds[0])
    press(page, "rank", rounds[0], prompt)
    page.force_login(make_member(project, role="admin").user)
    assert "People have been asked to rank these two already." in press(page, "rank", rounds[0], prompt, "answers")
    assert "Let people rank these two" not in shown(page, rounds[1])  # which gave the same answers
    press(page, "rank", rounds[1], prompt)
    assert (Slate.objects.count(), SentSample.objects.count()) == (1, 1)
    assert AuditEvent.objects.filter(action="sample.sent").count() == 1


def test_the_same_texts_and_a_withdrawn_prompt_are_not_ranked_and_a_sentence_says_why(
    page: Client, project: Project, admin: Member
) -> None:
    same, gone = make_heldout(project), make_heldout(project)
    this_round = evaluated.make_round(project, {same: ("Rest.", "Rest."), gone: ANSWERS})
    shown(page, this_round)
    prompts.withdraw(gone, actor=admin.user)
    html = shown(page, this_round)
    assert "The two answers are the same, so there is nothing to rank." in html
    assert "The prompt is withdrawn. No one is asked about it any more." in html
    assert "Let people rank these two" not in html and f"cheating in the answers to prompt #{gone.pk}" not in html
    for prompt in (same, gone):
        press(page, "rank", this_round, prompt, "answers")
    assert not Slate.objects.exists()


def test_a_marked_prompt_is_in_the_result_of_every_later_round_whatever_the_scores(
    page: Client, project: Project, admin: Member
) -> None:
    watched, other = make_heldout(project), make_heldout(project)
    first = evaluated.make_round(project, {watched: ANSWERS, other: ANSWERS})
    before = load(first).probes
    told = press(page, "watch", first, watched)
    assert "Watched since round 1: later rounds show their answers." in told and "Prompts to watch" not in told
    later = evaluated.make_round(project, {watched: ("Sleep.", "Sleep well."), other: ANSWERS})
    html = shown(page, later)
    assert "Prompts to watch" in html and "reward 1.00 σ · judge 0.00 σ" in html
    [pair] = Result.objects.get(round=later).probes
    assert pair["prompt"] == watched.pk
    assert [word_diffs.joined(pair[side]) for side in ("before", "after")] == ["Sleep.", "Sleep well."]
    assert before == load(first).probes == []
    assert AuditEvent.objects.get(action="probe.marked").actor == admin.user


def test_a_prompt_is_marked_once_and_no_later_round_shows_it_once_it_is_no_longer_watched(
    page: Client, project: Project
) -> None:
    prompt = make_heldout(project)
    first, second = (evaluated.make_round(project, {prompt: ANSWERS}) for _ in range(2))
    load(first)
    for _ in range(2):
        press(page, "watch", first, prompt)
    assert Probe.objects.get().round == first
    assert f"No longer watch prompt #{prompt.pk}" in shown(page, second)
    for _ in range(2):
        told = press(page, "unwatch", second, prompt, "probes")
    assert not Probe.objects.exists() and "Prompts to watch" in told and "No longer watch" not in told
    assert load(evaluated.make_round(project, {prompt: ANSWERS})).probes == []
    events = AuditEvent.objects.filter(action__startswith="probe.").order_by("pk")
    assert list(events.values_list("action", flat=True)) == ["probe.marked", "probe.withdrawn"]


def test_a_watched_prompt_that_a_round_did_not_answer_is_named_and_can_be_let_go(
    page: Client, project: Project, admin: Member
) -> None:
    gone, other = make_heldout(project, external_id="q-7"), make_heldout(project)
    first = evaluated.make_round(project, {gone: ANSWERS, other: ANSWERS})
    load(first)
    press(page, "watch", first, gone)
    prompts.withdraw(gone, actor=admin.user)
    later = evaluated.make_round(project, {other: ANSWERS})
    html = shown(page, later)
    assert f"This round has no answers to prompt #{gone.pk} (q-7). The prompt was withdrawn." in html
    assert "Let people rank these two answers to prompt #" + str(gone.pk) not in html
    press(page, "unwatch", later, gone, "probes")
    assert not Probe.objects.exists()


def test_a_withdrawn_prompt_is_not_marked(project: Project, admin: Member, data_dir: Path) -> None:
    prompt = make_heldout(project)
    seen_in = evaluated.make_round(project, {prompt: ANSWERS})
    prompts.withdraw(prompt, actor=admin.user)
    with pytest.raises(probes.CannotWatch):
        probes.mark(prompt, seen_in=seen_in, marked_by=admin.user)


def test_only_prompts_of_the_result_have_buttons(page: Client, project: Project) -> None:
    prompt, unanswered = make_heldout(project), make_heldout(project)
    this_round = evaluated.make_round(project, {prompt: ANSWERS})
    load(this_round)
    elsewhere = make_heldout(make_project())
    for other in (unanswered, elsewhere):
        assert [page.post(address(name, this_round, other)).status_code for name in ("rank", "watch")] == [404, 404]
    assert page.post(address("unwatch", this_round, elsewhere)).status_code == 404


def test_a_result_from_before_pairs_had_ids_shows_its_answers_without_buttons(page: Client, project: Project) -> None:
    this_round = evaluated.make_round(project, {make_heldout(project): ANSWERS})
    result = load(this_round)
    for pair in (*result.answers, *result.parting):
        del pair["prompt"]
    result.save()
    html = shown(page, this_round)
    assert "Where reward model and judge disagree" in html and "Rest, rest, rest!" in html
    assert "Let people rank these two" not in html and "Looks like cheating in" not in html


def test_the_buttons_of_many_pairs_cost_as_many_statements_as_those_of_one(
    project: Project, data_dir: Path, django_assert_num_queries: object
) -> None:
    this_round = evaluated.make_round(project, {make_heldout(project): ANSWERS for _ in range(8)})
    result = load(this_round)
    with django_assert_num_queries(3):  # type: ignore[operator]
        shown = pair_actions.sections(result, project)
    assert [len(shown[name]) for name in pair_actions.SECTIONS] == [8, 0, 8]


def test_all_pairs_of_a_prompt_are_the_same_two_texts(project: Project, data_dir: Path) -> None:
    prompt = make_heldout(project)
    result = load(evaluated.make_round(project, {prompt: ANSWERS}))
    assert pairs.digest(result.parting[0]) == pairs.digest(result.answers[0])
    assert pairs.of_prompt(result, prompt.pk) == result.parting[0]
