"""The wrong parts of `continuous.py`: judges of drafts with one flaw each, and a target that is blind to its drafts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.claims import Claim, Lossless
from specverify.decoders.continuous.coupling import split, trajectories
from specverify.decoders.judging import Coupled
from specverify.decoders.protocol import Decoder, Info, State
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Chain, ContinuousModel, Gaussian, Law
from specverify.model import Context
from specverify.rules import cspd
from specverify.rules.rejection import Decision, decide, log_ratio, thin
from specverify.rules.trajectory import Paths, align

_ENDLESS = 1000
"""Trials where a factor in the ratio may leave nothing to keep."""


@runtime_checkable
class Judging(Protocol):
    """What drafts are judged by, open to the bounds of acceptance and rejection; a coupling by way of `Judged`.

    Attributes:
        limit: proposals for a rejected draft, None for as many as it takes.
    """

    @property
    def limit(self) -> int | None: ...  # noqa: D102

    def view(self, law: Any) -> Law:
        """See Coupling."""

    def log_ratio(self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """What it takes for the log of p / q, of laws as it views them."""

    def decide(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Decision:
        """What became of each draft, and what that took."""


@dataclass(frozen=True)
class Judged:
    """The coupling of a `Judging`."""

    by: Judging
    name: str = ""
    bias: float = 0.0

    def view(self, law: Any) -> Law:
        """See Coupling."""
        return self.by.view(law)

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        found = self.by.decide(p, q, draft, draws, where)
        return Coupled(found.x.where(where[..., None], draft), found.accepted)


@dataclass(frozen=True)
class Exact:
    """The token rule, nothing wrong with it."""

    limit: None = None

    def view(self, law: Any) -> Law:
        """See Judging."""
        return law  # type: ignore[no-any-return]

    def log_ratio(self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """See Judging."""
        return log_ratio(p, q, draft)

    def decide(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Decision:
        """See Judging."""
        return decide(p, q, draft, draws, where)


@dataclass(frozen=True)
class Tempered:
    """The token rule with the exponents of both densities divided by temperature^2 in accepting."""

    temperature: float
    limit: None = None

    def view(self, law: Any) -> Law:
        """See Judging."""
        if not isinstance(law, Gaussian):
            raise InputError(
                f"the tempered ratio is one of Gaussians with independent coordinates, not a {type(law).__name__}"
            )
        return law

    def log_ratio(self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """See Judging."""
        squares: Tensor = (q.whiten(draft).square() - p.whiten(draft).square()).sum(-1)
        found: Tensor = squares / (2 * self.temperature**2) + q.log_volume() - p.log_volume()
        return found

    def decide(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Decision:
        """See Judging."""
        kept = draws.bernoulli(self.log_ratio(p, q, draft).clamp(max=0).exp(), where)
        found = thin(p, q, draws, where & ~kept)
        token = torch.where(kept[..., None], draft, found.x.to(draft.dtype))
        return Decision(token, kept, found.trials, found.resolved, found.bias)


@dataclass(frozen=True)
class Capped:
    """The token rule, with the zero vector where 100 proposals were not enough."""

    limit: int = cspd.RELEASED_TRIALS

    def view(self, law: Any) -> Law:
        """See Judging."""
        return law  # type: ignore[no-any-return]

    def log_ratio(self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """See Judging."""
        return log_ratio(p, q, draft)

    def decide(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Decision:
        """See Judging."""
        found = decide(p, q, draft, draws, where, self.limit)
        return found._replace(x=found.x.where(found.resolved[..., None], 0.0))


@dataclass(frozen=True)
class Factor:
    """`LastRule`, with the ratio multiplied by a power of Sigma: 0 for the exact rule, -1 for the released one."""

    power: float
    limit: int = _ENDLESS

    def view(self, law: Any) -> Law:
        """See Judging."""
        return trajectories(law, self)

    def log_ratio(self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """See Judging."""
        path, aligned, factor = self._aligned(p, q, draft)
        return _last_ratio(p.chain, q.chain, path, aligned) + factor

    def decide(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Decision:
        """See Judging."""
        return _at_last_step(p.chain, q.chain, *self._aligned(p, q, draft), draws, where)

    def _aligned(self, p: Any, q: Any, draft: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The draft's trajectory, the target's from its noise, and the log of the factor."""
        path = split(q, draft)
        aligned = align(p.chain, q.chain, path)
        return path, aligned, self.power * cspd.log_sigma(p.chain, q.chain, path, aligned)


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

    limit: int = _ENDLESS

    def view(self, law: Any) -> Law:
        """See Judging."""
        return Means(trajectories(law, self).chain)

    def log_ratio(self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """See Judging."""
        return Factor(0.0).log_ratio(p, q, draft)

    def decide(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Decision:
        """See Judging."""
        return Factor(0.0).decide(p, q, draft, draws, where)


@dataclass(frozen=True)
class Misnamed(Exact):
    """The token rule on laws rebuilt from log variances, with a standard deviation that is called a variance."""

    def view(self, law: Any) -> Law:
        """See Judging."""
        if not isinstance(law, Gaussian):
            raise InputError(f"variances by coordinate are those of Gaussian laws, not of {type(law).__name__}")
        log_variance = 2 * law.scale.log()
        variance = torch.exp(0.5 * log_variance)
        return Gaussian(law.mean, variance)


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

    decoder: Decoder
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


def _last_ratio(p: Chain, q: Chain, path: Tensor, aligned: Tensor) -> Tensor:
    return log_ratio(cspd.last(p, aligned), cspd.last(q, path), path[..., 0, :])


def _at_last_step(
    p: Chain, q: Chain, path: Tensor, aligned: Tensor, factor: Tensor, draws: Draws, where: Tensor
) -> Decision:
    """x_0 judged and replaced given both x_1, with a factor in the ratio."""
    kept = draws.bernoulli((_last_ratio(p, q, path, aligned) + factor).clamp(max=0).exp(), where)
    found = thin(cspd.last(p, aligned), cspd.last(q, path), draws, where & ~kept, _ENDLESS, factor)
    token = torch.where(kept[..., None], path[..., 0, :], found.x.to(path.dtype))
    walked = torch.cat([token[..., None, :], path[..., 1:, :]], -2).flatten(-2)
    return Decision(walked, kept, found.trials, found.resolved, found.bias)
