"""What a project serves: the base model at first, then what people promoted last."""

from __future__ import annotations

import pytest

from annotate.models import AuditEvent, Member, Project
from tests.training import machine
from training.models import Promotion
from training.services.registry import promotions

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def test_the_base_model_is_the_first_champion(project: Project) -> None:
    assert promotions.champion(project) is None
    base = machine.make_model(project, "base")
    machine.make_model(project, "sft", parent=base)
    assert promotions.champion(project) == base


def test_going_back_is_promoting_an_older_model(project: Project, admin: Member) -> None:
    first, second = machine.make_model(project, "sft"), machine.make_model(project, "ppo")
    for model, reason in ((first, "polite"), (second, "better"), (first, "it was rude after all")):
        promotions.promote(model, promoted_by=admin.user, reason=reason)
    assert promotions.champion(project) == first
    assert [row.model_version for row in Promotion.objects.all()] == [first, second, first]
    event = AuditEvent.objects.filter(action="model.promoted").last()
    assert event.detail == {"before": "ppo-1", "reason": "it was rude after all"}


def test_a_reward_model_serves_nobody(project: Project, admin: Member) -> None:
    with pytest.raises(promotions.NotAPolicy):
        promotions.promote(machine.make_model(project, "reward"), promoted_by=admin.user, reason="best scores")


def test_the_champion_is_not_promoted_again(project: Project, admin: Member) -> None:
    base, sft = machine.make_model(project, "base"), machine.make_model(project, "sft")
    with pytest.raises(promotions.AlreadyChampion, match="base-1 is already the champion"):
        promotions.promote(base, promoted_by=admin.user, reason="first")
    promotions.promote(sft, promoted_by=admin.user, reason="polite")
    with pytest.raises(promotions.AlreadyChampion):
        promotions.promote(sft, promoted_by=admin.user, reason="again")
    assert Promotion.objects.count() == AuditEvent.objects.filter(action="model.promoted").count() == 1
