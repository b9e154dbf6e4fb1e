"""A verification kernel: what one round gives it, what it gives back, and where both are checked.

One round judges one batch of drafts. Rows are ragged: row b has `lengths[b]` drafts, from 0 to gamma. Slots beyond a
row's length hold ids and laws that are valid but mean nothing; a kernel must not look at them. The row's *bonus* law is
`p[b, lengths[b]]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from specverify import tree
from specverify.model import row_mask
from specverify.verdict import Kind, Verdict

NONE = -1
"""Where no token was emitted."""


@dataclass(frozen=True)
class Round:
    """One batch of drafts to be verified.

    Attributes:
        draft: slot k holds the draft for the k-th next token.
        lengths: how many drafts each row has.
        q: the law that each draft was drawn from; None if the kernel is to take drafts as certain (one-hot).
        p: the target law at each slot, given the drafts before it, after all processors; one-hot in greedy rows.
        raw: the same before temperature and top-k, for conventions in which the kernel itself applies them.
        temperature: what makes p from `raw`; 0 in greedy rows.
        top_k: how many tokens of `raw` p keeps.
    """

    draft: Int[Tensor, "batch gamma"]
    lengths: Int[Tensor, " batch"]
    q: Float[Tensor, "batch gamma vocab"] | None
    p: Float[Tensor, "batch slots vocab"]
    raw: Float[Tensor, "batch slots vocab"]
    temperature: Float[Tensor, " batch"]
    top_k: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Outcome:
    """What a kernel made of a round.

    Attributes:
        tokens: the emitted tokens of each row, then `NONE`.
        accepted: how many of them are drafts that were kept; at most one more follows, recovered or bonus.
        passed: how many drafts it says would have passed on their own, wherever the first was rejected; None if its
            convention has no such output.
    """

    tokens: Int[Tensor, "batch slots"]
    accepted: Int[Tensor, " batch"]
    passed: Int[Tensor, " batch"] | None = None


@dataclass(frozen=True)
class Kernel:
    """A kernel behind its calling convention; made by the functions of `conventions.py`.

    Attributes:
        name: how reports call it.
        verify: judges a round, with coins from a generator on the CPU.
        fewest: the fewest drafts that a row may have.
        certain: whether q may be None.
        with_coins: judges a round with given coins, Float[batch, gamma] for the drafts and Float[batch] for the
            recovered or bonus token; None if the kernel draws its own.
        batch: which batches the function sees: "ragged" ones, only rows with "equal" numbers of drafts, or a "single"
            row at a time.
        reports: whether outcomes say how many drafts `passed`.
    """

    name: str
    verify: Callable[[Round, torch.Generator], Outcome]
    fewest: int = 0
    certain: bool = True
    with_coins: Callable[[Round, Tensor, Tensor], Outcome] | None = None
    batch: Literal["ragged", "equal", "single"] = "ragged"
    reports: bool = False


class ShownRow(TypedDict):
    """One row of a round with what was made of it, as plain data.

    Attributes:
        draft, length, q, p, temperature, top_k: as it was given.
        accepted, tokens: as it came.
        coins, pick: that were forced.
        where: its place in the batch, in words.
    """

    draft: list[int]
    length: int
    q: list[list[float]] | None
    p: list[list[float]]
    temperature: float
    top_k: int
    accepted: int
    tokens: list[int]
    coins: NotRequired[list[float]]
    pick: NotRequired[float]
    where: NotRequired[str]


class Share(TypedDict):
    """A branch's part in the law of the next token."""

    branch: str
    came: list[float]
    due: list[float]


class KernelPlace(TypedDict, total=False):
    """Where a kernel goes wrong; see `locate.py`.

    Attributes:
        check: which said so.
        context, position, prefix: after which tokens of which context.
        branch, token, direction: what comes there too often or too rarely.
        observed, expected: its share of what arrives there.
        split: how far each branch's part is off.
        arrived: rows that got there, or their mass.
        ids, p, q, came, shares: the tokens, their laws, and the parts of each branch.
        drafts: of each row, where these are given.
        coins, pick: that were forced.
        where: in which rows, in words.
    """

    check: str
    context: str
    position: int
    prefix: list[int]
    branch: str
    token: int
    direction: str
    observed: float
    expected: float
    split: dict[str, float]
    arrived: float
    ids: list[int]
    p: list[float]
    q: list[float] | None
    came: list[float]
    shares: list[Share]
    drafts: int
    coins: list[float]
    pick: float
    where: str


class Fault(Exception):
    """What ends a judgement at once: the kernel broke its contract, or emitted what the target law forbids.

    Args:
        kind: ERROR where nothing can be said of its law, REFUTED where the fault alone decides.
        reason: one sentence.
        certificate: the row at fault, complete enough to be replayed.
        location: where it goes wrong.
    """

    def __init__(
        self,
        kind: Kind,
        reason: str,
        certificate: ShownRow | None = None,
        location: KernelPlace | None = None,
    ) -> None:
        super().__init__(reason)
        self.verdict, self.certificate, self.location = Verdict(kind, reason), certificate, location


def process(
    raw: Float[Tensor, "batch *slots vocab"], temperature: Float[Tensor, " batch"], top_k: Int[Tensor, " batch"]
) -> Float[Tensor, "batch *slots vocab"]:
    """Each row's laws at its own temperature, restricted to its own number of most probable tokens (ties by id)."""
    per_row = (-1, *[1] * (raw.ndim - 1))
    t, k = temperature.reshape(per_row), top_k.reshape(per_row)
    warm = torch.where(t == 1, raw, (raw.log() / torch.where(t > 0, t, 1.0)).softmax(-1))
    rank = raw.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    kept = warm * (rank < k)
    greedy = one_hot(raw.argmax(-1), raw.shape[-1]).to(raw.dtype)
    return torch.where(t > 0, kept / kept.sum(-1, keepdim=True), greedy)


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call somebody's function: what it raises is a fault, and so is any change to the tensors that it was given."""
    given = list(tree.tensors([*arguments, *named.values()]))
    before = [tensor.clone() for tensor in given]
    try:
        result = function(*arguments, **named)
    except Exception as error:
        sizes = ", ".join(str(tuple(tensor.shape)) for tensor in given)
        raise Fault(
            Kind.ERROR, f"it raised {type(error).__name__}: {error} (given tensors of shape {sizes})"
        ) from error
    for number, (tensor, copy) in enumerate(zip(given, before, strict=True)):
        if not torch.equal(tensor, copy) and not torch.equal(tensor.nan_to_num(9.0), copy.nan_to_num(9.0)):
            raise Fault(
                Kind.REFUTED,
                f"it changed the tensor of shape {tuple(tensor.shape)} that it was given (number {number}) in place",
            )
    return result


def integers(value: Any, shape: tuple[int, ...], what: str) -> Tensor:
    """Somebody's result as int64, or a fault if it is no integer tensor of that shape."""
    if not isinstance(value, Tensor) or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        kind = f"{value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
        raise Fault(Kind.ERROR, f"{what} came back as {kind}; return a tensor of integers of shape {shape}")
    if tuple(value.shape) != shape:
        raise Fault(Kind.ERROR, f"{what} came back with shape {tuple(value.shape)}; expected {shape}")
    return value.long()


def block(accepted: Int[Tensor, " batch"], token: Int[Tensor, " batch"], given: Round) -> Outcome:
    """The outcome of a kernel that returns how many drafts it accepted and the token that follows (or `NONE`)."""
    where = accepted.clamp(0, given.draft.shape[1])[:, None]
    tokens = torch.cat([given.draft, given.draft[:, :1]], 1).scatter(1, where, token[:, None])
    slot = torch.arange(tokens.shape[1])
    outcome = Outcome(tokens.where((slot < where) | ((slot == where) & (token != NONE)[:, None]), NONE), accepted)
    check(outcome, given, token)
    return outcome


def check(outcome: Outcome, given: Round, token: Tensor | None = None) -> None:
    """A fault unless counts and tokens are possible ones: within their ranges, drafts where drafts were accepted."""
    vocab, size = given.p.shape[2], outcome.tokens.shape[1]
    accepted, emitted = outcome.accepted, outcome.tokens != NONE
    count = emitted.sum(1)
    values = outcome.tokens if token is None else token[:, None]
    kept = row_mask(accepted, size - 1)
    for bad, what in (
        ((accepted < 0) | (accepted > given.lengths), "it accepted {accepted} drafts in a row that has {lengths}"),
        (
            ((values < NONE) | (values >= vocab)).any(1),
            "it emitted {tokens}, outside the vocabulary of " + f"{vocab} (-1: none)",
        ),
        ((emitted != row_mask(count, size)).any(1), "it emitted {tokens}: there is a gap before the last token"),
        (count == 0, "it emitted no token at all, so that decoding would never end"),
        (
            (count > accepted + 1) | (count < accepted),
            "it emitted {tokens} and counts {accepted} accepted drafts; one token may follow those",
        ),
        (
            (kept & (outcome.tokens[:, :-1] != given.draft)).any(1),
            "it counts {accepted} drafts of {draft} as accepted, but emitted {tokens}",
        ),
    ):
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            shown = outcome.tokens[row].tolist() if token is None else [int(token[row])]
            reason = what.format(
                accepted=int(accepted[row]),
                lengths=int(given.lengths[row]),
                tokens=shown,
                draft=given.draft[row].tolist(),
            )
            raise Fault(Kind.REFUTED, reason, certificate(given, outcome, row))


def certificate(given: Round, outcome: Outcome, row: int) -> ShownRow:
    """One row of a round with what was made of it, as plain data."""
    return {
        "draft": given.draft[row].tolist(),
        "length": int(given.lengths[row]),
        "q": None if given.q is None else given.q[row].tolist(),
        "p": given.p[row].tolist(),
        "temperature": float(given.temperature[row]),
        "top_k": int(given.top_k[row]),
        "accepted": int(outcome.accepted[row]),
        "tokens": outcome.tokens[row].tolist(),
    }
