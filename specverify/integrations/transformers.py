"""A toy as a model of Hugging Face transformers, so that its own `generate` is judged end to end.

    from specverify.integrations.transformers import generation_sampler
    from specverify.subjects.sampler import judge_sampler
    from specverify.subjects.sampler_suite import small

    plain = generation_sampler()
    assisted = generation_sampler(assistant="assistant_model", num_assistant_tokens=3)
    lookup = generation_sampler(prompt_lookup_num_tokens=2)
    print(judge_sampler(assisted, suite=small(), delta=0.1).verdict)

The toy is a real `PreTrainedModel` with `GenerationMixin`. Its key-value cache holds nothing but the tokens, and its
laws follow from what the cache holds: a rollback that is forgotten, or off by one, changes them as it would change
those of a transformer. The prompt is one token of its own, `vocab`, with no probability anywhere.

A target with processors (temperature, top-k, top-p) is unwrapped: `generate` gets the raw toy and the settings. Where
tokens tie at the threshold of top-k, which of them are kept is a matter of definition, and the toy stays wrapped.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from specverify.errors import InputError
from specverify.model import Model
from specverify.processors import Processed
from specverify.subjects.sampler_series import Sampler
from toymodels.catalogue import fixed_sequences

PROCESSORS = {"T": "temperature", "top-k": "top_k", "top-p": "top_p", "min-p": "min_p"}
"""The processors that `generate` has too, with its name for them, in the order in which it applies them."""
BATCH = 4096
_CHATTER = "Passing `generation_config` together with generation-related arguments"


def pretrained(model: Model) -> Any:
    """The model as a `transformers.PreTrainedModel` that can `generate`.

    Its vocabulary has one more token, the beginning of sequence `model.vocab`, which every sequence must start with. It
    takes no padding.

    Raises:
        InputError: transformers is not installed.
    """
    return _toy_model()(
        _library().PretrainedConfig(
            vocab_size=model.vocab + 1,
            bos_token_id=model.vocab,
            eos_token_id=model.eos,
            pad_token_id=model.eos,
            num_hidden_layers=1,
            hidden_size=1,
            num_attention_heads=1,
            max_position_embeddings=model.length + 1,
        ),
        model,
    ).eval()


def generation_sampler(
    *,
    assistant: str | None = None,
    num_assistant_tokens: int = 3,
    num_assistant_tokens_schedule: str = "constant",
    assistant_confidence_threshold: float = 0.0,
    batch: int | None = None,
    **generate: Any,
) -> Sampler:
    """`model.generate(..., do_sample=True, **generate)` as a sampler.

    Args:
        assistant: the argument that takes the draft model: "assistant_model" for assisted generation, or another of a
            custom generation loop; None for generation without one.
        generate: what else `generate` is given, such as `prompt_lookup_num_tokens` or `custom_generate`.

    Other args:
        num_assistant_tokens: drafts per step.
        num_assistant_tokens_schedule: "constant", "heuristic" or "heuristic_transient".
        assistant_confidence_threshold: drafting stops behind a draft with less probability; 0 is never. The default of
            transformers is 0.4, and adapts to what was accepted where scikit-learn is installed.
        batch: sequences that are generated at once; by default 1 where drafts are verified, which is all that
            `generate` can do there, and else 4,096.

    Both models are made anew for every call, so that schedules and thresholds that adapt begin anew too.

    Raises:
        InputError: transformers is not installed; when called, for a target with processors that `generate` lacks.
    """
    _library()
    drafts = assistant is not None or any(name.startswith("prompt_lookup") for name in generate)
    size = batch or (1 if drafts else BATCH)

    def sample(target: Model, draft: Model, n: int, seed: int) -> Tensor:
        raw, settings = _unwrapped(target)
        model = pretrained(raw)
        arguments: dict[str, Any] = {"do_sample": True, "max_new_tokens": raw.length, **settings, **generate}
        if assistant is not None:
            arguments[assistant] = helper = pretrained(draft)
            helper.generation_config.num_assistant_tokens = num_assistant_tokens
            helper.generation_config.num_assistant_tokens_schedule = num_assistant_tokens_schedule
            helper.generation_config.assistant_confidence_threshold = assistant_confidence_threshold
        parts = []
        with torch.random.fork_rng(devices=[]), _quiet():
            torch.default_generator.manual_seed(seed)
            for first in range(0, n, size):
                prompt = torch.full((min(size, n - first), 1), raw.vocab)
                rows = model.generate(prompt, attention_mask=torch.ones_like(prompt), **arguments)
                parts.append(_padded(rows[:, 1:], raw))
        return torch.cat(parts)

    settings = {"assistant": assistant, **generate}
    if assistant is not None:
        settings |= {
            "num_assistant_tokens": num_assistant_tokens,
            "num_assistant_tokens_schedule": num_assistant_tokens_schedule,
            "assistant_confidence_threshold": assistant_confidence_threshold,
        }
    given = ", ".join(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in settings.items() if value)
    sample.__qualname__ = f"generation_sampler({given})"
    return sample


def _padded(tokens: Tensor, model: Model) -> Tensor:
    """Rows that stopped at their end of sequence, filled up with it."""
    missing = model.length - tokens.shape[1]
    if model.eos is None or missing <= 0:
        return tokens
    return torch.nn.functional.pad(tokens, (0, missing), value=model.eos)


def _unwrapped(model: Model) -> tuple[Model, dict[str, Any]]:
    """The model before its processors, and their settings as arguments of `generate`."""
    if not isinstance(model, Processed):
        return model, {}
    if any(_ties(model.inner, p.setting) for p in model.processors if p.label.startswith("top-k=")):
        return model, {}
    labels = [processor.label.partition("=")[0] for processor in model.processors]
    if labels != [label for label in PROCESSORS if label in labels]:
        raise InputError(
            f"{model.name!r}: `generate` applies {', '.join(PROCESSORS)}, each at most once and in this order; "
            f"not {', '.join(labels)}"
        )
    settings = (processor.setting for processor in model.processors)
    return model.inner, {PROCESSORS[label]: setting for label, setting in zip(labels, settings, strict=True)}


def _ties(model: Model, k: int) -> bool:
    """Whether some law gives the last of its k most probable tokens and the next one the same probability."""
    tokens = fixed_sequences(1024, model.vocab, model.length)
    ordered = model.laws(model.start(len(tokens)), tokens[:, :-1]).sort(-1, descending=True).values
    return k < model.vocab and bool((ordered[..., k - 1] == ordered[..., k]).any())


def _library() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            "judging `generate` needs the package transformers; install it with pip install 'specverify[transformers]'"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the one line that assisted generation logs about how it calls itself."""
    logger = logging.getLogger("transformers.generation.utils")

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_CHATTER)

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


@functools.cache
def _toy_model() -> Any:
    """The model, as a class of the installed transformers."""
    library = _library()
    outputs = importlib.import_module("transformers.modeling_outputs")

    class ToyModel(library.PreTrainedModel, library.GenerationMixin):  # type: ignore[misc]
        config_class = library.PretrainedConfig
        main_input_name = "input_ids"

        def __init__(self, config: Any, toy: Model) -> None:
            super().__init__(config)
            self.toy = toy
            self.anchor = torch.nn.Parameter(torch.zeros((), dtype=toy.dtype, device=toy.device))  # tells the device

        def forward(
            self,
            input_ids: Tensor,
            attention_mask: Tensor | None = None,
            past_key_values: Any = None,
            use_cache: bool = True,
            **unused: Any,
        ) -> Any:
            """Logits log p of the tokens behind each of `input_ids`, given those and what the cache holds."""
            if attention_mask is not None and not bool(attention_mask.all()):
                raise ValueError("a toy takes no padding; leave attention_mask out")
            if past_key_values is None and use_cache:
                past_key_values = library.DynamicCache(config=self.config)
            seen = input_ids
            if past_key_values is not None:
                slots = input_ids[:, None, :, None]
                seen = past_key_values.update(slots, slots, 0)[0][:, 0, :, 0]
            if bool((seen[:, 0] != self.toy.vocab).any()) or bool((seen[:, 1:] >= self.toy.vocab).any()):
                raise ValueError(f"a toy's sequences begin with token {self.toy.vocab} and have it nowhere else")
            laws = self.toy.laws(self.toy.start(len(seen)), seen[:, 1:])[:, -input_ids.shape[1] :]
            logits = torch.nn.functional.pad(laws.log(), (0, 1), value=-torch.inf)
            return outputs.CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    return ToyModel
