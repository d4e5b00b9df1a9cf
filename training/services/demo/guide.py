"""The guide of a demo project: what to do next in the first hour, for each role, by what is done already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.hooks import Panel
from annotate.models import Kind, Project, Role, User, WorkItem
from training.models import Promotion, Round, Simulation, TrainingSettings
from training.services.demo import simulations
from training.services.labels import trainable_labels
from training.stages.sampling import HELDOUT_SLATES

LEFT_FOR_PEOPLE = 20  # sets
FEW = 3  # rankings after which a person knows what ranking is
Purpose = TrainingSettings.Purpose


class State(StrEnum):
    DONE = "done"
    NOW = "now"
    LATER = "later"


@dataclass(frozen=True)
class Step:
    """One thing to do, with the page on which it is done."""

    title: str
    text: str
    state: State
    url: str = ""
    link: str = ""  # the words of the link
    is_simulation: bool = False  # the button for it stands here


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What simulated people could do now."""

    kind: str
    number: int  # labels


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What the panel of a demo project shows."""

    project: Project
    steps: list[Step] = field(default_factory=list)
    simulation: Simulation | None = None  # the newest
    offer: Offer | None = None
    example: Project | None = None  # finished rounds to look at


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """How far the people of a demo project are."""

    rounds: dict[int, str]  # number -> status
    missing: int  # labels before the next round
    own_rankings: int
    has_promoted: bool

    def has_done(self, number: int) -> bool:
        return self.rounds.get(number) == Round.Status.SUCCEEDED

    def link(self, project: Project, number: int) -> tuple[str, str]:
        """Address and words of the page on which that round is planned or shown."""
        if number not in self.rounds:
            return _url("training:rounds", project), _("View plan")
        address = reverse("training:round", args=[project.slug, number])
        return address, _("View round %(number)d") % {"number": number}

    @property
    def is_running(self) -> bool:
        return any(status in Round.ACTIVE for status in self.rounds.values())


def panels(roles: Mapping[Project, Role], user: User) -> dict[int, Panel]:
    """The panel of each demo or example among the projects, for `user` in that role, by the projects' ids."""
    purposes = TrainingSettings.objects.filter(project__in=roles).exclude(purpose=Purpose.OWN)
    found = dict(purposes.values_list("project", "purpose"))
    return {
        project.pk: Panel(f"training/demo/_{found[project.pk]}.html", build(project, user, role))
        for project, role in roles.items()
        if project.pk in found
    }


def build(project: Project, user: User, role: Role) -> Guide:
    """The guide of `project` for `user` in that role."""
    if role != Role.ADMIN:
        steps = _annotators_steps(project) if role == Role.ANNOTATOR else _reviewers_steps(project)
        return Guide(project=project, steps=list(steps))
    readiness = trainable_labels.readiness(project)
    progress = _Progress(
        rounds=dict(project.rounds.values_list("number", "status")),
        missing=readiness.missing if readiness else 0,
        own_rankings=project.rankings.written_by(user).count(),
        has_promoted=Promotion.objects.filter(project=project).exists(),
    )
    return Guide(
        project=project,
        steps=_admins_steps(project, progress),
        simulation=simulations.newest(project),
        offer=_offer(project, progress),
        example=Project.objects.for_user(user).filter(training_settings__purpose=Purpose.EXAMPLE).first(),
    )


def _offer(project: Project, progress: _Progress) -> Offer | None:
    """What the next round lacks and more, as far as there is work of that kind; None while one trains."""
    kind = Kind.RANKING if progress.has_done(1) else Kind.DEMONSTRATION
    if progress.is_running or not progress.missing:
        return None
    waiting = project.work_items.filter(kind=kind, status=WorkItem.Status.OPEN).count()
    wanted = progress.missing
    if kind == Kind.RANKING:
        # Some of the sets are held out and train nothing; a few are left for people who want to go on.
        wanted = max(round(wanted / (1 - HELDOUT_SLATES)), waiting - LEFT_FOR_PEOPLE)
    return Offer(kind=kind, number=min(wanted, waiting)) if waiting else None


def _admins_steps(project: Project, progress: _Progress) -> list[Step]:
    """The whole circle, once. The first step that is not done is the one to do now."""
    steps = [
        Step(
            _("Start round 1"),
            _("Simulated people have written 150 answers. The model learns from them, then writes the first answers "
              "to rank. Takes about a minute."),
            _state(done=progress.has_done(1)),
            *progress.link(project, 1),
        ),
        Step(
            _("Rank the first answers"),
            _("Read four answers to a question and rank them. A few sets are enough to get the idea."),
            _state(done=progress.own_rankings >= FEW or 2 in progress.rounds),
            _url("annotate:rank", project),
            _("Rank answers"),
        ),
        Step(
            _("Let simulated people rank the rest"),
            _("A reward model needs at least 150 rankings. Simulated ones take seconds and are marked as such."),
            _state(done=2 in progress.rounds or (progress.has_done(1) and not progress.missing)),
            is_simulation=True,
        ),
        Step(
            _("Start round 2"),
            _("A reward model learns what people prefer, and PPO trains the policy with it. Takes three to five "
              "minutes."),
            _state(done=progress.has_done(2)),
            *progress.link(project, 2),
        ),
        Step(
            _("Compare and promote the new policy"),
            _("See answers before and after, side by side. Policies are never promoted automatically."),
            _state(done=progress.has_promoted),
            *progress.link(project, 2),
        ),
    ]  # fmt: skip
    now = next((index for index, step in enumerate(steps) if step.state != State.DONE), None)
    return [replace(step, state=State.NOW) if index == now else step for index, step in enumerate(steps)]


def _state(*, done: bool) -> State:
    return State.DONE if done else State.LATER


def _annotators_steps(project: Project) -> Iterator[Step]:
    yield Step(
        _("Read the guidelines"),
        _("They describe what a good answer is. Takes about a minute."),
        State.NOW,
        _url("annotate:guidelines", project),
        _("Guidelines"),
    )
    if project.work_items.filter(kind=Kind.RANKING, status=WorkItem.Status.OPEN).exists():
        text = _(
            "Read the answers, give each a rank with the number keys, and submit. The model learns from what you "
            "prefer."
        )
        yield Step(_("Rank answers"), text, State.NOW, _url("annotate:rank", project), _("Rank answers"))
        return
    text = _(
        "There is nothing to rank until the demo admin starts the next round. Until then, write an answer you "
        "would like to get."
    )
    yield Step(_("Write an answer"), text, State.NOW, _url("annotate:write", project), _("Write an answer"))


def _reviewers_steps(project: Project) -> Iterator[Step]:
    waiting = project.demonstrations.unreviewed().count() + project.rankings.unreviewed().count()
    text = ngettext(
        "%(number)d label has not been reviewed. Accept it, or return it with a comment. Returned labels are "
        "not used for training until their author corrects them.",
        "%(number)d labels have not been reviewed, most of them by simulated people. Accept them, or return "
        "them with a comment. Returned labels are not used for training until their author corrects them.",
        waiting,
    ) % {"number": waiting}
    yield Step(_("Review labels"), text, State.NOW, _url("annotate:reviews", project), _("Review"))
    text = _("Items that several people have skipped are escalated to you. Answer them, or remove them from the queue.")
    yield Step(_("Decide escalations"), text, State.LATER, _url("annotate:escalations", project), _("Escalations"))


def _url(page: str, project: Project) -> str:
    return reverse(page, args=[project.slug])
