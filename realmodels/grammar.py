"""Image tokens that are not codes: ends of rows, and what closes an image. Each has its places, whatever was before.

Ids of a model's own vocabulary, of which images use a part, are numbered anew: codes first, then the special tokens.
What cannot stand in an image is thus left out, and a law is one over what can.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.errors import InputError


@dataclass(frozen=True)
class Grammar:
    """Which tokens may stand where.

    Attributes:
        kind: of every position.
        allowed: True at the tokens that a kind of position takes.
    """

    kind: Int[Tensor, " length"]
    allowed: Bool[Tensor, "kinds vocab"]

    def mask(
        self, logits: Float[Tensor, "batch n vocab"], position: Int[Tensor, "batch n"]
    ) -> Float[Tensor, "batch n vocab"]:
        """Logits with those of tokens that may not stand there at -inf; behind the end as at the last position."""
        kind = self.kind[position.clamp(max=len(self.kind) - 1)]
        return logits.masked_fill(~self.allowed[kind], -torch.inf)

    def to(self, device: torch.device) -> Grammar:
        """On another device."""
        return Grammar(self.kind.to(device), self.allowed.to(device))


@dataclass(frozen=True)
class Layout:
    """An image as a sequence of ids of a transformer's vocabulary.

    Attributes:
        grid: rows and columns of codes.
        first: id of code 0.
        codes: how many there are; their ids follow each other.
        row_end: id behind every row, or None.
        suffix: ids behind the last row, in their order.
        before: codes in front of the first row, which are no part of the grid.
        last_row_end: whether a row end stands behind the last row, too; if not, the suffix follows it at once.
    """

    grid: tuple[int, int]
    first: int
    codes: int
    row_end: int | None = None
    suffix: tuple[int, ...] = ()
    before: int = 0
    last_row_end: bool = True

    def __post_init__(self) -> None:
        if not self.last_row_end and (self.row_end is None or not self.suffix):
            raise InputError("rows of which the last one has no end need a row_end, and a suffix in its place")
        if min(self.grid) < 1 or self.codes < 1 or min(self.first, self.before, *self.special) < 0:
            raise InputError(
                f"a grid of {self.grid[0]} x {self.grid[1]} with {self.codes} codes from id {self.first} on and the "
                f"special tokens {list(self.special)}: sizes are at least 1, ids at least 0"
            )
        if inside := [token for token in self.special if self.first <= token < self.first + self.codes]:
            raise InputError(
                f"the special token {inside[0]} is one of the codes {self.first}..{self.first + self.codes - 1}; "
                "correct row_end, suffix, first or codes"
            )

    @property
    def special(self) -> tuple[int, ...]:
        """Ids that are no codes, each once."""
        return tuple(dict.fromkeys([*([] if self.row_end is None else [self.row_end]), *self.suffix]))

    @property
    def ids(self) -> Int[Tensor, " vocab"]:
        """The transformer's id of every token: the codes, then `special`."""
        return torch.cat([torch.arange(self.first, self.first + self.codes), torch.tensor(self.special).long()])

    @property
    def columns(self) -> int:
        """Tokens of a row, with its end."""
        return self.grid[1] + (self.row_end is not None)

    @property
    def length(self) -> int:
        """Tokens of an image."""
        return self.before + self.grid[0] * self.columns + len(self.suffix) - (not self.last_row_end)

    def grammar(self) -> Grammar | None:
        """Which tokens may stand where; None if all of them may, everywhere."""
        if not self.special:
            return None
        kinds = {token: number for number, token in enumerate(self.special, start=1)}
        row = [0] * self.grid[1] + ([] if self.row_end is None else [kinds[self.row_end]])
        rows = row * self.grid[0] if self.last_row_end else (row * self.grid[0])[:-1]
        kind = torch.tensor([0] * self.before + rows + [kinds[token] for token in self.suffix])
        allowed = torch.zeros(1 + len(kinds), self.codes + len(kinds), dtype=torch.bool)
        allowed[0, : self.codes] = True
        for number in kinds.values():
            allowed[number, self.codes + number - 1] = True
        return Grammar(kind, allowed)

    def code_grid(self, tokens: Int[Tensor, "n length"]) -> Int[Tensor, "n rows columns"]:
        """The codes of images, without what is no code of the grid."""
        whole = tokens[:, self.before : self.before + self.grid[0] * self.columns]
        rows = whole.unflatten(1, (self.grid[0], self.columns))
        codes: Tensor = rows[:, :, : self.grid[1]]
        return codes
