"""Step 1 of three: the base model learns to answer as people did in the demonstrations.

Only the answer's tokens enter the loss. Left out on purpose: packing, and choosing among epochs.
"""

from collections.abc import Iterable

from .. import seeding
from ..config import SFTConfig
from ..data.batching import epoch_batches
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import Intake, fitting
from ..data.records import Demonstration, read_demonstrations
from ..networks.networks import load_policy, save_policy
from ..run.directory import RunDirectory
from .imitation import Imitation
from .learner import Learner, cosine


def train(run: RunDirectory, cfg: SFTConfig) -> None:
    """The stage: the base model, fitted to all demonstrations."""
    base = run.parent(cfg, "base")
    chat = Chat.load(base)
    rows = read_demonstrations(run.data("demonstrations"))
    intake = render(run.phases.read("demonstrations", rows), chat, cfg.max_response)
    samples = intake.used
    policy = load_policy(base, chat, cfg.dtype)
    learner = Learner(policy, "policy")
    imitation = Imitation(policy, learner, chat.pad_id, cfg.batch_tokens, run.touch)
    per_epoch = -(-len(samples) // cfg.batch_size)
    total = cfg.epochs * per_epoch

    def step(number: int) -> dict[str, float]:
        epoch, place = divmod(number, per_epoch)
        batches = epoch_batches(len(samples), cfg.batch_size, seeding.generator(cfg.seed, cfg.stage, epoch))
        batch = [samples[index] for index in batches[place]]
        return {"sft/loss": imitation.step(batch, cfg.learning_rate * cosine(number / total))}

    learner.take_steps(run, cfg, total, step, intake.metrics())
    with run.output() as directory:
        save_policy(policy, chat, directory)


def render(demonstrations: Iterable[Demonstration], chat: Chat, max_response: int) -> Intake[Rendered]:
    """The demonstrations as ids, without those whose prompt leaves no room for an answer.

    Raises InvalidInput where too few are left.
    """
    return cut_to_length(fitting(demonstrations, chat, max_response, "demonstrations"), chat, max_response)


def cut_to_length(intake: Intake[Demonstration], chat: Chat, max_response: int) -> Intake[Rendered]:
    """Demonstrations that fit, as ids. An answer longer than `max_response` tokens is cut: it has no end to learn."""
    whole = [chat.reward_ids(one.messages, one.response, stopped=True) for one in intake.used]
    samples = [Rendered(one.prompt, one.response[:max_response]) for one in whole]
    # Not by length: where the prompt leaves just so much room, the context has cut the answer already.
    cut = sum(one.response[-1] != chat.eos_id for one in samples)
    return Intake(samples, {**intake.counts, "cut": cut})
