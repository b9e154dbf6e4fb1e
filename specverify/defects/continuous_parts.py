"""The wrong parts of `continuous.py`: judges of drafts with one flaw each, and a target that is blind to its drafts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.claims import Claim, Lossless
from specverify.decoders.continuous.coupling import trajectories
from specverify.decoders.continuous.cspd import Surrogate
from specverify.decoders.judging import Coupled
from specverify.decoders.protocol import Decoder, Info, State
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Chain, ContinuousModel, Gaussian, Law
from specverify.model import Context
from specverify.rules.cspd import Criterion, LastStep, released_token
from specverify.rules.rejection import Decision
from specverify.rules.trajectory import Paths

EXACT = Criterion(limit=None)
"""The token rule, on laws that have no steps before."""


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
class OnTokens:
    """The token rule; with departures of CSpD's criterion, on tokens themselves."""

    criterion: Criterion = EXACT

    @property
    def limit(self) -> int | None:
        """See Judging."""
        return self.criterion.limit

    def view(self, law: Any) -> Law:
        """See Judging."""
        if self.criterion.temperature != 1 and not isinstance(law, Gaussian):
            raise InputError(
                f"the tempered ratio is one of Gaussians with independent coordinates, not a {type(law).__name__}"
            )
        return law  # type: ignore[no-any-return]

    def log_ratio(self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """See Judging."""
        return self.criterion.log_ratio(LastStep(p, q, draft))

    def decide(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Decision:
        """See Judging."""
        return self.criterion.decide(LastStep(p, q, draft), draws, where)


@dataclass(frozen=True)
class OnLastSteps:
    """`LastRule`, with departures of CSpD's criterion: at Sigma's power 0 there is none."""

    criterion: Criterion = Criterion(power=0.0)  # noqa: RUF009  (frozen)

    @property
    def limit(self) -> int | None:
        """See Judging."""
        return self.criterion.limit

    def view(self, law: Any) -> Law:
        """See Judging."""
        return trajectories(law, self)

    def log_ratio(self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """See Judging."""
        return self.criterion.log_ratio(Surrogate().last_step(p, q, draft))

    def decide(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Decision:
        """See Judging; of the trajectory only the token is replaced."""
        found = self.criterion.decide(Surrogate().last_step(p, q, draft), draws, where)
        return found._replace(x=torch.cat([found.x, draft[..., p.chain.dim :]], -1))


@dataclass(frozen=True)
class Near:
    """A value is drawn from p, and the draft kept wherever it lies within a radius of that, without a coin."""

    radius: float

    @property
    def limit(self) -> int | None:
        """See Judging."""
        return None

    def view(self, law: Any) -> Law:
        """See Judging."""
        return law  # type: ignore[no-any-return]

    def log_ratio(self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape"]:
        """See Judging. Nothing is compared with it here."""
        return p.log_prob(draft) - q.log_prob(draft)  # type: ignore[no-any-return]

    def decide(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Decision:
        """See Judging."""
        drawn = p.sample(draws, where)
        kept = where & ((drawn - draft).square().sum(-1).sqrt() < self.radius)
        x = torch.where(kept[..., None], draft, drawn).where(where[..., None], 0.0)
        return Decision(x, kept, where.long(), torch.ones_like(where), 0.0)


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
        token = released_token(self.chain, path).where(where[..., None], 0.0)
        return torch.cat([token[..., None, :], path[..., 1:, :]], -2).flatten(-2)


@dataclass(frozen=True)
class WithoutNoise(OnLastSteps):
    """`LastRule` on trajectories that end in a mean; those that are rejected get a last step with noise."""

    def view(self, law: Any) -> Law:
        """See Judging."""
        return Means(trajectories(law, self).chain)


@dataclass(frozen=True)
class Misnamed(OnTokens):
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
