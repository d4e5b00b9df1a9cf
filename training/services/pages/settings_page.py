"""The page of training settings: the presets, the settings of every stage, and what a change of them reaches now."""

from __future__ import annotations

from dataclasses import dataclass

from annotate.models import Project
from training import stages
from training.models import Round, TrainingSettings
from training.presets import PRESETS, Preset
from training.services.planning import plans
from training.services.registry import training_settings
from training.services.registry.training_settings import StageSettings


@dataclass(frozen=True, kw_only=True)
class SettingsPage:
    """What the page shows besides its form."""

    training: TrainingSettings
    stages: list[StageSettings]
    preset: Preset
    suggested: Preset
    reason: str  # in words, why the project has its preset, and which one suits its base model
    context: int | None  # tokens that the base model reads at once; None where that is not known yet
    round: Round | None  # the one that runs
    started: list[str]  # the labels of its stages that keep the values they were queued with
    to_come: list[str]  # of those that will take what is saved now

    @property
    def is_preset_for_size(self) -> bool:
        """Whether the preset is one for base models of that size, if not the suggested one."""
        return self.preset.largest == self.suggested.largest

    @property
    def presets(self) -> list[Preset]:
        return list(PRESETS.values())

    @property
    def differing(self) -> int:
        """How many settings differ from the preset."""
        return sum(len(each.differing) for each in self.stages)


def build(project: Project) -> SettingsPage | None:
    """The page of `project`; None where it does not train."""
    training = TrainingSettings.objects.filter(project=project).first()
    if training is None:
        return None
    round = Round.objects.active().filter(project=project).first()
    planned = [stage.stage for stage in plans.load(round).stages if stage.will_run] if round else []
    queued = set(round.runs.values_list("stage", flat=True)) if round else set()
    return SettingsPage(
        training=training,
        stages=training_settings.build(training),
        preset=PRESETS[training.preset],
        suggested=training_settings.suggest(training),
        reason=training_settings.preset_reason(training),
        context=training_settings.context_of(training),
        round=round,
        started=[str(stages.find(name).label) for name in planned if name in queued],
        to_come=[str(stages.find(name).label) for name in planned if name not in queued],
    )
