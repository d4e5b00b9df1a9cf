"""A small base model from nothing but a corpus: byte-level BPE, a Llama, and next-token prediction.

It exists so that the whole loop runs on a laptop with nothing downloaded. Its output is a transformers directory like
any other, with a chat template whose turns begin and end with tokens of their own.
"""

from functools import partial

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .. import seeding
from ..config import PretrainingConfig
from ..data.batching import epoch_batches
from ..data.chat import Chat, Rendered
from ..data.dataset_filter import FilteredRecords
from ..data.records import Document, read_corpus
from ..exits import InvalidInput
from ..networks.policy import Policy, save_policy
from ..run.directory import RunDirectory
from .learner import Learner
from .sft import train_step

PAD, END = "<|pad|>", "<|end|>"
SPECIAL_TOKENS = [PAD, END, "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
POOL = 16  # batches whose documents are sorted by length together, so that a batch holds little padding


def run_stage(run: RunDirectory, cfg: PretrainingConfig) -> None:
    """The stage: a tokenizer and a model, both trained on the corpus. Raises EngineExit."""
    run.phases.enter("reading", "corpus")
    corpus = read_corpus(run.data("corpus"))
    if not corpus:
        raise InvalidInput("the corpus is empty", kind="nothing_to_learn")
    chat = learn_tokenizer(corpus, cfg)
    filtered = read_documents(corpus, chat)
    samples = filtered.used
    policy = Policy(new_network(chat, cfg), chat.vocab_size, cfg.dtype)
    learner = Learner(policy, "policy")
    lengths = [sample.length for sample in samples]
    total = max(1, round(cfg.tokens * len(lengths) / sum(lengths) / cfg.batch_size))

    def step(number: int) -> dict[str, float]:
        batch = [samples[index] for index in batch_at(number, lengths, cfg)]
        rate = cfg.learning_rate * warmup_then_linear(number / total, cfg.warmup)
        loss = train_step(policy, learner, batch, rate, chat.pad_id, cfg.batch_tokens, run.report_progress)
        return {"pretraining/loss": loss}

    learner.take_steps(run, cfg, total, step, filtered.metrics())
    run.write_output(partial(save_policy, policy, chat))


def learn_tokenizer(corpus: list[Document], cfg: PretrainingConfig) -> Chat:
    """Byte-level BPE over the corpus: any text can be encoded, and only the template writes turn markers."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=cfg.vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (text for document in corpus for text in document.texts())
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, chat_template=TEMPLATE)
    return Chat(wrapped, cfg.context)


def new_network(chat: Chat, cfg: PretrainingConfig) -> LlamaForCausalLM:
    """A Llama with random weights, tied embeddings and the tokenizer's vocabulary."""
    shape = LlamaConfig(
        vocab_size=chat.vocab_size,
        hidden_size=cfg.hidden_size,
        intermediate_size=cfg.mlp_size,
        num_hidden_layers=cfg.layers,
        num_attention_heads=cfg.heads,
        max_position_embeddings=cfg.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=chat.eos_id,
        pad_token_id=chat.pad_id,
    )
    with torch.random.fork_rng(devices=[]):  # transformers initialises from the global generator
        torch.manual_seed(seeding.generator(cfg.seed, cfg.stage).initial_seed())
        return LlamaForCausalLM(shape)


def batch_at(step: int, lengths: list[int], cfg: PretrainingConfig) -> list[int]:
    """The indices of the documents of a step: of similar length, in an order that is random for each epoch."""
    per_epoch = -(-len(lengths) // cfg.batch_size)
    epoch, position = divmod(step, per_epoch)
    generator = seeding.generator(cfg.seed, cfg.stage, epoch)
    pools = epoch_batches(len(lengths), POOL * cfg.batch_size, generator)
    pool, within = divmod(position, POOL)
    by_length = sorted(pools[pool], key=lambda index: lengths[index])
    batches = [by_length[start : start + cfg.batch_size] for start in range(0, len(by_length), cfg.batch_size)]
    order = seeding.permutation(len(batches), seeding.generator(cfg.seed, cfg.stage, epoch, "pool", pool))
    return batches[order[within]]


def warmup_then_linear(progress: float, warmup: float) -> float:
    """The share of the peak learning rate at `progress`, 0 to 1: linearly up from 0, then linearly down to 0."""
    if progress < warmup:
        return progress / warmup
    return (1 - progress) / (1 - warmup)


def read_documents(corpus: list[Document], chat: Chat) -> FilteredRecords[Rendered]:
    """The corpus as token ids, cut to the context."""
    conversations = chat.conversation_ids([document.messages for document in corpus if document.text is None])
    texts = chat.text_ids([document.text for document in corpus if document.text is not None])
    # Everything but the first token, which nothing precedes, is trained as an answer.
    samples = [Rendered(ids[:1], ids[1 : chat.context]) for ids in [*conversations, *texts]]
    return FilteredRecords(samples, {"cut": sum(len(ids) > chat.context for ids in [*conversations, *texts])})
