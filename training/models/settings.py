"""How a project trains: one row per project, made with it."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotate.models import Project
from training import presets

# How many labels, or sets to label, a project may want: a round without any makes no sense, nor one that never comes.
LABEL_COUNT = (MinValueValidator(1), MaxValueValidator(100_000))


class TrainingSettingsQuerySet(models.QuerySet["TrainingSettings"]):
    def demos(self) -> TrainingSettingsQuerySet:
        """Those of demo projects, in which simulated people may work."""
        return self.filter(purpose=TrainingSettings.Purpose.DEMO)


class TrainingSettings(models.Model):
    """What a project admin decides about training; everything else has its default in training.rlhf.config."""

    TINY = "tiny"  # the built-in base model, pretrained here from our own corpus

    class PPOStart(models.TextChoices):
        SFT = "sft", _("the newest SFT")
        CHAMPION = "champion", _("the champion")

    class Purpose(models.TextChoices):
        OWN = "own", _("own model")
        DEMO = "demo", _("demo")  # the tiny world: simulated people know its questions
        EXAMPLE = "example", _("example")  # finished rounds to look at, loaded from a file

    project = models.OneToOneField(Project, models.PROTECT, related_name="training_settings")
    base_model = models.CharField(_("base model"), max_length=200, default=TINY)  # TINY, or a folder of BASE_MODELS_DIR
    completions_per_slate = models.PositiveSmallIntegerField(
        _("answers per set (K)"), default=4, validators=[MinValueValidator(2), MaxValueValidator(9)]
    )
    demonstrations_minimum = models.PositiveIntegerField(
        _("answers needed before the first round"), default=50, validators=LABEL_COUNT
    )
    rankings_minimum = models.PositiveIntegerField(
        _("rankings needed to train a reward model"), default=150, validators=LABEL_COUNT
    )
    slates_per_round = models.PositiveIntegerField(_("sets of answers per round"), default=200, validators=LABEL_COUNT)
    ppo_start = models.CharField(_("PPO starts from"), max_length=8, choices=PPOStart, default=PPOStart.SFT)
    preset = models.CharField(_("preset"), max_length=32, choices=presets.choices, default=presets.TINY.name)
    # {stage: {field of the stage's config: value}}: the project's own, over its preset and the engine's defaults.
    overrides = models.JSONField(default=dict, blank=True)
    seed = models.PositiveBigIntegerField(default=0)
    purpose = models.CharField(max_length=7, choices=Purpose, default=Purpose.OWN, editable=False)

    objects = TrainingSettingsQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "training settings"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(completions_per_slate__range=(2, 9)), name="settings_k_from_2_to_9"),
            models.CheckConstraint(condition=Q(ppo_start__in=["sft", "champion"]), name="settings_ppo_start_known"),
            models.CheckConstraint(condition=Q(purpose__in=["own", "demo", "example"]), name="settings_purpose_known"),
            models.CheckConstraint(condition=~Q(preset=""), name="settings_preset_named"),
        ]

    def __str__(self) -> str:
        return f"training settings of {self.project}"
