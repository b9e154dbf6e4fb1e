"""How an image is written in ids, and what its law is at each of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.integrations.attention import remark, saying_nothing
from specverify.integrations.pretrained import logits_by_kind
from specverify.integrations.prompts import PROMPTS, Prompts
from specverify.integrations.unprocessed import IMPOSSIBLE
from specverify.model import Model


@dataclass(frozen=True)
class Grammar:
    """How an image is written in ids.

    Attributes:
        image: how many ids images have.
        length: tokens of an image.
        width: tokens of a row, behind which there is a `row_end`; None if rows do not end.
        first: the id of image token 0.
    """

    image: int
    length: int
    width: int | None = None
    first: int = 4

    @property
    def row_end(self) -> int:
        """Ends a row."""
        return self.first + self.image

    @property
    def begin(self) -> int:
        """Begins an image: the last id of a prompt."""
        return self.row_end + 1

    @property
    def condition(self) -> int:
        """What the image is to show: the first of `PROMPTS` conditions, each of which turns ids in its own way."""
        return self.row_end + 2

    @property
    def conditions(self) -> range:
        """All of them."""
        return range(self.condition, self.unconditional)

    @property
    def unconditional(self) -> int:
        """No condition."""
        return self.condition + PROMPTS

    @property
    def vocab(self) -> int:
        """All ids."""
        return self.unconditional + 1

    @property
    def size(self) -> int:
        """Ids of an image, with those that end its rows."""
        return self.length + (self.length // self.width if self.width else 0)

    def ends_row(self, places: int) -> Bool[Tensor, " places"]:
        """Which of the places of an image end a row."""
        place = torch.arange(places)
        return place % (self.width + 1) == self.width if self.width else torch.zeros(places, dtype=torch.bool)

    def logits(
        self,
        toys: tuple[Model, ...],
        ids: Int[Tensor, "batch n"],
        kind: Int[Tensor, " batch"],
        number: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch n+1 vocab"]:
        """Logits of all ids at each place of an image, the one behind these included; behind what breaks the grammar,
        as drafts may, they say nothing.

        Args:
            toys: the laws, by kind.
            ids: of images.
            kind: of each row.
            number: of each row's condition.
        """
        ends = self.ends_row(ids.shape[1] + 1)
        within = (ids >= self.first) & (ids < self.row_end)
        known = within.where(~ends[:-1], ids == self.row_end).long().cumprod(1).bool()
        back = self.back(toys[0].eos).to(ids.device)[number]
        tokens = back.gather(1, (ids - self.first).where(within, 0))[:, ~ends[:-1]]
        laws = logits_by_kind(toys, tokens, kind)
        laws = laws.gather(2, back[:, None].expand(-1, laws.shape[1], -1))
        logits = laws.new_full((len(ids), len(ends), self.vocab), IMPOSSIBLE)
        logits[:, ends, self.row_end] = 0.0
        logits[:, ~ends, self.first : self.row_end] = laws[:, : int((~ends).sum())]
        known = torch.nn.functional.pad(known, (1, 0), value=True)
        return logits.where(known[..., None], saying_nothing(logits))

    def back(self, eos: int | None) -> Int[Tensor, "numbers image"]:
        """The token of each image id, behind each condition."""
        prompts = Prompts(self.image, eos)
        return torch.stack([prompts.turned(number).argsort() for number in range(PROMPTS)])

    def behind(
        self,
        toys: tuple[Model, ...],
        ids: Int[Tensor, "rows n"],
        length: Int[Tensor, " rows"],
        remarks: list[str],
    ) -> Float[Tensor, "rows n vocab"]:
        """Logits behind each id of a condition and an image; see `attention.Behind`. A mask may hide the condition."""
        first = ids[:, :1]
        bare = first == self.begin
        asked = (first >= self.condition) & (first < self.unconditional)
        begins = bare | asked | (first == self.unconditional)
        second = torch.nn.functional.pad(ids, (0, 1), value=self.begin)[:, 1:2]  # which may be yet to come
        begins &= bare | (second == self.begin) | (length <= 1)[:, None]
        if not bool((begins[:, 0] | (length <= 0)).any()):
            fed = ids[0, : int(length[0])].tolist()
            names = (
                f"a condition, {self.condition} to {self.unconditional}, the last of which is none, and {self.begin}, "
                "which begins an image"
            )
            remark(remarks, f"the ids began {fed}, where a toy's begin with {names}")
        shown = torch.nn.functional.pad(ids[:, 2:], (0, 1), value=self.first)[:, : ids.shape[1] - 1]
        kind, number = (~asked)[:, 0].long(), (first - self.condition).where(asked, 0)[:, 0]
        logits = self.logits(toys, ids[:, 1:].where(bare, shown), kind, number)
        later = torch.nn.functional.pad(logits[:, :-1], (0, 0, 1, 0))
        logits = logits.where(bare[..., None], later)
        return logits.where(begins[..., None], saying_nothing(logits))
