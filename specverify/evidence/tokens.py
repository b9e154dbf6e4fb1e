"""What the statistical checks on traces need to know of each emitted token, whatever the vocabulary.

A trace is a sequence of tokens together with the target's laws at each position, given the tokens before it. `reduce`
turns a block of it into five numbers for each token, so that laws over large vocabularies are seen once and dropped;
blocks of sequences are put together with `specverify.tree.join`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify import tree
from specverify.errors import InputError
from specverify.evidence.ids import CACHED, Groups
from specverify.model import Model, check_laws

# Inverse temperatures 1 - tilt at which `reduce` records the normaliser of p ** (1 - tilt).
TILTS = (-0.3, -0.1, -0.03, -0.01, -0.003, 0.003, 0.01, 0.03, 0.1, 0.3)
AT_ONCE = 1 << 27
"""Numbers of the laws that a model is asked for at once: half a gigabyte in single precision."""
CHOICE = 0.0079
"""The entropy from which a law is said to leave a choice, in nats: that of a coin that falls wrong once in a thousand.

A law that is all but certain must not count as one that was tested: too few exceptions are due to miss them.
"""


@dataclass(frozen=True)
class TokenStatistics:
    """Statistics of emitted tokens x under the target's laws p, in float64 on the CPU.

    Attributes:
        pit: randomised probability integral transform: F(x-) + U p(x), where F adds up the vocabulary by falling
            probability (ties by token id) and U is uniform. Where a position is not `open` it is U alone. Over all
            positions these are independent uniforms if the tokens are drawn from p, however sequences end.
        surprisal: -log p(x) in nats; 0 where the token is impossible (see `impossible`).
        entropy: the mean of the surprisal under p.
        variance: the variance of the surprisal under p.
        tilted: log sum p ** (1 - tilt) over the possible tokens, for each of `TILTS`.
        open: whether the position counts and its law left a choice.
        impossible: whether the position counts and p(x) = 0.
    """

    pit: Float[Tensor, "sequences length"]
    surprisal: Float[Tensor, "sequences length"]
    entropy: Float[Tensor, "sequences length"]
    variance: Float[Tensor, "sequences length"]
    tilted: Float[Tensor, "sequences length tilts"]
    open: Bool[Tensor, "sequences length"]
    impossible: Bool[Tensor, "sequences length"]

    @property
    def choice(self) -> Bool[Tensor, "sequences length"]:
        """Whether the position is open and its law not as good as certain: the tokens that a test can speak of."""
        return self.open & (self.entropy >= CHOICE)


def reduce(
    laws: Float[Tensor, "sequences length vocab"] | Float[np.ndarray, "sequences length vocab"],
    tokens: Int[Tensor, "rows positions"] | Int[np.ndarray, "rows positions"],
    generator: np.random.Generator,
    *,
    counted: Bool[Tensor, "sequences length"] | None = None,
) -> TokenStatistics:
    """Statistics of each token of a block of sequences, under the law that the target had there.

    Args:
        laws: p at each position given the tokens before it. Any floating dtype and device; renormalised in float64.
        tokens: the emitted tokens, one for each law.
        generator: of the uniforms U, independent of whatever drew the tokens.
        counted: positions that count, such as those up to the end of the sequence. It may depend on earlier tokens,
            never on the token at the position or on later ones, or the statistics lose their law.

    Raises:
        InputError: if shapes disagree, a law is not a probability table or a token lies outside the vocabulary.
    """
    table = torch.as_tensor(laws)
    index = torch.as_tensor(tokens).to(table.device, torch.int64)
    sequences, length, vocab = table.shape
    if tuple(index.shape) != (sequences, length):
        raise InputError(f"tokens have shape {tuple(index.shape)}, but the laws are for {(sequences, length)}")
    if index.numel() == 0:
        raise InputError("there are no tokens; give at least one sequence of at least one token")
    if int(index.min()) < 0 or int(index.max()) >= vocab:
        raise InputError(f"tokens hold {int(index.min())}..{int(index.max())}, outside 0..{vocab - 1}")
    uniforms = torch.from_numpy(generator.random((sequences, length)))
    # one position at a time: a float64 copy of every law at once would not fit for large vocabularies
    columns = [_column(table[:, t], index[:, t], uniforms[:, t]) for t in range(length)]
    pit, surprisal, entropy, variance, choice, impossible, *tilted = (
        torch.stack(parts, 1).cpu() for parts in zip(*columns, strict=True)
    )
    if counted is not None:
        choice, impossible = choice & counted.cpu(), impossible & counted.cpu()
    return TokenStatistics(
        pit=torch.where(choice, pit, uniforms),
        surprisal=surprisal,
        entropy=entropy,
        variance=variance,
        tilted=torch.stack(tilted, 2),
        open=choice,
        impossible=impossible,
    )


def by_id(
    statistics: TokenStatistics, below: Float[Tensor, "sequences length"], generator: np.random.Generator
) -> Float[np.ndarray, "sequences length"]:
    """Transforms with the vocabulary by id instead of by probability, uniform as `TokenStatistics.pit` is.

    Who draws by inversion goes through the ids in order, so that a number that is used twice shows there.

    Args:
        statistics: of the tokens.
        below: the mass of smaller ids.
        generator: of the uniform numbers that make them continuous.
    """
    mass = torch.where(statistics.impossible, 0.0, (-statistics.surprisal).exp()).numpy()
    uniform = generator.random(mass.shape)
    return np.where(statistics.open.numpy(), np.clip(below.numpy() + uniform * mass, 0, 1), uniform)


@torch.no_grad()
def traced(
    model: Model,
    tokens: Int[Tensor, "rows length"],
    batch: int,
    generator: np.random.Generator,
    groups: Groups | None = None,
) -> TokenStatistics:
    """Statistics of sequences under the laws that a model gives at each token.

    A forward pass for each batch, or several where its laws were more than `AT_ONCE` numbers.

    Args:
        model: the target; row i of a batch is its row i.
        tokens: sequences that were decoded in batches of this size.
        batch: rows that ran together.
        generator: see `reduce`.
        groups: of these tokens; what the laws give to each group of ids is added.
    """
    rows: list[TokenStatistics] = []
    for some in tokens.to(model.device).split(batch):
        context, places, before = model.start(len(some)), [], None
        for part in some.split(max(1, AT_ONCE // (len(some) * model.vocab)), 1):
            if before is not None:
                context = model.advance(context, before, torch.full_like(before[:, 0], before.shape[1]))
            laws = model.laws(context, part[:, :-1])
            places.append(reduce(laws, part, generator))
            if groups is not None:
                row, place = batch * len(rows), sum(each.pit.shape[1] for each in places[:-1])
                groups.add(laws, slice(row, row + len(part)), slice(place, place + part.shape[1]))
            before = part
        one = [torch.cat([getattr(place, field.name) for place in places], 1) for field in fields(TokenStatistics)]
        rows.append(TokenStatistics(*one))
    return tree.join(rows)


def _column(
    laws: Float[Tensor, "sequences vocab"], tokens: Int[Tensor, " sequences"], uniform: Float[Tensor, " sequences"]
) -> tuple[Tensor, ...]:
    check_laws(laws, what="a law of the trace")
    parts = [part.split(max(1, CACHED // laws.shape[1])) for part in (laws, tokens, uniform)]
    return tuple(torch.cat(some) for some in zip(*map(_part, *parts), strict=True))


def _part(laws: Tensor, tokens: Tensor, uniform: Tensor) -> tuple[Tensor, ...]:
    p = laws.double()
    p = p / p.sum(1, keepdim=True)
    chosen = p.gather(1, tokens[:, None])
    earlier = torch.arange(p.shape[1], device=p.device) < tokens[:, None]
    ahead = (p > chosen) | ((p == chosen) & earlier)
    pit = (p * ahead).sum(1) + uniform.to(p.device) * chosen[:, 0]
    surprise = torch.where(p > 0, -p.log(), 0.0)
    entropy = (p * surprise).sum(1)
    variance = (p * (surprise - entropy[:, None]) ** 2).sum(1)
    # p ** (1 - tilt) = p exp(tilt surprisal), summed over the possible tokens
    least, small = (0.003 * surprise).exp(), (0.01 * surprise).exp()
    thrice = small * small * small
    tenfold = thrice * thrice * thrice * small
    raised = (least, small, thrice, tenfold, tenfold * tenfold * tenfold)  # those of `TILTS` above 0
    tilted = [(p / each).sum(1).log() for each in reversed(raised)] + [(p * each).sum(1).log() for each in raised]
    return (
        pit.clamp(0, 1),
        surprise.gather(1, tokens[:, None])[:, 0],
        entropy,
        variance,
        (p > 0).sum(1) > 1,
        chosen[:, 0] == 0,
        *tilted,
    )
