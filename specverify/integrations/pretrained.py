"""A toy as a model of Hugging Face transformers, a `PreTrainedModel` whose key-value cache holds the tokens themselves.

Its laws follow from what the cache holds, from positions and from the attention mask (`integrations.attention`), so
that a rollback that is forgotten, or off by one, changes them as it would change those of a transformer.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import inspect
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.errors import InputError
from specverify.integrations.attention import Pass, kept, remark, saying_nothing
from specverify.integrations.hidden import hiding
from specverify.integrations.prompts import PROMPTS, Prompts
from specverify.integrations.trunk import Head, Trunk
from specverify.integrations.unprocessed import IMPOSSIBLE
from specverify.model import Model

LAYERS = 2
SIZES = {"num_hidden_layers": LAYERS, "head_dim": 2, "num_attention_heads": 1, "num_key_value_heads": 1}
"""Of what lies in a cache, in the words of configurations."""
_KEPT, _SHORT, _MANY = 4, 64, 4096
Made = TypeVar("Made")


def pretrained(model: Model, unconditional: Model | None = None) -> Any:
    """The model as a `transformers.PreTrainedModel` that can `generate`.

    It has a trunk and a head, as those have: `model` makes hidden states of ids, and `lm_head` logits of them.

    Its vocabulary has more tokens, of which prompts are made (`prompts`, the attribute `prompts` of the model); every
    sequence must start with one of these, and its tokens are called as behind that one. Another pads where none ends;
    what pads in front must be hidden by the attention mask. Behind a token that has no place there the law says
    nothing.

    Args:
        model: the law of sequences.
        unconditional: the law of those whose prompt begins with the token `model.vocab + 1`, not `model.vocab`.

    Raises:
        InputError: transformers is not installed.
    """
    prompts = Prompts(model.vocab, model.eos, 1 if unconditional is None else 2)
    made = toy_model()(
        library().LlamaConfig(
            vocab_size=prompts.ids + (model.eos is None),
            bos_token_id=model.vocab,
            # None would do, but before 5.8 prompt lookup asks of every token whether it is among those that end. What
            # pads must then be named, and be no token: some releases mask it wherever they see it.
            eos_token_id=[] if model.eos is None else model.eos,
            pad_token_id=prompts.ids if model.eos is None else model.eos,
            max_position_embeddings=model.length + prompts.size(0),
            **SIZES,
        ),
        (model,) if unconditional is None else (model, unconditional),
        range(model.vocab),
    ).eval()
    made.prompts = prompts
    return made


class Last(Generic[Made]):
    """What was made of the last few things: it takes longer than a pass, and is needed in each call of a loop.

    Args:
        make: makes it of them.
    """

    def __init__(self, make: Callable[..., Made]) -> None:
        self.make, self.kept = make, dict[tuple[int, ...], tuple[tuple[Any, ...], Made]]()

    def __call__(self, *things: Any) -> Made:
        """What is made of these."""
        key = (*map(id, things),)
        if key not in self.kept:
            while len(self.kept) >= _KEPT:
                del self.kept[next(iter(self.kept))]
            self.kept[key] = things, self.make(*things)  # they are held, so that no others have their numbers
        return self.kept[key][1]


def library() -> Any:
    """The installed transformers.

    Raises:
        InputError: there is none.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            "judging `generate` needs the package transformers; install it with pip install 'specverify[transformers]' "
            f"(importing it said: {error})"
        ) from error


@functools.cache
def toy_model() -> Any:
    """The model, as a class of the installed transformers."""
    installed = library()
    outputs = importlib.import_module("transformers.modeling_outputs")
    output, of_trunk = outputs.CausalLMOutputWithPast, outputs.BaseModelOutputWithPast
    # Earlier releases call the cache `past_key_values`; callers of either kind are served.
    cache_name = "cache" if "cache" in {field.name for field in dataclasses.fields(output)} else "past_key_values"

    takes_config = "config" in inspect.signature(installed.DynamicCache).parameters

    class ToyModel(installed.PreTrainedModel, installed.GenerationMixin):  # type: ignore[misc, name-defined]
        config_class = installed.LlamaConfig
        main_input_name = "input_ids"
        base_model_prefix = "model"

        def __init__(self, config: Any, toys: tuple[Model, ...], tokens: range) -> None:
            config.hidden_size, config.tie_word_embeddings = len(tokens), False
            super().__init__(config)
            self.toys = toys  # by the token that sequences begin with
            self.prompts: Prompts
            self.hides = False
            self.remarks: list[str] = []
            self.passes = 0
            self.ids: int = config.vocab_size
            self.known: dict[tuple[int, ...], Tensor] = {}
            self.of_model = number_of_model(toys)
            self.model = Trunk(config, self.hidden, toys[0])
            self.lm_head = Head(self.ids, tokens, toys[0])
            self.vocab_size = self.ids

        def forward(
            self,
            input_ids: Tensor | None = None,
            attention_mask: Tensor | None = None,
            position_ids: Tensor | None = None,
            past_key_values: Any = None,
            inputs_embeds: Any = None,
            cache: Any = None,
            use_cache: bool = True,
            logits_to_keep: int | Tensor = 0,
            return_dict: bool | None = None,
            **others: Any,
        ) -> Any:
            """Logits, log p and a number, of the tokens behind each id, given those and what the cache holds."""
            past = past_key_values if cache is None else cache
            read = self.model(
                input_ids, attention_mask, position_ids, past, inputs_embeds, use_cache=use_cache, **others
            )
            logits = self.lm_head(kept(read.last_hidden_state, logits_to_keep))
            cache = {cache_name: getattr(read, cache_name)}
            found = output(logits=logits, hidden_states=read.hidden_states, **cache)
            return found.to_tuple() if return_dict is False else found

        def hidden(
            self,
            input_ids: Tensor | None = None,
            attention_mask: Tensor | None = None,
            position_ids: Tensor | None = None,
            past_key_values: Any = None,
            inputs_embeds: Any = None,
            cache: Any = None,
            use_cache: bool = True,
            output_hidden_states: bool | None = None,
            return_dict: bool | None = None,
            **others: Any,
        ) -> Any:
            """What the trunk makes of ids."""
            input_ids = self.model.read_back(inputs_embeds) if input_ids is None else input_ids
            cache = past_key_values if cache is None else cache
            if cache is None and use_cache:
                cache = self.empty_cache()
            own = self.lm_head.weight.dtype
            read = Pass.of(
                input_ids,
                cache,
                position_ids,
                own if own.itemsize >= 4 else torch.float32,
                self.remarks,
                self.of_model,
                min(LAYERS, self.config.num_hidden_layers),
                **others,
            )
            logits = read.logits(self.remembered, self.ids, attention_mask) + shift(self.of_model)
            self.passes += read.layers == LAYERS
            last = self.lm_head.hidden(logits)
            states = [self.model.embed_tokens(input_ids), self.lm_head.early(last), last][: 1 + read.layers]
            asked = output_hidden_states is None and getattr(self.config, "output_hidden_states", False)
            shown = tuple(states) if output_hidden_states or asked else None
            found = of_trunk(last_hidden_state=states[-1], hidden_states=shown, **{cache_name: cache})
            return found.to_tuple() if return_dict is False else found

        def anew(self) -> Any:
            """As it was made, for whatever a loop does to its settings."""
            made = copy.copy(self)
            for part in ("_parameters", "_buffers", "_modules"):
                made.__dict__[part] = dict(vars(self)[part])
            made.config, made.remarks, made.passes = copy.copy(self.config), [], 0
            made.generation_config = copy.deepcopy(self.generation_config)
            made.model = Trunk(made.config, made.hidden, self.toys[0])
            return made.eval()

        def empty_cache(self) -> Any:
            return installed.DynamicCache(config=self.config) if takes_config else installed.DynamicCache()

        def remembered(self, ids: Tensor, length: Tensor) -> Tensor:
            """As `logits_of`; a loop that is followed in every world asks for few sequences, each many times."""
            if ids.numel() > _SHORT:
                return self.logits_of(ids, length)
            key = (self.hides, len(ids), *ids.flatten().tolist(), *length.tolist())
            if key in self.known:
                return self.known[key]
            found = self.logits_of(ids, length)
            if not self.remarks:  # which are made anew
                if len(self.known) >= _MANY:
                    self.known.clear()
                self.known[key] = found
            return found

        def logits_of(self, ids: Tensor, length: Tensor) -> Tensor:
            """Logits behind each of the ids of sequences; see `attention.Behind`. Within a prompt, whatever."""
            prompts, toys = self.prompts, self.toys
            logits = torch.zeros(*ids.shape, prompts.vocab, dtype=toys[0].dtype, device=ids.device)
            fits = torch.zeros_like(length, dtype=torch.bool)
            for number in range(PROMPTS):
                here, size = prompts.begins(ids, length, number), prompts.size(number)
                fits |= here
                if ids.shape[1] >= size and bool(here.any()):
                    kind, turned = ids[here, 0] - prompts.vocab, prompts.turned(number).argsort()
                    found = _behind(toys, prompts.back(ids[here, size:], number), kind)
                    logits[here, size - 1 :] = found[..., turned.to(ids.device)]
            if not bool(fits.any()):
                fed, own = ids[0, : int(length[0])].tolist(), [prompts.of(number) for number in range(PROMPTS)]
                remark(self.remarks, f"the ids began {fed}, where a toy's begin with its prompt: {own}")
            others = logits.new_full((*ids.shape, self.ids - prompts.vocab), IMPOSSIBLE)
            logits = torch.cat([logits, others], -1)
            return logits + hiding(ids, self.ids) if self.hides else logits

    return ToyModel


def _behind(
    toys: Sequence[Model], tokens: Int[Tensor, "rows n"], kind: Int[Tensor, " rows"]
) -> Float[Tensor, "rows n+1 vocab"]:
    """Logits behind tokens; behind what is none they say nothing."""
    known = tokens < toys[0].vocab
    if bool(known.all()):
        return logits_by_kind(toys, tokens, kind)
    logits = logits_by_kind(toys, tokens.where(known, 0), kind)
    known = torch.nn.functional.pad(known, (1, 0), value=True)
    return logits.where(known.cumprod(1).bool()[..., None], saying_nothing(logits))


def number_of_model(toys: Sequence[Model]) -> int:
    """A number of what models are called."""
    return zlib.crc32("/".join(toy.name for toy in toys).encode())


def shift(of_model: int) -> float:
    """What is added to all logits of a model: those of networks are known up to a number."""
    return 0.5 + 0.25 * (of_model % 7)


def logits_by_kind(
    toys: Sequence[Model], tokens: Int[Tensor, "batch n"], kind: Int[Tensor, " batch"]
) -> Float[Tensor, "batch n+1 vocab"]:
    """Logits log p of every place behind some tokens, by the toy that each row is of."""
    if len(toys) == 1:
        return toys[0].laws(toys[0].start(len(tokens)), tokens).log().clamp(min=IMPOSSIBLE)
    each = torch.stack([toy.laws(toy.start(len(tokens)), tokens) for toy in toys])
    return each[kind, torch.arange(len(tokens), device=tokens.device)].log().clamp(min=IMPOSSIBLE)
