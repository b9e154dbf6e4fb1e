"""The outcomes of a draw that is enumerated: those that are chosen, and those that wait to be followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from specverify import tree


@dataclass(frozen=True)
class Chosen:
    """The outcome of one draw, for every row.

    Attributes:
        kind: the draw's name.
        options: which of its outcomes.
        where: where it is really used, as it was first asked.
        given: what the chances of its outcomes follow from, likewise.
    """

    kind: str
    options: Int[Tensor, "batch slots"]
    where: Bool[Tensor, "batch ..."]
    given: Float[Tensor, "batch ..."]

    @property
    def shape(self) -> Any:
        """What outcomes of one draw, asked for in different calls, have in common."""
        return self.kind, self.options.shape[1:], self.where.shape[1:], self.given.shape[1:], self.given.dtype


@dataclass(frozen=True)
class Open:
    """A draw that went on with the first outcome of every row, while its others wait. See `opened`.

    Attributes:
        chosen: the first possible outcomes.
        probability: each slot's outcomes, independent across slots; zeros are impossible.
        chance: of the first outcomes of all slots together.
        others: how many outcomes wait in each row; as floats, since 64 coins have more than an integer holds.
    """

    chosen: Chosen
    probability: Float[Tensor, "batch slots options"]
    chance: Float[Tensor, " batch"]
    others: Float[Tensor, " batch"]

    def expand(self, index: Int[Tensor, " some"]) -> tuple[Int[Tensor, " out"], Chosen, Float[Tensor, " out"]]:
        """The outcomes that wait in some rows: the row that each belongs to, the outcome, its chance."""
        first, parent = self.chosen.options, index
        weight = torch.ones(len(index), dtype=torch.float64, device=index.device)
        options: list[Tensor] = []
        for slot in range(first.shape[1]):
            table = self.probability[:, slot].index_select(0, parent)
            row, option = table.nonzero(as_tuple=True)
            weight, parent = weight[row] * table[row, option], parent[row]
            options = [*(earlier[row] for earlier in options), option]
        chosen = torch.stack(options, 1)
        wait = (chosen != first.index_select(0, parent)).any(1).nonzero().squeeze(1)
        parent = parent[wait]
        where, given = (part.index_select(0, parent) for part in (self.chosen.where, self.chosen.given))
        return parent, Chosen(self.chosen.kind, chosen[wait], where, given), weight[wait]


def opened(
    kind: str,
    where: Bool[Tensor, "batch ..."],
    given: Float[Tensor, "batch ..."],
    probability: Float[Tensor, "batch slots options"],
) -> Open:
    """A draw as it is asked for first."""
    possible = probability > 0
    first = possible.to(torch.uint8).argmax(-1)
    chance = probability.gather(-1, first[..., None]).squeeze(-1).prod(-1)
    # A decoder may change later what it asked with.
    chosen = Chosen(kind, first, where.clone(), given.clone())
    return Open(chosen, probability, chance, possible.sum(-1).double().prod(-1) - 1)


@dataclass(frozen=True)
class Waiting:
    """Worlds that wait at an open draw.

    Attributes:
        before: what they come from, and the draw: a structure of rows.
        index: the rows that outcomes wait in.
        count: how many.
    """

    before: tuple[Any, Open]
    index: Int[Tensor, " some"]
    count: int


def waiting(before: Any, draw: Open, total: int, rows: int) -> list[Waiting]:
    """All that wait at a draw, in parts of about so many worlds, or of one row."""
    there: Shaped[Tensor, " some"] = (draw.others > 0).nonzero().squeeze(1)
    if total <= rows:
        return [Waiting((before, draw), there, total)]
    sums = draw.others[there].cumsum(0)
    _, sizes = (sums - 1).div(rows, rounding_mode="floor").unique_consecutive(return_counts=True)
    counts = sums[sizes.cumsum(0) - 1].diff(prepend=sums.new_zeros(1)).long().tolist()
    return [
        Waiting((before, draw), index, count) for index, count in zip(there.split(sizes.tolist()), counts, strict=True)
    ]


def followed(parts: list[Waiting]) -> Any:
    """Worlds that waited at one draw, ready to be followed: given, known, weight, chosen."""
    places, size = [], 0
    for part in parts:
        places.append(part.index + size if size else part.index)
        size += len(part.before[1].others)
    before, draw = tree.join([part.before for part in parts])
    parent, outcome, chance = draw.expand(torch.cat(places))
    given, known, weight, chosen = tree.rows(before, parent)
    return given, known, weight * chance, (*chosen, outcome)
