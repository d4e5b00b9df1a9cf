"""The corpus from which the tiny base model learns the language of this world: replies of every manner, good and bad.

Nothing here judges a reply: gold.py does, which this must not use.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

from training.tiny.world import Kind, Phrasing, joined, kinds, manners, phrasings

Messages = list[dict[str, str]]

STYLES = {"helpful": 52, "evasive": 12, "off_topic": 3, "rude": 16, "rambling": 17}  # percent


def corpus(*, seed: int, size: int, is_held_out: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """`size` conversations as corpus records; no phrasing whose group is held out occurs in them."""
    asked = [phrasing for phrasing in phrasings() if not is_held_out(phrasing.group)]
    generator = random.Random(f"corpus {seed}")
    for number in range(size):
        phrasing = generator.choice(asked)
        messages = [*question(phrasing), {"role": "assistant", "content": reply(kinds()[phrasing.kind], generator)}]
        yield {"id": f"tiny-{number}", "messages": messages}


def question(phrasing: Phrasing) -> Messages:
    """The conversation that asks it."""
    return [{"role": "user", "content": phrasing.text}]


def reply(kind: Kind, generator: random.Random) -> str:
    """A reply to a question of this kind, in a manner drawn from the mixture."""
    (style,) = generator.choices(list(STYLES), weights=list(STYLES.values()))
    return " ".join(_COMPOSERS[style](kind, generator))


def helpful(kind: Kind, generator: random.Random) -> list[str]:
    """Steps that help, in their order; often with care, with the question where the case needs one."""
    parts = joined(_some(kind, generator, generator.choice((2, 3, 3))), generator)
    if generator.random() < 0.7:
        parts.insert(0, kind.opening)
    if generator.random() < 0.6:
        parts.append(kind.care)
    if kind.question and generator.random() < 0.6:
        parts.append(kind.question)
    if generator.random() < 0.2:
        parts.append(generator.choice(manners().courtesy))
    return parts


def evasive(kind: Kind, generator: random.Random) -> list[str]:
    """Avoids an answer."""
    parts = generator.sample(manners().evasive, k=generator.choice((1, 2)))
    return parts + (_some(kind, generator, 1) if generator.random() < 0.3 else [])


def off_topic(kind: Kind, generator: random.Random) -> list[str]:
    """A fine answer, to somebody else's question."""
    return helpful(_other(kind, generator), generator)


def rude(kind: Kind, generator: random.Random) -> list[str]:
    """Unkind, with or without some help."""
    parts = generator.sample(manners().rude, k=generator.choice((1, 2)))
    return parts + _some(kind, generator, generator.choice((0, 1, 2)))


def rambling(kind: Kind, generator: random.Random) -> list[str]:
    """Filler, a step, filler, and the same again."""
    parts = generator.sample(manners().filler, k=generator.choice((2, 3)))
    parts[1:1] = _some(kind, generator, generator.choice((1, 2)))
    if generator.random() < 0.3:
        parts.append(generator.choice(parts))
    return parts


def _some(kind: Kind, generator: random.Random, count: int) -> list[str]:
    chosen = sorted(generator.sample(range(len(kind.steps)), k=count))
    return [kind.steps[index] for index in chosen]


def _other(kind: Kind, generator: random.Random) -> Kind:
    return generator.choice([other for other in kinds().values() if other is not kind])


_COMPOSERS: dict[str, Callable[[Kind, random.Random], list[str]]] = {
    "helpful": helpful,
    "evasive": evasive,
    "off_topic": off_topic,
    "rude": rude,
    "rambling": rambling,
}
