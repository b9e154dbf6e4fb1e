"""A decoder of this project as the loop of transformers' own `generate`, by its argument `custom_generate`.

    from specverify.integrations.transformers import decoder

    tokens = model.generate(ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0,
                            custom_generate=decoder("scd-mc", window=16, guidance=5.0))
    pixels = model.decode_image_tokens(tokens)

The model is Janus or Janus-Pro, JanusForConditionalGeneration of transformers; `generation_mode` stays "text", since
the loop that images have there takes no other. Prompts end with the token that begins an image, are padded on the left,
and come as `generate` takes them. Sampling follows the generation config: greedy, or temperature, top-k, top-p and
min-p, in the library's order, at all positions of a window at once; other processors, beams, scores and another length
than an image's are refused by name, and stopping criteria are not asked. Guidance is the decoder's own argument: Janus'
`generate` drops a `guidance_scale`, and a list of `logits_processor`, before either gets here, and any model's drops a
`streamer` and an `assistant_model`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor

from specverify.decoders.registry import Settings, build, entry
from specverify.decoders.run import Run, run
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.processors import Processor, parse_processors

_WARPERS = {
    "TemperatureLogitsWarper": ("temperature", "temperature"),
    "TopKLogitsWarper": ("top_k_ties", "top_k"),
    "TopPLogitsWarper": ("top_p", "top_p"),
    "MinPLogitsWarper": ("min_p", "min_p"),
}
"""The library's classes: the name here, and their attribute."""


_SHOWN = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


class Generating:
    """What `custom_generate` is given; made by `decoder`.

    Attributes:
        run: of the last call: passes, verified and accepted drafts of each image. None before the first.
    """

    def __init__(self, name: str, settings: Settings, guidance: float | None, seed: int | None) -> None:
        self.name, self.settings, self.guidance, self.seed = name, settings, guidance, seed
        self.run: Run | None = None

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        input_ids: Int[Tensor, "batch prompt"],
        logits_processor: Iterable[Any] = (),
        stopping_criteria: Any = None,
        generation_config: Any = None,
        **given: Any,
    ) -> Any:
        """The image tokens of every prompt, Int[batch, length]; with `return_dict_in_generate`, as its `sequences`.

        Raises:
            InputError: another model, prompts that do not begin an image, a processor that is not known, or what a
                speculative decoder does not give, such as beams.
        """
        from realmodels.session import ImageTransformer

        _given(generation_config, given)
        network = _janus(model, input_ids, generation_config)
        # Not an argument of its own: `generate` would then give it twice.
        sees = given.get("attention_mask")
        sees = torch.ones_like(input_ids) if sees is None else sees
        prompts = [row[keep.bool()].tolist() for row, keep in zip(input_ids, sees, strict=True)]
        scale = network.description.guidance if self.guidance is None else self.guidance
        shaping = _processors(logits_processor, bool(getattr(generation_config, "do_sample", False)))
        opened = ImageTransformer(network, prompts, scale, shaping)
        most = getattr(generation_config, "max_new_tokens", None)
        if most not in (None, opened.length):
            raise InputError(f"max_new_tokens={most}: an image of this model has {opened.length} tokens; leave it out")
        # The library's own sampling follows torch's generator, and so does this, unless a seed is given.
        seed = int(torch.randint(2**62, ())) if self.seed is None else self.seed
        self.run = run(build(self.name, self.settings), opened, len(prompts), Sampled(seed, 0, opened.device))
        if not getattr(generation_config, "return_dict_in_generate", False):
            return self.run.tokens
        from transformers.generation.utils import GenerateDecoderOnlyOutput

        return GenerateDecoderOnlyOutput(sequences=cast("torch.LongTensor", self.run.tokens))


def decoder(
    name: str, *, window: int = 16, guidance: float | None = None, seed: int | None = None, judging: Any = None
) -> Generating:
    """A decoder for `generate(..., custom_generate=...)`.

    Args:
        name: of `specverify list decoders`, such as "sjd" or "scd-mc".
        window: drafts per forward pass.
        guidance: the scale; 1 is none, and None what Janus' makers recommend, 5.
        seed: of all randomness; by default from torch's generator, so that `torch.manual_seed` repeats it.
        judging: a relaxed rule instead of the exact one, such as `specverify.rules.registry.build("gsd", 10, context)`.

    Raises:
        InputError: an unknown decoder, one that needs a draft model or vectors, or a window below 1.
    """
    if window < 1:
        raise InputError(f"window {window}: it is the number of draft tokens per forward pass, at least 1")
    if not entry(name).ids or entry(name).needs_draft_model:
        raise InputError(f"decoder {name!r} needs a draft model, or vectors; take one of ids alone, such as scd-mc")
    settings = Settings(window, judging=judging)
    build(name, settings)
    return Generating(name, settings, guidance, seed)


def _given(generation_config: Any, given: Mapping[str, Any]) -> None:
    """Raise InputError if `generate` was asked for what is not done here."""
    if given.get("inputs_embeds") is not None:
        raise InputError("inputs_embeds: prompts are read as ids; give them as `inputs`")
    asked = {name: getattr(generation_config, name, None) for name in ("num_beams", *_SHOWN)}
    if (asked["num_beams"] or 1) > 1:
        raise InputError(f"num_beams={asked['num_beams']}: a speculative decoder samples, or is greedy; leave it at 1")
    if shown := [name for name in _SHOWN if asked[name]]:
        raise InputError(f"{shown[0]}: tokens are all that comes back; leave it out")


def _janus(model: Any, input_ids: Tensor, generation_config: Any) -> Any:
    from realmodels.adapters.janus import Janus

    kind = type(model).__name__
    if kind != "JanusForConditionalGeneration":
        raise InputError(
            f"custom_generate knows JanusForConditionalGeneration, not {kind}; open other models with "
            "realmodels.models.open_model, and decode with specverify.decoders.sample"
        )
    begin = int(input_ids[0, -1])
    if bool((input_ids[:, -1] != begin).any()):
        raise InputError(
            f"prompts end with different tokens ({input_ids[:, -1].unique().tolist()}); each ends with the one that "
            "begins an image, and padding is on the left"
        )
    places = (generation_config, model.generation_config, model.config.get_text_config())
    named = [(getattr(place, "generation_kwargs", None) or {}).get("boi_token_id") for place in places[:2]]
    if any(token not in (None, begin) for token in named):
        due = next(token for token in named if token is not None)
        raise InputError(f"prompts end with token {begin}; the one that begins an image, boi_token_id, is {due}")
    bos, padding = (_special(what, places) for what in ("bos_token_id", "pad_token_id"))
    return Janus.around(model, [bos, begin, padding], Path(model.config.name_or_path or "janus"))


def _special(what: str, places: Iterable[Any]) -> int:
    for place in places:
        found = getattr(place, what, None)
        if type(found) is int:
            return found
    raise InputError(f"the generation config names no {what}; set model.generation_config.{what}")


def _processors(given: Iterable[Any], sampling: bool) -> tuple[Processor, ...]:
    """What shapes the laws, as processors here."""
    if not sampling:
        return parse_processors("top_k=1")
    words = []
    for one in given or ():
        kind = type(one).__name__
        if kind not in _WARPERS:
            raise InputError(
                f"generate was asked for {kind}, which is not known at many positions at once; known are "
                f"{', '.join(_WARPERS)}"
            )
        name, attribute = _WARPERS[kind]
        words.append(f"{name}={getattr(one, attribute)}")
    return parse_processors(",".join(words))
