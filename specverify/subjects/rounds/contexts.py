"""The contexts that a kernel is tried in: small trees of laws, each with its draft laws, all judged in one batch.

A context is a prefix of some sequence; its tree holds the target law p and the draft law q of every continuation. All
laws are ratios of small hashed integers, so that a name fixes them for ever, and each node has its own: a law taken
from another row, slot or history shows. What each puts at stake is in `kinds.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.draws import Draws
from specverify.errors import InputError
from specverify.model import row_mask
from specverify.subjects.rounds.kernel import Round, process
from specverify.subjects.rounds.kinds import KINDS, Laws

CELLS = 1024
"""Most sequences that are told apart in one context."""


@dataclass(frozen=True)
class Contexts:
    """Trees of laws. Nodes are numbered as in `toymodels.tables`: the root is 0, token v of node n leads to nV + 1 + v.

    Attributes:
        names: one for each context.
        depth: positions of the tree; beyond them laws are uniform, and nothing is looked at.
        p, raw, q: the laws at each node; the last node stands for all that lie beyond the tree.
        temperature, top_k: what makes p from raw.
        ids: the vocabulary's id of each token.
        vocab: its size.
    """

    names: tuple[str, ...]
    depth: int
    p: Float[Tensor, "contexts nodes tokens"]
    raw: Float[Tensor, "contexts nodes tokens"]
    q: Float[Tensor, "contexts nodes tokens"]
    temperature: Float[Tensor, " contexts"]
    top_k: Int[Tensor, " contexts"]
    ids: Int[Tensor, " tokens"]
    vocab: int

    @property
    def tokens(self) -> int:
        """Tokens of the tree."""
        return self.p.shape[2]

    def child(self, node: Int[Tensor, " rows"], token: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
        """The node that a token leads to."""
        return (node * self.tokens + 1 + token).clamp(max=self.p.shape[1] - 1)

    def law(
        self, table: Float[Tensor, "contexts nodes tokens"], context: Int[Tensor, "*rows"], node: Int[Tensor, "*rows"]
    ) -> Float[Tensor, "*rows tokens"]:
        """Rows of a table of laws."""
        flat = (context * table.shape[1] + node).reshape(-1)
        return table.flatten(0, 1).index_select(0, flat).reshape(*context.shape, -1)

    def joint(self) -> Float[Tensor, "contexts sequences"]:
        """The target law of the whole sequence, in float64; the last position varies fastest."""
        law = torch.ones(len(self.names), 1, dtype=torch.float64)
        first = 0
        for position in range(self.depth):
            size = self.tokens**position
            step = self.p[:, first : first + size].double()
            law = (law[..., None] * (step / step.sum(-1, keepdim=True))).flatten(1)
            first += size
        return law


def vocabulary(positions: int) -> int:
    """The largest vocabulary, up to 4, with at most `CELLS` sequences of so many positions.

    Raises:
        InputError: if not even 2 tokens fit.
    """
    fitting = [vocab for vocab in (4, 3, 2) if vocab**positions <= CELLS]
    if not fitting:
        raise InputError(f"blocks of {positions} tokens are too long to be told apart; use a gamma of at most 9")
    return fitting[0]


@lru_cache(maxsize=64)
def build(names: tuple[str, ...], tokens: int, depth: int, *, width: int | None = None, key: str = "round") -> Contexts:
    """The named contexts.

    Args:
        names: from the list above.
        tokens: tokens of the trees.
        depth: positions of the trees.
        width: size of the vocabulary that the tokens are spread over, its ends included; all of them are used if None.
        key: another key, other laws.
    """
    nodes = sum(tokens**position for position in range(depth))
    raw, q, warps = [], [], []
    for name in names:
        make, t, k = KINDS[name]
        target, draft = make(Laws(f"{key}: {name}", nodes, tokens))
        raw.append(target)
        q.append(draft)
        warps.append((t, k))
    temperature = torch.tensor([t for t, _ in warps], dtype=torch.float64)
    top_k = torch.tensor([k or tokens for _, k in warps])
    raws = torch.stack(raw)
    uniform = torch.full((len(names), 1, tokens), 1 / tokens, dtype=torch.float64)
    p = torch.cat([process(raws, temperature, top_k), uniform], 1)
    raws, qs = torch.cat([raws, uniform], 1), torch.cat([torch.stack(q), uniform], 1)
    ids = torch.arange(tokens)
    if width is not None:
        # Ends, the last power of two below, where kernels cut a vocabulary into tiles, and one between.
        ids = torch.tensor([0, width - 1, 1 << (width - 1).bit_length() - 1, width // 3][:tokens]).sort().values
    return Contexts(names, depth, p.float(), raws.float(), qs.float(), temperature.float(), top_k, ids, width or tokens)


def deal(
    contexts: Contexts,
    context: Int[Tensor, " rows"],
    node: Int[Tensor, " rows"],
    drafts: Int[Tensor, "rows gamma"],
    lengths: Int[Tensor, " rows"],
    *,
    certain: bool,
) -> tuple[Round, Int[Tensor, "rows slots"]]:
    """The round that judges these drafts at these nodes, and the nodes along the drafts.

    Slots beyond a row's length hold a law that is certain of the token there, under which any kernel that looks at them
    accepts it.

    Args:
        certain: leave q out.
    """
    gamma = drafts.shape[1]
    path = [node]
    for token in drafts.unbind(1):
        path.append(contexts.child(path[-1], token))
    nodes = torch.stack(path, 1)
    rows = context[:, None].expand_as(nodes)
    padding = one_hot(torch.cat([drafts, drafts[:, -1:]], 1), contexts.tokens).float()
    used, targets = row_mask(lengths, gamma)[..., None], row_mask(lengths + 1, gamma + 1)[..., None]

    def laws(table: Tensor, slots: int, mask: Bool[Tensor, "rows slots 1"]) -> Tensor:
        return _spread(
            torch.where(mask, contexts.law(table, rows[:, :slots], nodes[:, :slots]), padding[:, :slots]), contexts
        )

    p = laws(contexts.p, gamma + 1, targets)
    warped = bool((contexts.temperature != 1).any() or (contexts.top_k < contexts.tokens).any())
    given = Round(
        draft=contexts.ids[drafts],
        lengths=lengths,
        q=None if certain else laws(contexts.q, gamma, used),
        p=p,
        raw=laws(contexts.raw, gamma + 1, targets) if warped else p.clone(),
        temperature=contexts.temperature[context],
        top_k=contexts.top_k[context],
    )
    return given, nodes


def propose(
    contexts: Contexts,
    context: Int[Tensor, " rows"],
    node: Int[Tensor, " rows"],
    room: Int[Tensor, " rows"],
    gamma: int,
    fewest: int,
    draws: Draws,
) -> tuple[Int[Tensor, "rows gamma"], Int[Tensor, " rows"]]:
    """Drafts drawn from q one after the other, and how many of them each row gets: half of the rows, all they can."""
    everywhere = torch.ones_like(node, dtype=torch.bool)
    drafts = []
    for _ in range(gamma):
        drafts.append(draws.categorical(contexts.law(contexts.q, context, node), everywhere))
        node = contexts.child(node, drafts[-1])
    most = room.clamp(max=gamma)[:, None]
    length = torch.arange(gamma + 1)
    weights = ((length >= fewest) & (length < most)).float()
    weights = weights + (length == most) * weights.sum(1, keepdim=True).clamp(min=1)
    return torch.stack(drafts, 1), draws.categorical(weights, everywhere)


def _spread(laws: Float[Tensor, "rows slots tokens"], contexts: Contexts) -> Float[Tensor, "rows slots vocab"]:
    if contexts.vocab == contexts.tokens:
        return laws
    return laws.new_zeros(*laws.shape[:2], contexts.vocab).index_copy_(2, contexts.ids, laws)
