"""A toy as a model of Hugging Face transformers, so that its own `generate` is judged end to end.

    from specverify.integrations.transformers import generation_sampler
    from specverify.subjects.sampler import judge_sampler
    from specverify.subjects.sampler_suite import small

    plain = generation_sampler()
    assisted = generation_sampler(assistant="assistant_model", num_assistant_tokens=3)
    lookup = generation_sampler(prompt_lookup_num_tokens=2)
    print(judge_sampler(assisted, suite=small(), delta=0.1).verdict)

The toy is a real `PreTrainedModel` with `GenerationMixin`. Its key-value cache holds tokens, positions and what was
seen at each, and its laws follow from these: a rollback that is forgotten, or off by one, changes them as those of a
transformer. The prompt is one token of its own, `vocab`, with no probability anywhere.

A target with processors (temperature, top-k, top-p, min-p) or with classifier-free guidance is unwrapped: `generate`
gets the raw toy and the settings. Where tokens tie at the threshold of top-k, which of them are kept is a matter of
definition, and the toy stays wrapped. The unconditional law of a guided target is that of sequences which begin with
the token `vocab + 1`, the negative prompt.

Releases of transformers from 4.57.1 on work, but for assisted generation by 5.14, which is found out and refused;
4.57.1 and 5.24 are tested in full. What a release lacks it says itself: before 5.4 assisted generation takes no
`min_new_tokens`, before 5.14 no `assistant_ensemble_weight`. 5.0 hands no cache to a custom loop.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from specverify.errors import InputError
from specverify.integrations.custom_generate import decoder as decoder
from specverify.integrations.image_toys import chameleon as chameleon
from specverify.integrations.image_toys import janus as janus
from specverify.integrations.image_toys import loop_sampler as loop_sampler
from specverify.integrations.pretrained import library
from specverify.integrations.pretrained import pretrained as pretrained
from specverify.model import Model
from specverify.processors import Guided, Processed
from specverify.subjects.sampler_series import Sampler
from toymodels.catalogue import fixed_sequences

PROCESSORS = {"T": "temperature", "top-k": "top_k", "top-p": "top_p", "min-p": "min_p"}
"""The processors that `generate` has too, with its name for them, in the order in which it applies them."""
BATCH = 4096
_CHATTER = (
    "Passing `generation_config` together with generation-related arguments",
    "Both `max_new_tokens` (=",
    "Both `min_new_tokens` (=",
)


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
        InputError: transformers is not installed, or a release whose assisted generation cannot be judged; when called,
            for a target with processors that `generate` lacks, or that contradict what `generate` is given.
    """
    library()
    if assistant == "assistant_model":
        _check_rollback()
    drafts = assistant is not None or any(name.startswith("prompt_lookup") for name in generate)
    size = batch or (1 if drafts else BATCH)

    remarks: list[str] = []

    def sample(target: Model, draft: Model, n: int, seed: int) -> Tensor:
        raw, settings = _unwrapped(target)
        _check_agreement(target, settings, generate)
        guided = isinstance(raw, Guided)
        model = pretrained(raw.conditional, raw.unconditional) if isinstance(raw, Guided) else pretrained(raw)
        model.remarks = remarks
        # `generate` keeps the 50 most probable tokens unless it is told otherwise.
        usual = {"do_sample": True, "max_new_tokens": raw.length, "top_k": 0}
        arguments = {**usual, **settings, **generate}
        if assistant is not None:
            arguments[assistant] = helper = pretrained(draft, draft if guided else None)
            helper.generation_config.num_assistant_tokens = num_assistant_tokens
            helper.generation_config.num_assistant_tokens_schedule = num_assistant_tokens_schedule
            helper.generation_config.assistant_confidence_threshold = assistant_confidence_threshold
        parts = []
        with torch.random.fork_rng(devices=[]), _quiet():
            torch.default_generator.manual_seed(seed)
            for first in range(0, n, size):
                prompt = torch.full((min(size, n - first), 1), raw.vocab)
                if guided:
                    arguments["negative_prompt_ids"] = prompt + 1
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
    sample.remarks = remarks  # type: ignore[attr-defined]
    sample.__qualname__ = f"generation_sampler({given})"
    return sample


def _padded(tokens: Tensor, model: Model) -> Tensor:
    """Rows that stopped at their end of sequence, filled up with it."""
    missing = model.length - tokens.shape[1]
    if model.eos is None or missing <= 0:
        return tokens
    return torch.nn.functional.pad(tokens, (0, missing), value=model.eos)


def _check_agreement(target: Model, due: Mapping[str, float], given: Mapping[str, object]) -> None:
    """That the user's own settings leave the target's law as it is: otherwise a right engine would be refuted."""
    for name, value in due.items():
        if name in given and given[name] != value:
            raise InputError(
                f"the target {target.name!r} has {name}={value}, and generation_sampler was given "
                f"{name}={given[name]}, which asks for another law; leave it out, since what the target asks for is "
                "handed to `generate`"
            )


def _unwrapped(model: Model) -> tuple[Model, dict[str, float]]:
    """The model before its processors, and their settings as arguments of `generate`."""
    if isinstance(model, Guided):
        return model, {"guidance_scale": float(model.scale)}
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
    raw, settings = _unwrapped(model.inner)
    return raw, settings | {
        PROCESSORS[label]: processor.setting for label, processor in zip(labels, model.processors, strict=True)
    }


def _ties(model: Model, k: int) -> bool:
    """Whether some law gives the last of its k most probable tokens and the next one the same probability."""
    tokens = fixed_sequences(1024, model.vocab, model.length)
    ordered = model.laws(model.start(len(tokens)), tokens[:, :-1]).sort(-1, descending=True).values
    return k < model.vocab and bool((ordered[..., k - 1] == ordered[..., k]).any())


def _check_rollback() -> None:
    """That the draft's cache is empty again when the first draft behind a prompt of one token was rejected.

    Assisted generation then asks for `crop(max_length=0)`, by which 5.14 removes nothing: the next drafts would follow
    from a history that nobody wrote. Since 5.15 `crop` is told how many to remove, and 0 is rightly none.
    """
    installed = library()
    cache = installed.DynamicCache()
    cache.update(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 0)
    cache.crop(0)
    if "max_length" in inspect.signature(cache.crop).parameters and cache.get_seq_length() > 0:
        raise InputError(
            f"transformers {installed.__version__} leaves a rejected first draft in the draft model's cache when the "
            "prompt is one token, as that of toys is (`crop(0)` removes nothing), so its assisted generation cannot be "
            "judged; take another release: pip install 'specverify[transformers]'"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that assisted generation logs about how it calls itself."""
    logger = logging.getLogger("transformers.generation.utils")

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_CHATTER)

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
