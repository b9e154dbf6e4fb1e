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
transformer. The prompts are several tokens of their own, each call's rows get other ones, and their laws follow from
these (`prompts`); rows of a batch are padded in front.

A target with processors (temperature, top-k, top-p, min-p) or with classifier-free guidance is unwrapped: `generate`
gets the raw toy and the settings, and with processors one more, which depends on all ids (`hidden`). Where tokens tie
at a threshold, which of them are kept is a matter of definition, and the toy stays wrapped. The unconditional law of a
guided target is that of sequences which begin with the token `vocab + 1`, as the negative prompt does.

Releases of transformers from 4.57.1 on work; 4.57.1 and 5.24 are tested in full. What a release lacks it says itself:
before 5.4 assisted generation takes no `min_new_tokens`, before 5.14 no `assistant_ensemble_weight`. 5.0 hands no cache
to a custom loop.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from specverify.errors import ContractError, InputError
from specverify.integrations.custom_generate import decoder as decoder
from specverify.integrations.hidden import Revealing
from specverify.integrations.image_toys import chameleon as chameleon
from specverify.integrations.image_toys import janus as janus
from specverify.integrations.image_toys import loop_sampler as loop_sampler
from specverify.integrations.pretrained import Last, library
from specverify.integrations.pretrained import pretrained as pretrained
from specverify.integrations.prompts import PROMPTS, Prompts, in_turn
from specverify.model import Model
from specverify.processors import Guided, Processed
from specverify.subjects.sampler_series import Sampler
from specverify.subjects.shortened import guided_still
from toymodels.catalogue import fixed_sequences

PROCESSORS = {"T": "temperature", "top-k": "top_k", "top-p": "top_p", "min-p": "min_p"}
"""The processors that `generate` has too, with its name for them, in the order in which it applies them."""
BATCH = 4096
LAWFUL: dict[str, tuple[object, ...]] = {
    "do_sample": (True,), "num_beams": (1,), "temperature": (1.0,), "top_k": (0,), "top_p": (1.0,), "min_p": (0.0,),
    "top_h": (), "typical_p": (1.0,), "epsilon_cutoff": (0.0,), "eta_cutoff": (0.0,), "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,), "no_repeat_ngram_size": (0,), "encoder_no_repeat_ngram_size": (0,),
    "bad_words_ids": (), "sequence_bias": (), "suppress_tokens": (), "begin_suppress_tokens": (), "min_length": (0,),
    "min_new_tokens": (0,), "forced_bos_token_id": (), "forced_eos_token_id": (), "guidance_scale": (1.0,),
    "exponential_decay_length_penalty": (), "penalty_alpha": (0.0,), "dola_layers": (), "watermarking_config": (),
}  # fmt: skip
"""What makes `generate` draw from another law than the model's, and by which values it does not, None besides."""
UNUSED = (
    "the logits processors that generate was given, as it hands them to a custom loop, were never called, and the toy "
    "has one more of them; generation_sampler(..., logits_processor=None) judges without it"
)
GUIDED = (
    "guided toys were handed to generate as a guidance_scale and negative_prompt_ids; where these are what is wrong, "
    "generation_sampler(..., guidance_scale=None) judges without them"
)
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
        generate: what else `generate` is given, such as `prompt_lookup_num_tokens` or `custom_generate`. Guided toys
            stay whole with `guidance_scale=None`, and no processor is added with `logits_processor=None`.

    Other args:
        num_assistant_tokens: drafts per step.
        num_assistant_tokens_schedule: "constant", "heuristic" or "heuristic_transient".
        assistant_confidence_threshold: drafting stops behind a draft with less probability; 0 is never. The default of
            transformers is 0.4, and adapts to what was accepted where scikit-learn is installed.
        batch: sequences that are generated at once; by default 1 where drafts are verified, which is all that
            `generate` can do there, and else 4,096.

    Both models are made anew for every call, so that schedules and thresholds that adapt begin anew too. Of what
    `generate` returns, `sequences` are taken, and of `num_return_sequences` as many as are asked for.

    Raises:
        InputError: transformers is not installed; when called, for a target with processors that `generate` lacks, or
            that contradict what `generate` is given.
    """
    library()
    drafts = assistant is not None or any(name.startswith("prompt_lookup") for name in generate)
    size = batch or (1 if drafts else BATCH)
    several = int(generate.get("num_return_sequences") or 1)

    remarks: list[str] = []
    fewer: list[bool] = []

    def opened(target: Model) -> tuple[Model, dict[str, float], bool, Any]:
        raw, settings = _unwrapped(target, generate.get("guidance_scale", 1) is not None)
        _check_agreement(target, settings, generate)
        guided = "guidance_scale" in settings
        pair = (raw.conditional, raw.unconditional) if guided and isinstance(raw, Guided) else (raw,)
        return raw, settings, guided, pretrained(*pair)

    targets, drafters = Last(opened), Last(lambda draft, guided: pretrained(draft, draft if guided else None))

    def sample(target: Model, draft: Model, n: int, seed: int) -> Tensor:
        raw, settings, guided, model = targets(target)
        model = model.anew()
        model.remarks = remarks
        # `generate` keeps the 50 most probable tokens unless it is told otherwise.
        usual = {"do_sample": True, "max_new_tokens": raw.length, "top_k": 0}
        arguments = {**usual, **settings, **generate}
        revealing = Revealing(model.config.pad_token_id)
        model.hides = bool(settings) and not guided and "logits_processor" not in generate
        if model.hides:
            arguments["logits_processor"] = library().LogitsProcessorList([revealing])
        if assistant is not None:
            arguments[assistant] = helper = drafters(draft, guided).anew()
            helper.hides = model.hides
            helper.generation_config.num_assistant_tokens = num_assistant_tokens
            helper.generation_config.num_assistant_tokens_schedule = num_assistant_tokens_schedule
            helper.generation_config.assistant_confidence_threshold = assistant_confidence_threshold
        parts = []
        with torch.random.fork_rng(devices=[]), _quiet():
            torch.default_generator.manual_seed(seed)
            calls = -(-n // several)
            for first in range(0, calls, size):
                numbers = in_turn(first // size, min(size, calls - first))
                prompt, mask = model.prompts.padded(numbers, model.config.pad_token_id)
                if guided:
                    remarks.extend([] if GUIDED in remarks else [GUIDED])
                    negative, _ = model.prompts.padded(numbers, model.config.pad_token_id, 1)
                    arguments |= {"negative_prompt_ids": negative, "negative_prompt_attention_mask": mask}
                before = model.passes
                rows = model.generate(prompt, attention_mask=mask, **arguments)
                rows = getattr(rows, "sequences", rows)[:, prompt.shape[1] :]
                fewer.extend([True] * (not fewer and model.passes - before < rows.shape[1]))
                number = torch.tensor(numbers).repeat_interleave(several)
                parts.append(_read(_padded(rows, raw), number, model.prompts))
        if model.hides and not revealing.called and UNUSED not in remarks:
            remarks.append(UNUSED)
        return torch.cat(parts)[:n]

    settings = {"assistant": assistant, **generate}
    if assistant is not None:
        settings |= {
            "num_assistant_tokens": num_assistant_tokens,
            "num_assistant_tokens_schedule": num_assistant_tokens_schedule,
            "assistant_confidence_threshold": assistant_confidence_threshold,
        }
    given = ", ".join(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in settings.items() if value)
    sample.remarks, sample.fewer = remarks, fewer  # type: ignore[attr-defined]
    sample.asks = asked_for(generate)  # type: ignore[attr-defined]
    sample.__qualname__ = f"generation_sampler({given})"
    return sample


def asked_for(generate: Mapping[str, object]) -> tuple[str, ...]:
    """What of the arguments of `generate` asks for another law than the model's, as they are written."""
    config = generate.get("generation_config")
    found = {name: getattr(config, name, None) for name in LAWFUL if name not in ("do_sample", "top_k")}  # given anyway
    found |= {name: value for name, value in generate.items() if name in LAWFUL}
    asks = (name for name, value in found.items() if value is not None and value not in LAWFUL[name])
    return tuple(f"{name}={found[name]}" for name in asks)


def _read(rows: Int[Tensor, "rows n"], number: Int[Tensor, " rows"], prompts: Prompts) -> Int[Tensor, "rows n"]:
    """The tokens of ids behind the prompts of these numbers."""
    if len(rows) != len(number):
        return rows  # what was asked for is not what came, which the judgement says
    tokens = rows.clone()
    for each in range(PROMPTS):
        tokens[number == each] = prompts.back(rows[number == each], each)
    return tokens


def _padded(tokens: Tensor, model: Model) -> Tensor:
    """Rows that stopped at their end of sequence, filled up with it."""
    missing = model.length - tokens.shape[1]
    if missing < 0 or (missing > 0 and model.eos is None):
        raise ContractError(f"{tokens.shape[1]} ids came behind a prompt where max_new_tokens is {model.length}")
    if missing == 0 or model.eos is None:
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


def _unwrapped(model: Model, guides: bool = True) -> tuple[Model, dict[str, float]]:
    """The model before its processors, and guidance, and their settings as arguments of `generate`."""
    model = guided_still(model)
    if isinstance(model, Guided) and guides:
        return model, {"guidance_scale": float(model.scale)}
    if not isinstance(model, Processed) or _ties(model):
        return model, {}
    labels = [processor.label.partition("=")[0] for processor in model.processors]
    if labels != [label for label in PROCESSORS if label in labels]:
        raise InputError(
            f"{model.name!r}: `generate` applies {', '.join(PROCESSORS)}, each at most once and in this order; "
            f"not {', '.join(labels)}"
        )
    raw, settings = _unwrapped(model.inner, guides)
    return raw, settings | {
        PROCESSORS[label]: processor.setting for label, processor in zip(labels, model.processors, strict=True)
    }


def _ties(model: Processed) -> bool:
    """Whether a millionth more or less of some token decides what a processor keeps, as where two tie there."""
    tokens = fixed_sequences(1024, model.vocab, model.length)
    laws = model.inner.laws(model.inner.start(len(tokens)), tokens[:, :-1])
    slope = torch.linspace(-1e-6, 1e-6, model.vocab, dtype=laws.dtype, device=laws.device)
    even = torch.arange(model.vocab, device=laws.device) % 2 == 0
    near = [laws * (1 + each) for each in (0 * slope, slope, -slope, slope.abs().where(even, -slope.abs()))]
    cut = [
        functools.reduce(lambda law, step: step(law), model.processors, law / law.sum(-1, keepdim=True)) for law in near
    ]
    return any(not torch.allclose(cut[0], other, atol=1e-4) for other in cut[1:])


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
