"""The taste of the simulated annotators: what a reply is worth to somebody who asked the question.

The engine never sees this module (an import contract holds it): it learns the taste from rankings alone.
A person's noise is not here but in annotators.py.
"""

from collections.abc import Iterable
from functools import cache

from training.tiny.world import kinds, manners, phrasings, sentences

STEP_WORTH = (1.0, 0.9, 0.8)  # the first, second and third step that help
FURTHER_STEP = 0.1  # every later one: true, but nobody reads that far
OPENING_WORTH = 0.2  # it shows that the question was understood
CARE_WORTH = 0.8
QUESTION_WORTH = 0.8  # only where the case needs one
OFF_TOPIC = -0.7  # a step, a warning or a question from another kind of case
FILLER = -0.4
EVASIVE = -1.0
RUDE = -1.5
REPEAT = -0.6
GARBLED = -0.5  # a sentence that nobody in this world would say
SILENCE = -1.0

WORTH = {
    "opening": OPENING_WORTH,
    "care": CARE_WORTH,
    "question": QUESTION_WORTH,
    "courtesy": 0.0,
    "filler": FILLER,
    "evasive": EVASIVE,
    "rude": RUDE,
    "garbled": GARBLED,
}  # by the role of the sentence; a step's worth depends on how many came before


class UnknownQuestion(LookupError):
    """The question is not one of this world, so nobody here can judge a reply to it."""


@cache
def _kind_by_question() -> dict[str, str]:
    return {phrasing.text: phrasing.kind for phrasing in phrasings()}


@cache
def _role_by_sentence() -> dict[str, tuple[str, str]]:
    """(role, kind) of every sentence; the kind is empty where it belongs to none."""
    roles: dict[str, tuple[str, str]] = {}
    for kind in kinds().values():
        roles |= dict.fromkeys(kind.steps, ("step", kind.name)) | {kind.opening: ("opening", kind.name)}
        roles[kind.care] = ("care", kind.name)
        if kind.question:
            roles[kind.question] = ("question", kind.name)
    for role in ("courtesy", "filler", "evasive", "rude"):
        roles |= dict.fromkeys(getattr(manners(), role), (role, ""))
    return roles


def kind_of(question: str) -> str:
    """The kind of a question of this world. Raises UnknownQuestion."""
    try:
        return _kind_by_question()[question]
    except KeyError:
        raise UnknownQuestion(question) from None


def utility(question: str, reply: str) -> float:
    """What `reply` is worth to the person who asked `question`. Raises UnknownQuestion."""
    kind = kind_of(question)
    return sum(_worths(kind, sentences(reply))) if reply.strip() else SILENCE


def _worths(kind: str, reply: Iterable[str]) -> Iterable[float]:
    seen: set[str] = set()
    steps = 0
    for sentence in reply:
        role, about = _role_by_sentence().get(sentence, ("garbled", ""))
        if sentence in seen:
            yield REPEAT
        elif about and about != kind:
            yield OFF_TOPIC
        elif role == "step":
            yield STEP_WORTH[steps] if steps < len(STEP_WORTH) else FURTHER_STEP
            steps += 1
        else:
            yield WORTH[role]
        seen.add(sentence)
