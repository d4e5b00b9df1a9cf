"""Simulated people work through the REST API of a running server, and their labels are marked."""

import json
from datetime import timedelta
from statistics import fmean

import pytest
from django.core.management import call_command
from django.utils import timezone

from annotate.models import Assignment, Demonstration, Kind, Project, Ranking
from annotate.services import prompts, slates
from annotate.services.slates import NewCompletion
from tests.factories import make_project, make_prompt
from training.services.demo import people
from training.tiny import annotators, gold
from training.tiny.annotators import Behaviour
from training.tiny.world import phrasings

RELIABLE = Behaviour(skip=0.0, late=0.0, twice=0.0)
ANSWERS = ["Drink a big glass of water. Eat something light.", "What a silly question.", "Drink a big glass of water."]


@pytest.fixture
def project(transactional_db: None) -> Project:
    return make_project("Everyday")


def team(live_server, project, *, size=3, behaviour=RELIABLE, seed=0):
    tokens = people.invite(project, number=size)
    return annotators.assemble(live_server.url, tokens, project=project.slug, behaviour=behaviour, seed=seed)


def ask(project, number):
    prompts.add(project, prompts.records_from_list([{"text": phrasing.text} for phrasing in phrasings()[:number]]))


def test_what_they_write_is_helpful_and_marked_as_simulated(live_server, project):
    ask(project, 6)
    assert annotators.work(team(live_server, project), Kind.DEMONSTRATION, wanted=5) == 5
    written = Demonstration.objects.select_related("prompt", "annotator")
    assert len(written) == 5
    assert all(one.annotator.is_simulated for one in written)
    assert fmean(gold.utility(one.prompt.question, one.text) for one in written) > 1.5


def test_they_stop_when_nobody_is_given_any_more_work(live_server, project):
    ask(project, 4)
    assert annotators.work(team(live_server, project), Kind.DEMONSTRATION, wanted=100) == 4


def test_they_rank_by_the_gold_utility(live_server, project):
    prompt = make_prompt(project, "How do I treat my headache?")
    slate = slates.add(project, prompt=prompt, completions=[NewCompletion(text) for text in ANSWERS], priority=0).slate
    people = team(live_server, project, behaviour=Behaviour(noise=0.0, skip=0.0, late=0.0))
    assert annotators.work(people, Kind.RANKING, wanted=1) == 1
    placed = {one.completion.text: one.place for one in Ranking.objects.get(slate=slate).placements.all()}
    assert [placed[text] for text in ANSWERS] == [1, 3, 2]


def test_what_is_sent_twice_is_stored_once(live_server, project):
    ask(project, 5)
    people = team(live_server, project, behaviour=Behaviour(skip=0.0, late=0.0, twice=1.0))
    annotators.work(people, Kind.DEMONSTRATION, wanted=5)
    assert annotators.total(people)["twice"] == Demonstration.objects.count() == 5


def test_who_comes_back_after_the_lease_has_ended_hands_in_an_extra_label(live_server, project):
    ask(project, 1)
    (late,) = team(live_server, project, size=1, behaviour=Behaviour(skip=0.0, late=1.0))
    late.work(Kind.DEMONSTRATION)
    Assignment.objects.update(lease_until=timezone.now() - timedelta(minutes=1))
    *_, punctual = team(live_server, project, size=2)
    punctual.work(Kind.DEMONSTRATION)
    while late.put_aside:
        late.work(Kind.DEMONSTRATION)
    assert sorted(Assignment.objects.values_list("is_extra", flat=True)) == [False, True]
    assert Demonstration.objects.count() == 2


def test_a_question_from_another_world_is_skipped_with_a_reason(live_server, project):
    make_prompt(project, "What is the capital of France?")
    people = team(live_server, project, size=1)
    assert annotators.work(people, Kind.DEMONSTRATION, wanted=1) == 0
    assert Assignment.objects.get().skip_reason == "I know nothing about this."


def test_the_same_seed_gives_the_same_labels(live_server, project):
    ask(project, 6)
    behaviour = Behaviour(skip=0.2, late=0.2, twice=0.2)
    annotators.work(team(live_server, project, behaviour=behaviour, seed=4), Kind.DEMONSTRATION, wanted=6)
    again = make_project("Again")
    ask(again, 6)
    annotators.work(team(live_server, again, behaviour=behaviour, seed=4), Kind.DEMONSTRATION, wanted=6)
    first, second = (
        list(Demonstration.objects.filter(prompt__project=one).order_by("pk").values_list("prompt__text_hash", "text"))
        for one in (project, again)
    )
    assert first == second


def test_the_command_plays_the_people_whose_tokens_it_is_given(live_server, project, tmp_path, capsys):
    ask(project, 3)
    call_command("simulated_annotators", project.slug, number=2)
    (tmp_path / "tokens").write_text(capsys.readouterr().out)
    call_command(
        "simulate", url=live_server.url, project=project.slug, tokens=[tmp_path / "tokens"], demonstrations=3, seed=1
    )
    assert json.loads(capsys.readouterr().out)["demonstration"] == Demonstration.objects.count() == 3
