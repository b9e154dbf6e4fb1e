"""Tokens under the laws that judged them: those of the very pass in which each token came.

In half precision the law of a position depends on the shape of the pass that it is read in, by more than the checks of
traces are to see. But a decoder that is right gives each token, given all before it, the law of the pass that judged
it, whatever that is: so against these laws every check is exact, in any precision and at any threshold. How far they
are from those of single tokens, which plain decoding draws from, is measured apart.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.decoders.protocol import Decoder, Info, State
from specverify.draws import Draws
from specverify.errors import ContractError
from specverify.evidence.ids import Groups
from specverify.evidence.tokens import TokenStatistics, reduce
from specverify.model import Context, Model

LAWS = 1 << 26
"""Numbers of the laws that are kept, to compare them with those of single tokens."""
ALONE = 8
"""Sequences of one condition that are read again beside no others."""
_REMEDY = "which law judged a token is known where a step reads one window in one pass; choose --dtype float32"


class Apart(NamedTuple):
    """Total variation between laws as they judged and those of single tokens.

    Attributes:
        mean, largest: over `laws` laws.
        laws: how many were compared.
        rows: of how many sequences.
    """

    mean: float
    largest: float
    laws: int
    rows: int

    def __str__(self) -> str:
        return (
            f"{self.mean:.2g} in total variation on average and {self.largest:.2g} at most, over {self.laws:,} laws of "
            f"{self.rows} sequences"
        )


@dataclass(frozen=True)
class _Numbered:
    """What a decoder carries, and which sequences its rows are."""

    row: Int[Tensor, " batch"]
    own: Any


class _Noting:
    """A model that keeps what its passes were shown, and their laws."""

    def __init__(self, model: Any) -> None:
        self.inner = model
        self.made: list[tuple[Tensor, Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """See Model."""
        laws: Tensor = self.inner.laws(context, draft)
        self.made.append((draft, laws))
        return laws


class AsJudged:
    """A decoder that does what another one does, and notes each token's statistics under the law that judged it.

    Args:
        decoder: one whose step is one pass over one window.
        model: its target.
        n: sequences that will be drawn, in whatever batches, one batch after the other.
        generator: see `reduce`.

    Attributes:
        groups: what came of each group of ids, under the same laws.

    Raises:
        ContractError: from a step of another kind, or one that commits a token behind others than it showed the model.
    """

    def __init__(self, decoder: Decoder, model: Model, n: int, generator: np.random.Generator) -> None:
        self.decoder, self.model, self.generator = decoder, model, generator
        self.name, self.claim = decoder.name, decoder.claim
        self._begun = 0
        self._found: list[tuple[Tensor, Tensor, TokenStatistics]] = []
        length, vocab = model.length, model.vocab
        self._every = -(-length * vocab // LAWS)
        places = -(-length // self._every)
        rows = min(n, max(1, LAWS // (places * vocab)))
        self._laws = torch.full((rows, places, vocab), torch.nan, dtype=model.dtype)
        self._n = n
        self.groups = Groups(torch.zeros(0, length, dtype=torch.int64), vocab)

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        state = self.decoder.init(model, batch, draws)
        row = torch.arange(self._begun, self._begun + batch, device=state.length.device)
        self._laws = self._laws[: batch if self._begun == 0 else None]  # rows of one batch have conditions of their own
        self._begun += batch
        return replace(state, drafting=_Numbered(row, state.drafting))

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        row, noting = state.drafting.row, _Noting(model)
        after, info = self.decoder.step(replace(state, drafting=state.drafting.own), noting, draws)
        if len(noting.made) != 1 or len(noting.made[0][1]) != len(row):
            raise ContractError(f"{self.name} called the model {len(noting.made)} times in a step: {_REMEDY}")
        self._note(row, state, after, *noting.made[0])
        return replace(after, drafting=_Numbered(row, after.drafting)), info

    def _note(self, row: Tensor, before: State, after: State, shown: Tensor, laws: Tensor) -> None:
        count = after.length - before.length
        slot = torch.arange(int(count.max()), device=count.device)
        place = before.length[:, None] + slot
        came = after.tokens.gather(1, place.clamp(max=after.tokens.shape[1] - 1))
        if int(count.max()) > laws.shape[1]:
            raise ContractError(f"{self.name} committed {int(count.max())} tokens of {laws.shape[1]} laws: {_REMEDY}")
        drafts = shown[:, : max(len(slot) - 1, 0)]
        if bool(((drafts != came[:, : drafts.shape[1]]) & (slot[1:] < count[:, None])).any()):
            raise ContractError(f"{self.name} committed tokens behind others than it showed the model: {_REMEDY}")
        here, at = (slot < count[:, None]).nonzero(as_tuple=True)
        where, of = place[here, at], row[here]
        law, token = laws[here, at][:, None], came[here, at][:, None]
        self._found.append((of.cpu(), where.cpu(), reduce(law, token, self.generator)))
        groups = Groups(after.tokens, laws.shape[-1])
        groups.add_at(law[:, 0], here.cpu(), where.cpu())
        self.groups.join(groups)
        kept = (of < len(self._laws)) & (where % self._every == 0)
        self._laws[of[kept].cpu(), where[kept].cpu() // self._every] = law[kept, 0].to(self._laws)

    @property
    def kept(self) -> int:
        """Sequences of whose laws some are kept, all of the first batch."""
        return len(self._laws)

    def statistics(self) -> TokenStatistics:
        """Of all sequences; what lies behind an end leaves no choice."""
        shape = self._n, self.model.length
        rows, places, statistics = zip(*self._found, strict=True)
        of, where, joined = torch.cat(rows), torch.cat(places), tree.join(list(statistics))
        whole: dict[str, Tensor] = {}
        for field in fields(TokenStatistics):
            each = getattr(joined, field.name)[:, 0]
            whole[field.name] = each.new_zeros(*shape, *each.shape[1:])
            if field.name == "pit":
                whole["pit"] = torch.from_numpy(self.generator.random(shape))
            whole[field.name][of, where] = each
        return TokenStatistics(**whole)

    @torch.no_grad()
    def apart(
        self, tokens: Int[Tensor, "rows length"], alone: Model | None = None, number: int = 0, each: int = 1
    ) -> Apart:
        """Read the first sequences again, one token per pass, and compare.

        Args:
            tokens: what was drawn.
            alone: by which the sequences `number`, `number + each`, ... are read, not beside others; at most 8.
        """
        model, rows, length = alone or self.model, torch.arange(number, len(self._laws), each), self.model.length
        rows = rows if alone is None else rows[:ALONE]
        mine, kept = tokens[rows].to(model.device), self._laws[rows]
        context, one = model.start(len(rows)), torch.ones_like(mine[:, 0])
        found = []
        for place in range(length):
            law = model.laws(context, mine[:, :0])[:, 0]
            if place % self._every == 0:
                found.append((law.cpu().double() - kept[:, place // self._every].double()).abs().sum(-1) / 2)
            context = model.advance(context, mine[:, place : place + 1], one)
        laws = torch.stack(found, 1)
        laws = laws[~laws.isnan()]  # behind an end nothing is judged
        return Apart(float(laws.mean()), float(laws.max()), len(laws), len(rows))
