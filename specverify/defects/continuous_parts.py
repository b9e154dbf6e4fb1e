"""The wrong parts of `continuous.py`: couplings with one flaw each, and a target that is blind to its drafts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.claims import Claim, Lossless
from specverify.decoders.continuous.coupling import Coupled, TokenRule, split, trajectories
from specverify.decoders.protocol import ContinuousDecoder, Info, State
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Chain, ContinuousModel, Gaussian, Law
from specverify.model import Context
from specverify.rules import cspd
from specverify.rules.rejection import decide, log_ratio, thin
from specverify.rules.trajectory import Paths, align

_ENDLESS = 1000
"""Trials where a factor in the ratio may leave nothing to keep."""


@dataclass(frozen=True)
class Tempered:
    """The token rule with the exponents of both densities divided by temperature^2 in accepting."""

    temperature: float
    name: str = ""
    bias: float = 0.0

    def view(self, law: Any) -> Law:
        """See Coupling."""
        if not isinstance(law, Gaussian):
            raise InputError(
                f"the tempered ratio is one of Gaussians with independent coordinates, not a {type(law).__name__}"
            )
        return law

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        squares = (q.whiten(draft).square() - p.whiten(draft).square()).sum(-1)
        ratio = squares / (2 * self.temperature**2) + q.log_volume() - p.log_volume()
        kept = draws.bernoulli(ratio.clamp(max=0).exp(), where)
        rejected = where & ~kept
        found = thin(p, q, draws, rejected)
        return Coupled(torch.where(rejected[..., None], found.x.to(draft.dtype), draft), kept)


@dataclass(frozen=True)
class Capped:
    """The token rule, with the zero vector where 100 proposals were not enough."""

    name: str = ""
    bias: float = 0.0

    def view(self, law: Any) -> Law:
        """See Coupling."""
        return law  # type: ignore[no-any-return]

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        found = decide(p, q, draft, draws, where, cspd.RELEASED_TRIALS)
        value = found.x.where(found.resolved[..., None], 0.0)
        return Coupled(torch.where(where[..., None], value, draft), found.accepted)


@dataclass(frozen=True)
class Factor:
    """`LastRule`, with the ratio multiplied by a power of Sigma: 0 for the exact rule, -1 for the released one."""

    power: float
    name: str = ""
    bias: float = 0.0

    def view(self, law: Any) -> Law:
        """See Coupling."""
        return trajectories(law, self)

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        path = split(q, draft)
        aligned = align(p.chain, q.chain, path)
        factor = self.power * cspd.log_sigma(p.chain, q.chain, path, aligned)
        return _at_last_step(p.chain, q.chain, path, aligned, factor, draws, where)


@dataclass(frozen=True)
class Means:
    """Trajectories that end in the mean of their last transition, taken for those that end with its noise."""

    chain: Chain

    @property
    def dim(self) -> int:
        """Coordinates of a trajectory."""
        return (self.chain.steps + 1) * self.chain.dim

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch."""
        return self.chain.shape

    def log_prob(self, x: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """The density that they are taken to have."""
        return Paths(self.chain).log_prob(x)

    def check(self, what: str) -> None:
        """See Law."""
        self.chain.check(what)

    def sample(self, draws: Draws, where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape width"]:
        """See Law."""
        path = self.chain.path(draws, where)
        token = cspd.released_token(self.chain, path).where(where[..., None], 0.0)
        return torch.cat([token[..., None, :], path[..., 1:, :]], -2).flatten(-2)


@dataclass(frozen=True)
class WithoutNoise:
    """`LastRule` on trajectories that end in a mean; those that are rejected get a last step with noise."""

    name: str = ""
    bias: float = 0.0

    def view(self, law: Any) -> Law:
        """See Coupling."""
        return Means(trajectories(law, self).chain)

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        path = split(q, draft)
        aligned = align(p.chain, q.chain, path)
        none = torch.zeros(where.shape, dtype=torch.float64, device=where.device)
        return _at_last_step(p.chain, q.chain, path, aligned, none, draws, where)


@dataclass(frozen=True)
class Misnamed:
    """The token rule on laws rebuilt from log variances, with a standard deviation that is called a variance."""

    name: str = ""
    bias: float = 0.0

    def view(self, law: Any) -> Law:
        """See Coupling."""
        if not isinstance(law, Gaussian):
            raise InputError(f"variances by coordinate are those of Gaussian laws, not of {type(law).__name__}")
        log_variance = 2 * law.scale.log()
        variance = torch.exp(0.5 * log_variance)
        return Gaussian(law.mean, variance)

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        return TokenRule().couple(p, q, draft, draws, where)


@dataclass(frozen=True)
class Masked:
    """A target that does not see the drafts that it judges: in their place it sees the zero vector, a mask."""

    inner: ContinuousModel

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.inner, attribute)

    def laws(self, context: Context, draft: Float[Tensor, "batch w dim"]) -> Law:
        """The laws after masks."""
        return self.inner.laws(context, torch.zeros_like(draft))

    def advance(self, context: Context, tokens: Float[Tensor, "batch n dim"], count: Int[Tensor, " batch"]) -> Context:
        """As the inner model's, which may rely on having seen the tokens."""
        self.inner.laws(context, tokens[:, :-1])
        return self.inner.advance(context, tokens, count)


@dataclass(frozen=True)
class Blind:
    """A decoder that is shown a masked target."""

    decoder: ContinuousDecoder
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)

    @property
    def name(self) -> str:
        """The inner decoder's."""
        return self.decoder.name

    def init(self, model: ContinuousModel, batch: int, draws: Draws) -> State:
        """See Decoder."""
        return self.decoder.init(model, batch, draws)

    def step(self, state: State, model: ContinuousModel, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        return self.decoder.step(state, _masked(model), draws)


def _masked(model: Any) -> Any:
    return Masked(model)


def _at_last_step(
    p: Chain, q: Chain, path: Tensor, aligned: Tensor, factor: Tensor, draws: Draws, where: Tensor
) -> Coupled:
    """x_0 judged and replaced given both x_1, with a factor in the ratio."""
    mine, theirs = cspd.last(p, aligned), cspd.last(q, path)
    ratio = log_ratio(mine, theirs, path[..., 0, :]) + factor
    kept = draws.bernoulli(ratio.clamp(max=0).exp(), where)
    rejected = where & ~kept
    found = thin(mine, theirs, draws, rejected, _ENDLESS, factor)
    token = torch.where(rejected[..., None], found.x.to(path.dtype), path[..., 0, :])
    return Coupled(torch.cat([token[..., None, :], path[..., 1:, :]], -2).flatten(-2), kept)
