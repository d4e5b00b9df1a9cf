"""Messages to token ids and back, in one place for training, sampling and scoring.

The text is rendered by the model's own chat template and tokenised once. A model without a template gets a plain
one, which needs no new tokens and is saved with what we train from it. Masks never come from ids, so a padding id
that means something else does no harm.

Only the template writes control tokens, those that begin and end turns. What people and policies write is text: a
`</s>` in it is tokenised as characters, or else anybody could end or forge a turn.

Some models think before they answer, between <think> and </think>. A thought is a part of an answer's text, even where
the template opens it. An answer without one, as people write them, follows an empty thought where the template writes
or opens one.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..exits import InvalidInput, in_one_line
from ..model_folder import architecture, model_files
from .records import Message

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
THINK_START, THINK_END = "<think>", "</think>"  # what begins and what ends a thought
EMPTY_THOUGHT = f"{THINK_START}\n\n{THINK_END}\n\n"  # as reasoning models are trained with it
QUESTION: Message = {"role": "user", "content": "a question"}
PROBE = "an answer"
BREAK = "\ufdd0"  # put into text that looks like a control token; a Unicode noncharacter, so no text has it


class Rendered(NamedTuple):
    """A prompt and an answer as token ids; the answer ends with the end id where it ended by itself."""

    prompt: list[int]
    response: list[int]

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.prompt) + len(self.response)


class Written(NamedTuple):
    """A prompt and an answer as text. `as_template`: the answer is written as the template does after this prompt."""

    prompt: str
    answer: str
    as_template: bool


class Chat:
    """How one model writes conversations. Build it with `load`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int, stop_ids: Sequence[int] = ()) -> None:
        """`stop_ids`: where the model itself says that answers end. Only control tokens among them do."""
        if tokenizer.eos_token_id is None:
            raise InvalidInput("the model's tokenizer has no EOS token, so answers would never end", kind="no_eos")
        if not tokenizer.is_fast:
            raise InvalidInput("the model has no tokenizer.json", kind="tokenizer")
        self.tokenizer = tokenizer
        self.context = context  # tokens that the model can read
        if not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN_TEMPLATE
            if _starts_with_bos(tokenizer):
                tokenizer.chat_template = "{{ bos_token }}" + PLAIN_TEMPLATE
        self.vocab_size = max(tokenizer.get_vocab().values()) + 1  # rows of the embedding beyond it are padding
        self.pad_id: int = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._not_text = self._special_tokens()
        try:
            self._control = self._control_tokens()
            self._begins_control = _beginning_of(self._control)
            self.opened_thought = self._opened_thought()  # by the template at the end of a prompt; nearly always ""
            self.answer_prefix, self.answer_suffix = self._around_an_answer()  # of an answer without a thought
        except InvalidInput as refusal:  # of a conversation that every template has to accept
            raise InvalidInput(str(refusal), kind="template") from refusal
        self.eos_id = self._end_of_turn(self.answer_suffix)  # written and trained where an answer ends by itself
        self._own_stop_ids = {self.eos_id, tokenizer.eos_token_id}
        # In some models a turn ends only where the next one begins, and their generation config lists that as an end.
        self.stop_ids = frozenset(self._own_stop_ids | {token for token in stop_ids if token in self._control})

    @classmethod
    def load(cls, model: Path) -> "Chat":
        """The chat of a model directory. Raises InvalidInput where it is gone, or its tokenizer or template unfit."""
        if not model.is_dir():  # or transformers would take its path for the name of a model on the internet
            raise model_files.no_folder(model).refusal()
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"the model directory {model.name} has no usable tokenizer: {error}", kind="tokenizer"
            ) from error
        return cls(tokenizer, architecture.context_of(architecture.parse(model)).tokens, _ends_of(model))

    def save(self, directory: Path) -> None:
        """Write the tokenizer with its template into a model directory."""
        self.tokenizer.save_pretrained(directory)

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """The ids of a conversation up to where its answer begins. Raises InvalidInput where the template refuses."""
        ids = self._encode(self._prompt_text(messages))
        if not ids:
            says = "nothing is left of the prompt"
            raise InvalidInput(f"the model's chat template: {says}", kind="template_refuses", says=says)
        return ids

    def rendered(self, messages: list[Message], text: str, stopped: bool) -> Rendered:
        """The ids of a prompt and an answer: a function of their text, not of the ids that were sampled.

        The answer has its end id where it `stopped` by itself and all of it fits the context; else it is cut. Raises
        InvalidInput where the template refuses the prompt.
        """
        written = self.written(messages, text)
        prompt = self._encode(written.prompt)
        whole = self._encode(written.prompt + written.answer)
        # An answer whose first characters would merge with the prompt's last ones is encoded by itself.
        is_continuation = whole[: len(prompt)] == prompt
        response = whole[len(prompt) :] if is_continuation else self._encode(written.answer)
        if stopped:
            response = [*response, self.eos_id]
        return Rendered(prompt, self._within_context(prompt, response))

    def rendered_sample(self, messages: list[Message], text: str, sampled: list[int], stopped: bool) -> Rendered:
        """The ids of an answer that a policy `sampled`: those of its text, as for everybody else's.

        A policy may spell out a control token that its tokenizer knows in one piece only. Then it is what was sampled.
        """
        try:
            return self.rendered(messages, text, stopped)
        except InvalidInput as refusal:
            if refusal.kind != "control_text":
                raise
            prompt = self.prompt_ids(messages)
            return Rendered(prompt, self._within_context(prompt, sampled))

    def _within_context(self, prompt: list[int], response: list[int]) -> list[int]:
        return response[: max(0, self.context - len(prompt))]

    def written(self, messages: list[Message], text: str) -> Written:
        """A prompt, and an answer as the template writes it after that prompt.

        A sampled answer follows the prompt as it is rendered without one. Where the template renders the prompt in
        another way once it is answered, or leaves out the answer's thought, the answer is written without the template.
        """
        conversation = self._as_texts(messages)
        prompt, answer = self._apply_template(conversation, add_generation_prompt=True), self._as_text(text)
        answered = [*conversation, {"role": "assistant", "content": answer}]
        try:
            whole = self._apply_template(answered, add_generation_prompt=False)
        except InvalidInput:  # of this answer alone: the prompt was accepted
            whole = ""
        if not text.startswith(THINK_START):
            whole = self._with_its_thought(prompt, whole)
        if whole.startswith(prompt) and whole.endswith(self.answer_suffix):
            rest = whole[len(prompt) : len(whole) - len(self.answer_suffix)]
            if not text.startswith(THINK_START) or rest.count(THINK_END) == text.count(THINK_END):
                return Written(prompt, rest, as_template=True)
        return Written(prompt, self._without_template(answer), as_template=False)

    def check_answer(self, text: str) -> None:
        """Raises InvalidInput, about this text alone, where the tokenizer cannot encode it as text."""
        if self._begins_control.search(text):
            self._encode(self._without_template(self._as_text(text)))

    def conversation_ids(self, conversations: Sequence[list[Message]]) -> list[list[int]]:
        """Whole conversations that end with an answer, each with its end id; encoded at once, which is far faster."""
        texts = [
            self._prompt_text(before) + self.answer_prefix + self._as_text(answer["content"])
            for *before, answer in conversations
        ]
        return [[*ids, self.eos_id] for ids in self._encode_all(texts)]

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Plain texts that are no conversations, each with its end id."""
        return [[*ids, self.tokenizer.eos_token_id] for ids in self._encode_all(list(map(self._as_text, texts)))]

    def decode(self, response: list[int]) -> str:
        """The text of sampled answer ids, without what the template writes around an answer."""
        text = self._text_of(response)
        if text.startswith(self._prefix_text):
            return text.removeprefix(self._prefix_text)
        return self.opened_thought + text

    def _text_of(self, ids: list[int]) -> str:
        ids = [token for token in ids if token not in self._not_text]
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    @cached_property
    def _prefix_text(self) -> str:
        """The text in the answer prefix: some templates begin an answer with control tokens and a word."""
        return self._text_of(self._encode(self.answer_prefix))

    def fits(self, prompt: list[int], max_response: int) -> bool:
        """Whether the context leaves room for an answer of `max_response` tokens."""
        return len(prompt) + max_response <= self.context

    def lost(self, text: str) -> set[str]:
        """The pieces of a text, without white space, that its ids do not tell: the tokenizer has no token for them."""
        encoded = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        pieces, end = [], 0
        for token, (first, last) in zip(encoded.ids, encoded.offsets, strict=True):
            if token != self._unknown:
                pieces.append(text[end:first])
                end = max(end, last)
        return {piece for part in [*pieces, text[end:]] for piece in part.split() if piece.isprintable()}

    @property
    def template_hash(self) -> str:
        """Equal for two models that turn every conversation into the same ids."""
        identity = [self.tokenizer.chat_template, self.tokenizer.backend_tokenizer.to_str(), sorted(self._own_stop_ids)]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def refuse_other(self, other: "Chat", role: str) -> None:
        """Raises InvalidInput where `other`, of the parent in this role, gives other ids than this, the policy's."""
        if other.template_hash != self.template_hash:
            raise InvalidInput(
                f"parents.policy and parents.{role} tokenize conversations differently",
                kind="tokens_differ",
                field=f"parents.{role}",
            )

    def _prompt_text(self, messages: list[Message]) -> str:
        return self._apply_template(self._as_texts(messages), add_generation_prompt=True)

    def _as_texts(self, messages: list[Message]) -> list[Message]:
        return [{**message, "content": self._as_text(message["content"])} for message in messages]

    def _without_template(self, answer: str) -> str:
        """An answer as it follows a prompt, written without rendering the template."""
        if not answer.startswith(THINK_START):
            return self.answer_prefix + answer
        if not self.opened_thought:
            return self.answer_prefix.partition(THINK_START)[0] + answer
        return answer.removeprefix(self.opened_thought if answer.startswith(self.opened_thought) else THINK_START)

    def _as_text(self, content: str) -> str:
        """The content with a BREAK inside everything that looks like a control token; nearly always unchanged."""
        return self._begins_control.sub(rf"\g<0>{BREAK}", content)

    def _apply_template(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        template: Any = self.tokenizer.apply_chat_template
        try:
            text: str = template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        except Exception as error:  # of any kind: a template is a program
            says = in_one_line(error)
            raise InvalidInput(
                f"the model's chat template rejects a conversation: {says}", kind="template_refuses", says=says
            ) from error
        return text

    def _encode(self, text: str) -> list[int]:
        if BREAK in text:
            return self._encode_with_breaks(text)
        # The rendered text holds its special tokens already.
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return [self._encode(text) if BREAK in text else one for text, one in zip(texts, ids, strict=True)]

    def _encode_with_breaks(self, text: str) -> list[int]:
        ids: list[int] = self._breaking_tokenizer.encode(text, add_special_tokens=False).ids
        written = sum(token in self._control and token != self._unknown for token in ids)
        if written > len(self._begins_control.findall(text)):
            raise InvalidInput(
                "the model's tokenizer can encode the text of a control token only as that token", kind="control_text"
            )
        return ids

    @cached_property
    def _unknown(self) -> int | None:
        """The id that stands for characters without a token. Qwen2's `unk_token` does not: it ends texts."""
        model = json.loads(self.tokenizer.backend_tokenizer.to_str())["model"]
        number: int | None = model.get("unk_id", self.tokenizer.get_vocab().get(model.get("unk_token")))
        return number

    @cached_property
    def _breaking_tokenizer(self) -> Tokenizer:
        """The same tokenizer, which first looks for control tokens in the text as it is and then removes each BREAK."""
        spec = json.loads(self.tokenizer.backend_tokenizer.to_str())
        for token in spec["added_tokens"]:
            token["normalized"] = token["normalized"] and token["id"] not in self._control
        remove = {"type": "Replace", "pattern": {"String": BREAK}, "content": ""}
        steps = [remove, *([spec["normalizer"]] if spec["normalizer"] else [])]
        whole = {**spec, "normalizer": {"type": "Sequence", "normalizers": steps}, "truncation": None, "padding": None}
        return Tokenizer.from_str(json.dumps(whole))

    def _control_tokens(self) -> dict[int, str]:
        """The special tokens, and added ones that the template writes: not all tokens that mark turns are special."""
        dialogue = self._apply_template(
            [QUESTION, {"role": "assistant", "content": PROBE}, QUESTION], add_generation_prompt=False
        )
        return {
            number: token.content
            for number, token in self.tokenizer.added_tokens_decoder.items()
            # White space and single characters mark no turn, even where a tokenizer calls them special.
            if len(token.content.strip()) > 1 and (token.special or token.content in dialogue)
            if token.content not in (THINK_START, THINK_END)
        }

    def _special_tokens(self) -> frozenset[int]:
        """The special tokens, which are no text; <think> and </think> are, whatever a tokenizer calls them."""
        added = self.tokenizer.added_tokens_decoder.items()
        return frozenset(
            number for number, token in added if token.special and token.content not in (THINK_START, THINK_END)
        )

    def _opened_thought(self) -> str:
        """The beginning of a thought with which the template ends a prompt; empty where it opens none."""
        prompt = self._prompt_text([QUESTION])
        _before, found, space = prompt.rpartition(THINK_START)
        return found + space if found and not space.strip() else ""

    def _around_an_answer(self) -> tuple[str, str]:
        """What the template writes between a prompt and its answer, and after the answer. Raises InvalidInput."""
        prompt = self._prompt_text([QUESTION])
        whole = self._apply_template([QUESTION, {"role": "assistant", "content": PROBE}], add_generation_prompt=False)
        whole = self._with_its_thought(prompt, whole)
        prefix, found, suffix = whole.removeprefix(prompt).partition(PROBE)
        prompt_ids, whole_ids = self._encode(prompt), self._encode(prompt + prefix + PROBE)
        fault = None
        if not (whole.startswith(prompt) and found):
            fault = "the model's chat template does not place an answer directly after its prompt"
        elif whole_ids == prompt_ids:
            fault = "the model's tokenizer has no tokens for an answer after the chat template's prompt"
        elif whole_ids[: len(prompt_ids)] != prompt_ids:
            fault = (
                f"the model's chat template ends a prompt with {prompt[-1]!r}, which the tokenizer merges with the"
                " answer: begin the answer with it instead"
            )
        if fault:
            raise InvalidInput(fault, kind="template")
        return prefix, suffix

    def _with_its_thought(self, prompt: str, whole: str) -> str:
        """An answered conversation after `prompt`, even where the template opens thoughts in prompts only."""
        unopened = prompt.removesuffix(self.opened_thought)
        if whole.startswith(prompt) or not whole.startswith(unopened):
            return whole
        closing = (
            EMPTY_THOUGHT.removeprefix(self.opened_thought)
            if EMPTY_THOUGHT.startswith(self.opened_thought)
            else THINK_END
        )
        return prompt + closing + whole.removeprefix(unopened)

    def _end_of_turn(self, suffix: str) -> int:
        """The control token by which the template ends a turn, else EOS."""
        ids = self._encode(suffix.lstrip())
        eos: int = self.tokenizer.eos_token_id
        return ids[0] if ids and ids[0] in self._control else eos


def _beginning_of(tokens: dict[int, str]) -> re.Pattern[str]:
    """Matches the first character of every occurrence of a token's text, even where two overlap."""
    texts = "|".join(map(re.escape, tokens.values())) or "(?!)"  # which matches nowhere
    return re.compile(rf"(?=(?:{texts})).", re.DOTALL)


def _ends_of(model: Path) -> list[int]:
    """The ids that end an answer by the generation_config.json of a model; none where that is missing or broken."""
    try:
        ids = json.loads((model / model_files.GENERATION).read_text("utf-8"))["eos_token_id"]
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return [one for one in (ids if isinstance(ids, list) else [ids]) if isinstance(one, int)]


def _starts_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer.encode("a")[0] == tokenizer.bos_token_id
