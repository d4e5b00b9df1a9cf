"""What rounds tell the members: admins how training goes, everybody else only that there is something to rank."""

from __future__ import annotations

import pytest
from django.urls import reverse

from annotate.models import Member, Notice, Project
from tests.factories import make_member, make_slate
from tests.training import engine_files, machine
from training.models import ModelVersion, Round, Run
from training.services.running import notices, rounds, runs


@pytest.fixture
def round(project: Project, annotator: Member, admin: Member, base: ModelVersion) -> Round:
    """A round that `admin` has opened."""
    machine.write_demonstrations(annotator, 3)
    return rounds.open(project, opened_by=admin.user)


def texts(member: Member) -> list[str]:
    return list(member.notices.order_by("pk").values_list("kind", flat=True))


def test_other_admins_hear_that_a_round_started(
    project: Project, annotator: Member, admin: Member, base: ModelVersion
) -> None:
    other = make_member(project, role="admin")
    machine.write_demonstrations(annotator, 3)
    round = rounds.open(project, opened_by=admin.user)
    assert (texts(admin), texts(other), texts(annotator)) == ([], ["round.started"], [])
    assert other.notices.get().address == reverse("training:round", args=[project.slug, round.number])


def test_a_failed_round_says_why_to_admins_only(round: Round, admin: Member, annotator: Member) -> None:
    run = Run.objects.get()
    Run.objects.filter(pk=run.pk).update(status=Run.Status.FAILED, error="The loss is no number.\n\nmore")
    rounds.advance(round)
    rounds.advance(round)  # told once
    assert admin.notices.get().text == "Round 1 has failed: SFT: The loss is no number."
    assert not annotator.notices.exists()


def test_a_finished_round_asks_annotators_for_rankings_without_a_word_about_models(
    round: Round, admin: Member, annotator: Member
) -> None:
    make_slate(round.project)
    Run.objects.update(status=Run.Status.SUCCEEDED)
    for stage in ("evaluation", "sampling"):
        machine.queue_run(round.project, stage, round=round, status=Run.Status.SUCCEEDED)
    rounds.advance(round)
    assert texts(admin) == ["round.finished", "rankings.wanted"]
    notice = annotator.notices.get()
    assert notice.text == "1 set of answers is waiting to be ranked."
    assert notice.address == reverse("annotate:rank", args=[round.project.slug])


def finish_with_ppo(round: Round) -> Run:
    """The PPO of `round`, whose runs are all through; it has written nothing yet."""
    Run.objects.update(status=Run.Status.SUCCEEDED)
    for stage in ("evaluation", "sampling"):
        machine.queue_run(round.project, stage, round=round, status=Run.Status.SUCCEEDED)
    return engine_files.make_run(round.project, round=round, status=Run.Status.SUCCEEDED)


def test_a_finished_round_says_that_ppo_stopped_at_its_limit(round: Round, admin: Member) -> None:
    engine_files.write_metrics(finish_with_ppo(round), [{"rollout/kl": 1.0}, {"rollout/kl": 9.0}])
    rounds.advance(round)
    assert admin.notices.get().text.startswith("Round 1 is finished. PPO stopped at its KL limit. Review the result")


def test_a_finished_round_says_that_the_judge_ended_ppo_and_what_it_saw(round: Round, admin: Member) -> None:
    engine_files.write_metrics(finish_with_ppo(round), engine_files.watched_metrics(20))
    rounds.advance(round)
    assert admin.notices.get().text == (
        "Round 1 is finished. PPO stopped at step 20 of 40: the independent judge saw no further improvement."
        " Its score was 0.4 σ at step 10 and 0.2 σ at step 20. Published is the policy of step 10."
        " Review the result and decide whether to promote the model."
    )


def test_a_cancelled_round_is_no_news(round: Round, admin: Member) -> None:
    rounds.cancel(round, actor=admin.user)
    assert not Notice.objects.filter(member=admin).exists()
    assert runs.claim(Run.objects.get().pk, owner="gpu@one") is None


def test_a_held_run_asks_admins_to_act_and_leads_to_where_they_can(
    round: Round, admin: Member, annotator: Member
) -> None:
    run = round.runs.get()
    run.error = "The disk is full.\nmore"
    notices.held(run)
    notice = admin.notices.get()
    assert notice.text == "Round 1 is on hold at SFT and needs attention: The disk is full."
    assert notice.address == reverse("training:run", args=[round.project.slug, run.pk])
    assert not annotator.notices.exists()


def test_a_held_run_of_no_round_is_announced_too(project: Project, admin: Member) -> None:
    notices.held(machine.queue_run(project, "pretraining", error="The disk is full."))
    assert admin.notices.get().text == "A run (pretraining) is on hold and needs attention: The disk is full."
