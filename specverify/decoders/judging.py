"""How the drafts of a window are judged: one by one from left to right, or the whole window at once.

Ids are judged by tables of probabilities: a `Judging` says when to keep a draft and from which law to replace it, a
`WindowJudging` looks at the whole window. Vectors are judged by densities: a `Coupling` settles each draft at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Law, Settled, at, choose, leading
from specverify.model import row_mask
from specverify.rules import token
from specverify.rules.rejection import check_limit, decide, failure_bound


@dataclass(frozen=True)
class Draft:
    """The drafts of one window.

    Attributes:
        token: slot k holds a draft for the k-th position after the committed ones: an id, or a vector, or the
            trajectory that led to a vector, which it begins with.
        law: the law q that each draft was drawn from, given all that was looked at before its slot is judged; None
            where no slot has one.
        passes: forward passes of the draft model that this took, per row.
        count: how many leading slots hold drafts from `law`; None for all. Behind them are placeholders: they are not
            judged, which is lossless whatever they are, and only the laws behind them depend on them.
    """

    token: Num[Tensor, "batch window *width"]
    law: Any
    passes: Int[Tensor, " batch"]
    count: Int[Tensor, " batch"] | None = None


@runtime_checkable
class Judging(Protocol):
    """How drafts of ids are judged: when to keep one, and what replaces the first that is not kept."""

    def accept(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """The probability to keep each draft."""

    def recover(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape vocab"]:
        """The law that replaces a rejected draft."""


@runtime_checkable
class WindowJudging(Protocol):
    """How a whole window is judged at once, where a draft's fate may depend on those behind it."""

    @property
    def name(self) -> str:
        """What a decoder that judges so is called, behind its drafting."""

    def verify(
        self,
        p: Float[Tensor, "batch window vocab"],
        draft: Draft,
        drafted: Int[Tensor, " batch"],
        draws: Draws,
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """How many of the first `drafted` drafts to keep, and the law that follows where these are not all."""


class Coupled(NamedTuple):
    """What became of drafts.

    Attributes:
        value: what stands in each one's place; a trajectory for couplings of trajectories, the token first.
        kept: whether its token is the draft's. False where none was judged.
    """

    value: Float[Tensor, "*shape width"]
    kept: Bool[Tensor, "*shape"]


@runtime_checkable
class Coupling(Protocol):
    """A coupling of the law p that a vector should have with its draft's law q: it takes x ~ q to y ~ p, often x.

    Attributes:
        name: what it adds to a decoder's name; empty for the token rule.
        bias: how far from p, in total variation, the law of one token can be; 0 for exact couplings.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def bias(self) -> float: ...  # noqa: D102

    def view(self, law: Any) -> Law:
        """The law of what is drafted and judged: `law` itself, or that of its trajectories.

        Raises:
            InputError: the coupling does not go with such a law.
        """

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """Judge each draft ~ q where asked; `p` and `q` are views. Elsewhere the draft stays, and is not `kept`."""


@dataclass(frozen=True)
class Limited:
    """What couplings that search for a replacement have in common.

    Args:
        limit: proposals for each rejected draft, None for as many as it takes.
    """

    limit: int | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        check_limit(self.limit)

    @property
    def bias(self) -> float:
        """See Coupling."""
        return 0.0 if self.limit is None else failure_bound(self.limit)

    def view(self, law: Any) -> Law:
        """The law itself."""
        return law  # type: ignore[no-any-return]


@dataclass(frozen=True)
class TokenRule(Limited):
    """Keep x with probability min(1, p(x) / q(x)), else draw from the residual (Leviathan et al., arXiv 2211.17192).

    Of vectors, the residual is searched for, and the limit holds: see `Limited`.
    """

    recovers_alike: ClassVar[bool] = True

    def __init__(self, limit: int | None = None, name: str = "") -> None:
        super().__init__(limit=limit, name=name)  # by place too, and rules made from this one may have fields first

    def accept(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """See Judging."""
        return token.accept_probability(p, q, draft)

    def recover(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape vocab"]:
        """See Judging."""
        return token.residual(p, q)

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        found = decide(p, q, draft, draws, where, self.limit)
        return Coupled(found.x.where(where[..., None], draft), found.accepted)


@dataclass(frozen=True)
class Match:
    """Sample-and-match: a token is drawn from p and emitted, and the draft is kept if it is that token.

    Also called sampled verification. Given the draft x, that is to keep it with probability p(x), and else to draw from
    p without x: exact, whatever x was drawn from. It keeps less than the token rule, and never asks for q.
    """

    name: str = "match"

    def accept(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """See Judging."""
        return token.at(p, draft)

    def recover(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape vocab"]:
        """See Judging."""
        return token.residual(p, one_hot(draft, p.shape[-1]).to(p.dtype))


@dataclass(frozen=True)
class Seen:
    """A model of vectors whose laws are seen as a coupling sees them."""

    inner: Any
    by: Coupling

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.inner, attribute)

    def laws(self, context: Any, draft: Float[Tensor, "batch w dim"]) -> Law:
        """The views of the model's laws."""
        return self.by.view(self.inner.laws(context, draft))


def seen(model: Any, judging: Any, tokens: Tensor) -> Any:
    """A model as its judge sees it; one of ids is seen as it is.

    Raises:
        InputError: for a way to judge tokens of the other kind.
    """
    if tokens.is_floating_point():
        if not _has(judging, "view", "couple"):
            raise InputError(f"{type(judging).__name__} judges no vectors, which takes a coupling of their densities")
        return Seen(model, judging)
    if not (_has(judging, "accept", "recover") or _has(judging, "verify")):
        raise InputError(f"{type(judging).__name__} judges no ids, which takes accept and recover, or verify")
    return model


def _has(judging: Any, *methods: str) -> bool:
    """As `isinstance` of a protocol, which takes longer in every step than judging does."""
    return all(hasattr(judging, method) for method in methods)


def shown(value: Tensor, tokens: Tensor) -> Tensor:
    """Of what is drafted, the token that a model is shown: of a trajectory its beginning. `tokens` are a state's."""
    return value[..., : tokens.shape[-1]] if tokens.is_floating_point() else value


def judge(
    judging: Any, laws: Any, draft: Draft, drafted: Int[Tensor, " batch"], draws: Draws
) -> tuple[Int[Tensor, " batch"], Any]:
    """How many of the first `drafted` drafts to keep, and the law of the token behind these.

    That is p where they are all kept; else what replaces the first that is not.
    """
    window = draft.token.shape[1]
    p = leading(laws, window)
    if isinstance(laws, Tensor):
        verify = judging.verify if _has(judging, "verify") else partial(left_to_right, judging)
        run, recovered = verify(p, draft, drafted, draws)
        return run, choose(run < drafted, recovered, at(laws, run))
    if draft.law is None:
        return drafted, at(laws, drafted)
    judged = row_mask(drafted, window)
    found = judging.couple(p, draft.law, draft.token, draws, judged)
    run = (found.kept & judged).long().cumprod(1).sum(1)
    return run, Settled(run < drafted, at(found.value, run.clamp(max=window - 1)), at(laws, run))


def left_to_right(
    judging: Judging,
    p: Float[Tensor, "batch window vocab"],
    draft: Draft,
    drafted: Int[Tensor, " batch"],
    draws: Draws,
) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
    """Judge token by token up to the first rejection; returns as `WindowJudging.verify`."""
    window = p.shape[1]
    run = draws.accept_run(judging.accept(p, draft.law, draft.token), row_mask(drafted, window))
    slot = run.clamp(max=window - 1)
    return run, judging.recover(at(p, slot), at(draft.law, slot), token.at(draft.token, slot))


def check_window(window: object) -> None:
    """Raise InputError for a window below 1."""
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise InputError(f"window {window!r}: it is the number of draft tokens per forward pass, at least 1")


def check_lossless(judging: object, drafting: object, name: str) -> None:
    """Raise InputError for a judging that is not lossless with these drafts."""
    if isinstance(judging, Coupling) and judging.bias > 0:
        raise InputError(
            f"{name} is not lossless: {type(judging).__name__} can move the law of each token by {judging.bias:.3g} in "
            "total variation; leave out its limit if it has one, or say what to hold it to, such as "
            "claim=Relaxed(tv=0.01)"
        )
    if isinstance(judging, WindowJudging) and getattr(drafting, "coupled", False):
        raise InputError(
            f"{name} is not lossless: the laws of coupled drafts tell what the drafts before them were, and judging by "
            "the window looks ahead at them; redraw drafts independently, or say what to hold it to, such as "
            "claim=Relaxed(tv=0.01)"
        )
