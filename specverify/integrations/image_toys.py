"""Toys behind the interfaces of image models, so that a paper's own loop or sampler class runs on them as it is.

    # loop.py
    from specverify.integrations.transformers import loop_sampler
    from their_clone import generate

    def loop(model, ids):  # ids Int[1, 2], a prompt; what comes back begins with it, or not
        return generate(model, ids, max_new_tokens=model.size, cfg=model.guidance)

    sampler = loop_sampler(loop, "chameleon", width=2)

    specverify validate loop.py:sampler --level sampler --exact

    llama       ids in, logits out; the ids of images are all there are, behind one that begins a sequence
    chameleon   the same with a range of ids for images, an id that ends each row of one, and one that begins one; also
                for Lumina-mGPT, Anole, Emu3. Classifier-free pairs are the two halves of a batch: rows whose attention
                mask hides the condition, or whose condition is `unconditional`, have the unconditional law
    janus       DeepSeek's: embeddings in, hidden states out, `gen_head`, `prepare_gen_img_embeds`. Rows whose condition
                is `pad` have the unconditional law, wherever in the batch they are

All take `past_key_values` and `cache`, which hold the tokens and are cropped as those of transformers are, or by
assignment to `key_cache` and `value_cache`; the laws follow from what they hold, at the positions at which it was read,
and from what the attention mask shows of it (`integrations.attention`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

import toymodels
from specverify.errors import InputError
from specverify.integrations.asking import UNGUIDED, late, unguided, watch
from specverify.integrations.attention import Pass, remark
from specverify.integrations.grammar import Grammar
from specverify.integrations.pretrained import (
    SIZES,
    Last,
    library,
    number_of_model,
    pretrained,
    shift,
    toy_model,
)
from specverify.integrations.prompts import PROMPTS, in_turn
from specverify.integrations.trunk import Head
from specverify.model import Model
from specverify.processors import Guided, Processed, Processor
from specverify.subjects.sampler_series import Sampler
from specverify.subjects.shortened import guided_still

Interface = Literal["llama", "chameleon", "janus"]
IMAGE = 1 << 16
"""Added to Janus's image ids where they are embedded."""
Loop = Callable[[Any, Int[Tensor, "batch prompt"]], Int[Tensor, "batch n"]]
"""(model, prompt) -> ids of `model.size` places or more, behind the prompt or with it."""


def chameleon(model: Model, unconditional: Model | None = None, *, width: int | None = None, first: int = 4) -> Any:
    """A toy as a `transformers.PreTrainedModel` of Chameleon's kind; its prompts are [condition, begin].

    Args:
        model: the law of images.
        unconditional: that of images without a condition; by default the same.

    Other args:
        width: tokens of a row; None if rows do not end.
        first: the id of image token 0.

    Returns:
        the model; its `grammar` says which id is which.

    Raises:
        InputError: transformers is not installed, or the width is not one.
    """
    if width is not None and width < 1:
        raise InputError(f"rows of {width} tokens; a width is at least 1, and None for images without rows")
    grammar = Grammar(model.vocab, model.length, width, first)
    config = library().LlamaConfig(
        vocab_size=grammar.vocab,
        bos_token_id=grammar.begin,
        eos_token_id=[],
        pad_token_id=grammar.unconditional,
        max_position_embeddings=grammar.size + 2,
        **SIZES,
    )
    return _image_model()(config, (model, unconditional or model), grammar).eval()


def janus(model: Model, unconditional: Model | None = None) -> Any:
    """A toy with the parts of DeepSeek's `MultiModalityCausalLM` that make images; prompts are [bos, condition, begin].

    Args:
        model: the law of images.
        unconditional: that of rows whose condition is `pad`; by default the same.

    Returns:
        `language_model.get_input_embeddings()`, `language_model.model`, `gen_head`, `prepare_gen_img_embeds`, and
        `grammar`; an embedding is an id, of a text or of an image, and image ids begin at 0 as Janus's do.
    """
    return _Janus((model, unconditional or model), Grammar(model.vocab, model.length, first=0))


def loop_sampler(
    loop: Loop,
    interface: Interface = "chameleon",
    *,
    width: int | None = None,
    batch: int = 1,
    guided: bool | None = None,
) -> Sampler:
    """A loop that makes images as a sampler, to be judged at level `sampler`.

    Args:
        loop: (model, prompt) -> ids; the model also has `size`, the ids to make, `guidance`, the scale of classifier-
            free guidance that is due (1 for none), and `grammar`.
        interface: what the model looks like.

    Other args:
        width: tokens of a row, for "chameleon".
        batch: sequences of a call.
        guided: whether it guides; if None, whether it asks for `guidance` in some calls before it is judged, and does
            not refuse another than 1.

    A guided target is handed over as its two laws, or as one to a loop that does not guide, which is said. One with
    processors is handed over as it is: its logits are log p and a number. Where a target is not guided, the rows of a
    call have other conditions, or prompts, in turn, behind which ids are turned (`integrations.prompts`), and rows
    without a condition say nothing.

    Raises:
        InputError: no such interface; when called, for a loop that returns something else than ids, or too few.
    """
    if interface not in get_args(Interface):
        raise InputError(f"interface {interface!r}: choose one of {', '.join(get_args(Interface))}")

    remarks: list[str] = []
    fewer: list[bool] = []
    leaves = [UNGUIDED] if guided is False else []
    opened = Last(lambda target: _opened(target, interface, width, guided=not leaves))

    def look() -> None:
        if guided is None and not leaves:
            model, prompts = _opened(toymodels.toy("dense-2x8"), interface, width)
            leaves.extend(filter(None, [unguided(loop, model, prompts[:1] * batch)]))

    def sample(target: Model, draft: Model, n: int, seed: int) -> Tensor:
        found = []
        model, prompts = opened(target)
        model = model.anew()
        model.remarks = remarks
        if UNGUIDED in leaves and guided is None:
            watch(model, late)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)
            for start in range(0, n, batch):
                call, rows = start // batch, min(batch, n - start)
                # Prompts beside each other are equally long.
                turns = in_turn(call, 1) * rows if interface == "llama" else in_turn(call, rows)
                number = turns if len(prompts) > 1 else [0] * rows
                prompt = torch.tensor([prompts[each] for each in number])
                before = model.passes
                made = _read(loop(model, prompt.clone()), prompt, model)
                fewer.extend([True] * (not fewer and model.passes - before < target.length))
                found.append(model.grammar.back(target.eos)[number].gather(1, made))
        return _filled(torch.cat(found), target.eos)

    sample.remarks, sample.fewer = remarks, fewer  # type: ignore[attr-defined]
    sample.look, sample.leaves = look, leaves  # type: ignore[attr-defined]
    sample.__qualname__ = getattr(loop, "__qualname__", type(loop).__name__)
    return sample


def _filled(tokens: Int[Tensor, "rows length"], eos: int | None) -> Int[Tensor, "rows length"]:
    """An image has its size, and a loop over one knows of no end: behind a toy's own, that id again."""
    if eos is None:
        return tokens
    ends = (tokens == eos).long()
    return tokens.masked_fill(ends.cumsum(1) - ends > 0, eos)


def _opened(target: Model, interface: Interface, width: int | None, guided: bool = True) -> tuple[Any, list[list[int]]]:
    """The model and its prompts; a guided target as its two laws, or whole."""
    target = guided_still(target) if guided else target
    flat = Processor("flat", torch.full_like, 1 / target.vocab)
    pair: tuple[Model, Model] = (target, Processed(target, [flat]))
    scale = 1.0
    if isinstance(target, Guided) and guided:
        pair, scale = (target.conditional, target.unconditional), float(target.scale)
    if interface == "chameleon":
        model = chameleon(*pair, width=width)
        prompts = [[condition, model.grammar.begin] for condition in model.grammar.conditions]
    elif interface == "janus":
        model = janus(*pair)
        prompts = [[model.bos, condition, model.grammar.begin] for condition in model.grammar.conditions]
    else:
        model = pretrained(*pair)
        model.grammar = Grammar(target.vocab, target.length, first=0)
        prompts = [model.prompts.of(number) for number in range(PROMPTS)]
    model.size, model.guidance = model.grammar.size, scale
    one = scale != 1 and interface != "llama"  # rows without a condition do not say which they lack
    return model, prompts[:1] if one else prompts


def _read(ids: Any, prompt: Int[Tensor, "batch prompt"], model: Any) -> Int[Tensor, "batch length"]:
    """The image tokens of what a loop returned."""
    if not isinstance(ids, Tensor) or ids.ndim != 2 or len(ids) != len(prompt) or ids.is_floating_point():
        raise InputError(f"the loop returned {ids!r:.200}; it returns ids, Int[{len(prompt)}, {model.size} or more]")
    ids, grammar = ids.long(), model.grammar
    if ids.shape[1] >= prompt.shape[1] + model.size and torch.equal(ids[:, : prompt.shape[1]], prompt):
        ids = ids[:, prompt.shape[1] :]
    if ids.shape[1] < model.size:
        raise InputError(f"the loop returned {ids.shape[1]} ids; an image of this model has {model.size}")
    ids = ids[:, : model.size]
    ends = grammar.ends_row(model.size)
    image: Tensor = ids[:, ~ends] - grammar.first
    if bool((ids[:, ends] != grammar.row_end).any()) or bool(((image < 0) | (image >= grammar.image)).any()):
        raise InputError(
            f"the loop returned {ids[0].tolist()}: image ids are {grammar.first}..{grammar.row_end - 1}"
            + (f", and {grammar.row_end} ends each row of {grammar.width}" if grammar.width else "")
        )
    return image


class _Layers:
    """`key_cache` or `value_cache` of earlier releases: what the layers hold, read and assigned by number."""

    def __init__(self, cache: Any, part: str) -> None:
        self.cache, self.part = cache, part

    def __len__(self) -> int:
        return len(self.cache.layers)

    def __getitem__(self, layer: int) -> Tensor:
        found: Tensor = getattr(self.cache.layers[layer], self.part)
        return found

    def __setitem__(self, layer: int, value: Tensor) -> None:
        setattr(self.cache.layers[layer], self.part, value)


@functools.cache
def _cache_class() -> Any:
    class ToyCache(library().DynamicCache):  # type: ignore[misc]
        @property
        def key_cache(self) -> _Layers:
            return _Layers(self, "keys")

        @property
        def value_cache(self) -> _Layers:
            return _Layers(self, "values")

    return ToyCache


@functools.cache
def _image_model() -> Any:
    class ImageModel(toy_model()):  # type: ignore[misc]
        def __init__(self, config: Any, toys: tuple[Model, ...], grammar: Grammar) -> None:
            super().__init__(config, toys, range(grammar.first, grammar.row_end + (grammar.width is not None)))
            self.grammar = grammar

        def empty_cache(self) -> Any:
            return _cache_class()()

        def logits_of(self, tokens: Tensor, length: Tensor) -> Tensor:
            """See `toy_model`; of the condition itself, whatever."""
            return self.grammar.behind(self.toys, tokens, length, self.remarks)

    return ImageModel


def embedded(ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape 1"]:
    """Embeddings of ids: their numbers."""
    return ids.double()[..., None]


def read_back(embeddings: Float[Tensor, "*shape 1"]) -> Int[Tensor, "*shape"]:
    """The ids of embeddings."""
    return embeddings[..., 0].round().long()


class _Janus(torch.nn.Module):
    """See `janus`."""

    def __init__(self, toys: tuple[Model, ...], grammar: Grammar) -> None:
        super().__init__()
        self.toys, self.grammar = toys, grammar
        self.remarks: list[str] = []
        self.bos, self.pad = grammar.vocab, grammar.unconditional
        self.language_model = SimpleNamespace(get_input_embeddings=lambda: embedded, model=self._hidden)
        self.gen_head = Head(grammar.image, range(grammar.image), toys[0])
        self.of_model = number_of_model(toys)
        self.size, self.guidance, self.passes = grammar.size, 1.0, 0

    def anew(self) -> _Janus:
        """See `pretrained.toy_model`."""
        made = _Janus(self.toys, self.grammar)
        made.size, made.guidance = self.size, self.guidance
        return made

    def prepare_gen_img_embeds(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape 1"]:
        """Embeddings of image ids, from a table of their own."""
        return embedded(ids + IMAGE)

    def _hidden(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        cache: Any = None,
        **others: Any,
    ) -> SimpleNamespace:
        cache = past_key_values if cache is None else cache
        cache = _cache_class()() if cache is None else cache
        read = Pass.of(read_back(inputs_embeds), cache, remarks=self.remarks, of_model=self.of_model, **others)
        logits = read.logits(self._logits_of, self.grammar.image, attention_mask) + shift(self.of_model)
        self.passes += 1
        return SimpleNamespace(last_hidden_state=self.gen_head.hidden(logits), past_key_values=cache, cache=cache)

    def _logits_of(self, tokens: Int[Tensor, "rows n"], length: Int[Tensor, " rows"]) -> Float[Tensor, "rows n vocab"]:
        """Of a prompt, whatever."""
        begins = tokens[:, 0] == self.bos
        if not bool(begins.any()):
            fed = tokens[0, : int(length[0])].tolist()
            remark(self.remarks, f"the ids began {fed}, where a toy's begin with {self.bos}")
        image = self.grammar.image
        if tokens.shape[1] == 1:  # the rest of a prompt is yet to come
            return torch.zeros(len(tokens), 1, image, dtype=self.toys[0].dtype)
        special = tokens.where((tokens >= image) & (tokens < IMAGE), -1)  # text, in whose table images are not
        ids = (tokens - IMAGE).where((tokens >= IMAGE) & (tokens < IMAGE + image), special)
        logits = self.grammar.behind(self.toys, ids[:, 1:], length - 1, self.remarks)[..., :image]
        return torch.nn.functional.pad(logits.where(begins[:, None, None], 0.0), (0, 0, 1, 0))
