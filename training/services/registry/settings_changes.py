"""Changing the training settings of a project: one person at a time, checked by the engine's own config, and audited.

A run takes the settings as they are when it is queued (training/services/registry/configs.py): a change holds for the
stages that come later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db import transaction
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from annotate.models import Project, User
from annotate.services import audit
from training.models import TrainingSettings
from training.rlhf.config import check_value
from training.rlhf.exits import InvalidInput
from training.services.registry import configs, training_settings
from training.services.registry.configs import BadSettings
from training.services.registry.training_settings import StageSettings
from training.services.run_files.config_fields import SettingLink

Values = Mapping[str, Mapping[str, Any]]  # {stage: {field: value}}
Errors = dict[str, dict[str, list[str]]]  # {stage: {field: sentences}}


class Refused(Exception):
    """Values that the engine would refuse; `errors` has the sentences."""

    def __init__(self, errors: Errors) -> None:
        super().__init__(" ".join(f"{stage}.{name}: {' '.join(why)}" for stage, name, why in _flat(errors)))
        self.errors = errors

    @property
    def words(self) -> str:
        """The sentences in a row, each once, with the settings of this project that it is about."""
        about: dict[str, list[str]] = {}
        for stage, name, why in _flat(self.errors):
            about.setdefault(" ".join(why), []).append(SettingLink(stage, name).label)
        return " ".join(f"{capfirst(', '.join(labels))}: {sentence}" for sentence, labels in about.items())


class Changed(Exception):
    """Somebody else has changed what was to be changed; `now` has the values that are stored."""

    def __init__(self, now: Values) -> None:
        super().__init__(", ".join(f"{stage}.{name} is {value}" for stage, name, value in _flat(now)))
        self.now = now


class PresetChanged(Exception):
    """Somebody else has chosen another preset meanwhile."""


@transaction.atomic
def change(project: Project, *, values: Values, actor: User, seen: Values | None = None) -> list[str]:
    """Store `values`, where None stands for the preset's, and return which fields have changed, as stage.field.

    Fields that are not named stay as they are. Of those that are, `seen` has the values that the actor saw.
    Raises Refused, or Changed where a value is not the one that was seen; then nothing is stored.
    """
    training = _lock(project)
    if errors := _refusals(training, values):
        raise Refused(errors)
    _refuse_unseen(training, values, seen or {})
    before = {stage: training_settings.effective(training, stage) for stage, _name, _value in _flat(values)}
    _put(training, values)
    if errors := _contradictions(training, before):
        raise Refused(errors)
    changed = {}
    for stage, name, _value in _flat(values):
        old, new = before[stage].get(name), training_settings.effective(training, stage).get(name)
        if old != new:
            changed[f"{stage}.{name}"] = [old, new]
    return _save(training, actor, changed)


@transaction.atomic
def choose_preset(project: Project, *, name: str, actor: User, seen: str = "") -> list[str]:
    """Take the preset `name`; the project's own values stay. Raises Refused, or PresetChanged unless it was `seen`."""
    training = _lock(project)
    if seen and training.preset not in (seen, name):
        raise PresetChanged
    before, training.preset = training.preset, name
    if errors := _contradictions(training, [each.stage.name for each in training_settings.build(training)]):
        raise Refused(errors)
    return _save(training, actor, {"preset": [before, name]} if before != name else {})


@transaction.atomic
def follow_base_model(project: Project) -> None:
    """Take the preset that suits the size of the base model, unless someone has chosen one by hand."""
    training = _lock(project)
    before, suggested = training.preset, training_settings.suggest(training).name
    if before == suggested or training_settings.is_preset_by_hand(training):
        return
    training.preset = suggested
    training.save(update_fields=["preset"])
    reason: dict[str, Any] = {"base_model": training.base_model}
    if parameters := training_settings.base_parameters(training):
        reason["parameters"] = parameters
    chosen = [before, suggested]
    audit.record("training_settings.preset_chosen", project=project, subject=project.name, preset=chosen, **reason)


def _lock(project: Project) -> TrainingSettings:
    """The row, for this transaction alone. Raises TrainingSettings.DoesNotExist where the project does not train."""
    return TrainingSettings.objects.select_for_update(no_key=True).get(project=project)


def _save(training: TrainingSettings, actor: User, changed: dict[str, list[Any]]) -> list[str]:
    training.save(update_fields=["preset", "overrides"])
    if changed:
        project = training.project
        audit.record(training_settings.CHANGED, actor=actor, project=project, subject=project.name, fields=changed)
    return list(changed)


def _refuse_unseen(training: TrainingSettings, values: Values, seen: Values) -> None:
    """Raises Changed where a value that is to be changed is neither what was seen nor already as it is to be."""
    now: dict[str, dict[str, Any]] = {}
    for stage, name, value in _flat(values):
        if name in seen.get(stage, {}):
            stored = training_settings.effective(training, stage).get(name)
            if stored not in (seen[stage][name], value):
                now.setdefault(stage, {})[name] = stored
    if now:
        raise Changed(now)


def _put(training: TrainingSettings, values: Values) -> None:
    """Put `values` among the project's own; what is as in the preset is not kept there, and follows it."""
    for stage, name, value in _flat(values):
        own = training.overrides.setdefault(stage, {})
        own.pop(name, None)
        if value is not None and value != training_settings.given(training, stage)[name]:
            own[name] = value
        if not own:
            del training.overrides[stage]


def _refusals(training: TrainingSettings, values: Values) -> Errors:
    """What is wrong with each of `values` by itself."""
    known = {each.stage.name: each for each in training_settings.build(training)}
    errors: Errors = {}
    for stage, name, value in _flat(values):
        if sentence := _refusal(known.get(stage), name, value):
            errors.setdefault(stage, {})[name] = [sentence]
    return errors


def _refusal(stage: StageSettings | None, name: str, value: Any) -> str:
    """Why the field cannot have this value by itself; empty where it can."""
    if stage is None or (name not in {setting.name for setting in stage.settings} | set(stage.unknown)):
        return _("Unknown setting.")
    if value is None:
        return ""
    if name in stage.unknown:
        return _("Unknown setting.")
    try:
        check_value(stage.stage.config, name, value)
    except InvalidInput as refusal:
        return f"{refusal}."
    return ""


def _contradictions(training: TrainingSettings, changed: Iterable[str]) -> Errors:
    """What does not hold together in the stages `changed`, by itself or with the base model."""
    errors: Errors = {}
    context = training_settings.context_of(training)
    for stage in changed:
        try:
            config = configs.check(training, stage)
        except BadSettings as refusal:
            errors[stage] = {refusal.field: [f"{refusal}."]}
            continue
        longest = getattr(config, "max_response", 0)
        if context and longest >= context:
            sentence = _("It must leave room for a prompt: the base model's context is %(context)d tokens.")
            errors[stage] = {"max_response": [sentence % {"context": context}]}
    return errors


def _flat(values: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Any]]:
    return ((stage, name, value) for stage, fields in values.items() for name, value in fields.items())
