"""Decoders that remember the wrong history: caches that are not rolled back, counts that are off, ends not seen.

All but the last need a model whose context holds, beside the `position`, a `state` that every token changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from specverify.claims import Claim, Lossless
from specverify.declared import Smallest
from specverify.decoders.protocol import Decoder, Info, State
from specverify.decoders.registry import Settings
from specverify.decoders.speculative import Speculative
from specverify.defects.defect import Assemble, Defect, drafting
from specverify.defects.views import Unending, View
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.model import Context, Model, row_mask

Advance = Callable[[Model, Context, Tensor, Tensor, Tensor], Context]


def _shown(view: Callable[[Model], View]) -> Assemble:
    """To assemble a decoder that is shown a view of a model with a state."""

    def assemble(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
        context = model.start(1)
        if not (hasattr(context, "position") and hasattr(context, "state")):
            raise InputError(
                f"model {model.name!r} keeps no `state` and `position` in its context, which this defect corrupts; "
                "use one that does, such as the toys recurrent-3x6, window-3x6, penalty-3x6 and switch-3x6"
            )
        return Speculative(drafting(settings), settings.window), view(model)

    return assemble


def _advancing(advance: Advance) -> Assemble:
    return _shown(lambda model: View(model, advance=advance))


def _last(tokens: Tensor, count: Tensor) -> Tensor:
    return tokens.gather(1, (count - 1).clamp(min=0)[:, None])


def _not_trimmed(inner: Model, context: Context, draft: Tensor, tokens: Tensor, count: Tensor) -> Context:
    """After a rejection all drafts stay in the state, and the recovered token comes on top."""
    right = inner.advance(context, tokens, count)
    every = torch.full_like(count, draft.shape[1])
    wrong = inner.advance(inner.advance(context, draft, every), _last(tokens, count), torch.ones_like(count))
    rejected = (count > 0) & (count <= draft.shape[1])
    return replace(right, state=torch.where(rejected[:, None], wrong.state, right.state))


def _stale_ring(inner: Model, context: Context, draft: Tensor, tokens: Tensor, count: Tensor) -> Context:
    """The state, the last `span` tokens oldest first, is a ring: place i holds position `position - span + i`.

    Draft k was written at position `context.position + k`. Rejected ones stay where they overwrote older tokens.
    """
    right = inner.advance(context, tokens, count)
    window, span = draft.shape[1], right.state.shape[1]
    place = torch.arange(span, device=count.device)
    first = count[:, None] + place
    overwrote = first + (window - 1 - first).clamp(min=0) // span * span
    stale = (overwrote < window) & (right.position[:, None] + place >= span) & (count > 0)[:, None]
    written = draft.gather(1, overwrote.clamp(max=window - 1))
    return replace(right, state=torch.where(stale, written, right.state))


def _counted_twice(inner: Model, context: Context, draft: Tensor, tokens: Tensor, count: Tensor) -> Context:
    right = inner.advance(context, tokens, count)
    every = torch.full_like(count, draft.shape[1]).where(count > 0, 0)
    return replace(right, state=inner.advance(right, draft, every).state)


def _last_only(inner: Model, context: Context, draft: Tensor, tokens: Tensor, count: Tensor) -> Context:
    right = inner.advance(context, tokens, count)
    return replace(right, state=inner.advance(context, _last(tokens, count), count.clamp(max=1)).state)


def _state_of_start(inner: Model, context: Context, draft: Tensor) -> Tensor:
    behind = [
        inner.laws(replace(context, position=context.position + k), draft[:, :0]) for k in range(1, draft.shape[1] + 1)
    ]
    return torch.cat([inner.laws(context, draft)[:, :1], *behind], 1)


Step = Callable[[Decoder, State, Model, Draws], tuple[State, Info]]
"""A step with the help of a decoder's own."""


@dataclass(frozen=True)
class Stepping:
    """A decoder whose steps are made by a function around its own."""

    decoder: Decoder
    make: Step
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)

    @property
    def name(self) -> str:
        """The inner decoder's."""
        return self.decoder.name

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        return self.decoder.init(model, batch, draws)

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        return self.make(self.decoder, state, model, draws)


def _read_at_the_start(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
    """The view of the model makes one pass for each slot of a step, which the report counts."""

    def counted(decoder: Decoder, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        after, info = decoder.step(state, model, draws)
        return after, replace(info, passes=info.passes * (settings.window + 1))

    decoder, shown = _shown(lambda model: View(model, laws=_state_of_start))(settings, strength, model)
    return Stepping(decoder, counted), shown


def _seed_omitted(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
    """The model sees, in its state, all committed tokens but the last: the one that a step starts from."""

    def without_seed(decoder: Decoder, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        def laws(inner: Model, context: Context, draft: Tensor) -> Tensor:
            earlier = inner.advance(inner.start(len(draft)), state.tokens, (state.length - 1).clamp(min=0))
            return inner.laws(replace(context, state=earlier.state), draft)

        return decoder.step(state, View(model, laws=laws), draws)

    decoder, _ = _shown(lambda shown: View(shown))(settings, strength, model)
    return Stepping(decoder, without_seed), model


def _eos_ignored(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
    """A row ends when its last committed token is the end, wherever others may be."""
    decoder = Speculative(drafting(settings), settings.window)
    if model.eos is None:
        return decoder, model
    eos = model.eos

    def stop_on_last(decoder: Decoder, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        after, info = decoder.step(state, model, draws)
        ended = _last(after.tokens, after.length).squeeze(1) == eos
        behind = ended[:, None] & ~row_mask(after.length, model.length)
        return replace(after, tokens=after.tokens.masked_fill(behind, eos), done=after.done | ended), info

    return Stepping(decoder, stop_on_last), Unending(model)


DEFECTS = (
    Defect(
        id="cache-not-trimmed",
        category="cache-rollback",
        source="ml-explore/mlx-lm PR #1109 and PR #1486; vllm-project/vllm issue #39273",
        mechanism="Trimming does nothing to a recurrent state, so that rejected drafts stay in it for ever.",
        conditions="a recurrent state; a rejection with positions behind it",
        smallest=Smallest("recurrent-3x6", 1, draft="perturbed"),
        assemble=_advancing(_not_trimmed),
        needs=("state",),
    ),
    Defect(
        id="rotating-cache-stale-keys",
        category="cache-rollback",
        source="ml-explore/mlx-lm PR #1427 and PR #1486",
        mechanism="Rolling back a ring buffer moves its offset alone: what rejected drafts overwrote is not restored.",
        conditions="a sliding window shorter than the sequence; a window of at least 2; a rejection after the ring "
        "has wrapped",
        smallest=Smallest("window-3x6", 2, draft="perturbed"),
        assemble=_advancing(_stale_ring),
        needs=("state",),
    ),
    Defect(
        id="processor-state-shared-by-copy",
        category="processor mismatch",
        source="osaurus-ai/vmlx-swift issue #357",
        mechanism="Drafting and verification share a penalty's counters: accepted drafts count twice, others once.",
        conditions="a law that depends on counts",
        smallest=Smallest("penalty-3x6", 1, draft="perturbed"),
        assemble=_advancing(_counted_twice),
        needs=("state",),
    ),
    Defect(
        id="penalty-counts-last-token-only",
        category="processor mismatch",
        source="sgl-project/sglang PR #33643",
        mechanism="A step that commits several tokens shows only the last of them to the penalties.",
        conditions="a law that depends on counts; a step that commits at least 2 tokens",
        smallest=Smallest("penalty-3x6", 1, draft="perturbed"),
        assemble=_advancing(_last_only),
        needs=("state",),
    ),
    Defect(
        id="penalty-history-omits-seed-token",
        category="processor mismatch",
        source="Luce-Org/lucebox PR #374 (review)",
        mechanism="The history that the penalties of a step are counted over lacks the last committed token.",
        conditions="a law that depends on counts",
        smallest=Smallest("penalty-3x6", 1, draft="perturbed"),
        assemble=_seed_omitted,
        needs=("state",),
    ),
    Defect(
        id="window-start-processor-state",
        category="processor mismatch",
        source="vllm-project/vllm PR #44297; tyshiwo1/Accelerating-T2I-AR-with-SJD (top-k and guidance by committed "
        "ids)",
        mechanism="A mask that a token flips is read once from the committed tokens and used for the whole window.",
        conditions="a mask that depends on the tokens before; a drafted token that flips it",
        smallest=Smallest("switch-3x6", 1, draft="perturbed"),
        assemble=_read_at_the_start,
        needs=("state",),
    ),
    Defect(
        id="eos-inside-block-ignored",
        category="cache-rollback",
        source="huggingface/transformers issue #47912; LostRuins/koboldcpp issue #1276; "
        "openvinotoolkit/openvino.genai PR #1951",
        mechanism="Only the last token of a committed block is compared with the end of sequence; one inside is "
        "passed over.",
        conditions="an end-of-sequence token, accepted in a slot that is not the step's last",
        smallest=Smallest("eos-3x6", 1, draft="perturbed"),
        assemble=_eos_ignored,
        needs=("eos",),
    ),
)
