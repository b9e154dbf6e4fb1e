"""What toys are asked by: prompts of several ids, of several lengths, from which their laws follow.

A transformer's law follows from all of a prompt. A loop that feeds no more than its last id, that goes on from what it
kept of another prompt, or that reads one row's prompt for all, has another law there; behind one prompt of one id it
would look right. So there are a few, the first two of one length and the others shorter, which all end alike, and rows
get them in turn. The first two hold tokens of the toy, too: what a loop copies from there is a draft as any other.
Behind the first one, ids are a toy's tokens. Behind the others they are turned by some places, but
for an end, so that prompts have laws of their own, and all are one to whoever turns them back.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

PROMPTS = 4
_BESIDE = (0, 2, 1, 3)
"""An order in which prompts beside each other are of two lengths."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of a toy.

    Attributes:
        vocab: of the toy, whose tokens are the first ids.
        eos: its end, if any.
        kinds: of ids that begin a prompt: behind each, laws are another model's.
    """

    vocab: int
    eos: int | None
    kinds: int = 1

    @property
    def ids(self) -> int:
        """Those of the toy, and those that prompts are made of."""
        return self.vocab + self.kinds + PROMPTS

    def size(self, number: int) -> int:
        """Ids of a prompt."""
        return len(self.of(number))

    def of(self, number: int, kind: int = 0) -> list[int]:
        """A prompt."""
        first = self.vocab + self.kinds
        if number > 1:
            return [self.vocab + kind, *range(first + number, self.ids)]
        return [self.vocab + kind, first + number, *_free(self.vocab, self.eos)[:2], self.ids - 1]

    def padded(
        self, numbers: Sequence[int], pad: int, kind: int = 0
    ) -> tuple[Int[Tensor, "rows n"], Int[Tensor, "rows n"]]:
        """Prompts beside each other, padded in front, and their attention mask."""
        rows = [self.of(number, kind) for number in numbers]
        longest = max(map(len, rows))
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
        return ids, torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])

    def begins(self, ids: Int[Tensor, "rows n"], length: Int[Tensor, " rows"], number: int) -> Bool[Tensor, " rows"]:
        """Which rows begin with a prompt, as far as they go."""
        first = ids[:, 0] - self.vocab
        due = torch.tensor(self.of(number)[1 : ids.shape[1]], dtype=torch.int64, device=ids.device)
        unread = torch.arange(1, 1 + len(due), device=ids.device) >= length[:, None]
        return (first >= 0) & (first < self.kinds) & ((ids[:, 1 : 1 + len(due)] == due) | unread).all(1)

    def turned(self, number: int) -> Int[Tensor, " vocab"]:
        """The id of each token behind a prompt."""
        return _turned(self.vocab, self.eos, number)

    def back(self, ids: Int[Tensor, "*shape"], number: int) -> Int[Tensor, "*shape"]:
        """The tokens of ids behind a prompt; of what is none, itself."""
        if number == 0:
            return ids
        tokens = self.turned(number).argsort().to(ids.device)
        inside = (ids >= 0) & (ids < self.vocab)
        return tokens[ids.where(inside, 0)].where(inside, ids)


def in_turn(call: int, rows: int) -> list[int]:
    """The numbers of the prompts of a call's rows: others in the next call.

    Args:
        call: how many were before.
        rows: of this one.
    """
    return [each % PROMPTS if rows == 1 else _BESIDE[each % PROMPTS] for each in range(call, call + rows)]


@functools.cache
def _turned(vocab: int, eos: int | None, number: int) -> Int[Tensor, " vocab"]:
    free = _free(vocab, eos)
    table = torch.arange(vocab)
    by = (0, 1, -1, len(free) // 2)[number]  # prompts that come one after the other have laws of their own
    table[free] = torch.tensor([free[(place + by) % len(free)] for place in range(len(free))])
    return table


def _free(vocab: int, eos: int | None) -> list[int]:
    """Tokens that end nothing."""
    return [token for token in range(vocab) if token != eos]
