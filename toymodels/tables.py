"""Laws small enough to be written down: one row per prefix.

Prefixes are numbered level by level: the empty one is node 0, and prefix `s` followed by token `t` is node
`node(s) * vocab + 1 + t`. So a prefix of n tokens is node `offset(n) + code`, with offset(n) the number of shorter
prefixes and code its rank among those of its length, and one integer is the whole context.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.declared import few_sequences
from specverify.errors import BudgetError, InputError
from specverify.model import Model, check_laws


def prefixes(vocab: int, length: int) -> int:
    """The number of prefixes shorter than `length` tokens: the sum of vocab^n over n < length."""
    return sum(vocab**n for n in range(length))


def enumerable(model: Model) -> bool:
    """Whether a model has at most 65,536 complete sequences, so that its law can be written down in an instant."""
    return few_sequences(model.vocab, model.length)


@dataclass(frozen=True)
class Prefix:
    """The context of a `TableModel`: each row's prefix as a node; complete sequences share one node."""

    node: Int[Tensor, " batch"]


class TableModel:
    """A model given by its law after every prefix. Laws are one gather; nothing waits for the device.

    Past the end of the sequence the law is uniform.

    Args:
        name: how reports call it.
        table: Float[contexts, vocab], one law per prefix in the order above.
        length: positions of a sequence; contexts = `prefixes(vocab, length)`.
        eos: the id that ends a sequence early, or None.
        clusters: the partition of the vocabulary that the family defines, if it does.
        embedding: a place for each token, if there is one.

    Raises:
        InputError: the table has another number of rows, or a row is no law.
    """

    def __init__(
        self,
        name: str,
        table: Float[Tensor, "contexts vocab"],
        length: int,
        *,
        eos: int | None = None,
        clusters: tuple[tuple[int, ...], ...] = (),
        embedding: Float[Tensor, "vocab dim"] | None = None,
    ) -> None:
        check_laws(table, what=f"the table of {name!r}")
        vocab = table.shape[1]
        if length < 1 or table.shape[0] != prefixes(vocab, length):
            raise InputError(
                f"the table of {name!r} has {table.shape[0]} rows; {vocab} tokens and length {length} "
                f"make {prefixes(vocab, length)} prefixes, and each needs one row"
            )
        self.name, self.vocab, self.length, self.eos, self.clusters = name, vocab, length, eos, clusters
        self.embedding = embedding
        self.table, self.dtype, self.device = table, table.dtype, table.device
        self._rows = torch.cat([table, torch.full_like(table[:1], 1 / vocab)]).contiguous()

    def start(self, batch: int) -> Prefix:
        """The context of `batch` empty sequences."""
        return Prefix(torch.zeros(batch, dtype=torch.int64, device=self.device))

    def laws(self, context: Prefix, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """One forward pass: one gather."""
        nodes = [context.node]
        for tokens in draft.unbind(1):
            nodes.append(self._child(nodes[-1], tokens))
        index = torch.stack(nodes, 1)
        return self._rows.index_select(0, index.view(-1)).view(*index.shape, self.vocab)

    def advance(self, context: Prefix, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Prefix:
        """The context after the first `count` tokens of each row."""
        node = context.node
        for k, column in enumerate(tokens.unbind(1)):
            node = torch.where(count > k, self._child(node, column), node)
        return Prefix(node)

    def _child(self, node: Tensor, tokens: Tensor) -> Tensor:
        return torch.add(tokens, node, alpha=self.vocab).add_(1).clamp_(max=self.table.shape[0])


def tabulate(model: Model, *, budget: int = 1 << 22) -> TableModel:
    """The exact law of any small model, asked for over every prefix through its own `start`, `laws` and `advance`.

    Args:
        model: a model of any kind.
        budget: the largest number of probabilities to write down.

    Raises:
        BudgetError: the table would be larger.
    """
    vocab, length = model.vocab, model.length
    if prefixes(vocab, length) * vocab > budget:
        fitting = max((n for n in range(length) if prefixes(vocab, n) * vocab <= budget), default=0)
        raise BudgetError(
            f"a table of {model.name!r} would hold {prefixes(vocab, length) * vocab} probabilities (budget {budget}); "
            f"with {vocab} tokens a length of {fitting} fits"
        )
    context, levels = model.start(1), []
    for position in range(length):
        size = vocab**position
        levels.append(model.laws(context, torch.zeros(size, 0, dtype=torch.int64, device=model.device))[:, 0])
        if position + 1 < length:
            parents = torch.arange(size, device=model.device).repeat_interleave(vocab)
            tokens = torch.arange(vocab, device=model.device).repeat(size)
            context = model.advance(tree.rows(context, parents), tokens[:, None], torch.ones_like(tokens))
    parts = ((what, getattr(model, what, None)) for what in ("clusters", "embedding"))
    known = {what: value for what, value in parts if value is not None}
    return TableModel(model.name, torch.cat(levels), length, eos=model.eos, **known)
