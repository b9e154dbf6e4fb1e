"""What a known-wrong decoder is: where it comes from, when it shows, and how it is put together from the real parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from specverify.claims import Claim, Lossless
from specverify.declared import Smallest
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.jacobi import Jacobi
from specverify.decoders.protocol import Decoder, Info, State
from specverify.decoders.registry import Settings
from specverify.decoders.speculative import Drafting, Speculative
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.model import Model
from specverify.rules.token import accept_probability, residual

Category = Literal[
    "acceptance rule",
    "residual",
    "randomness reuse",
    "draft-distribution mismatch",
    "bonus token",
    "processor mismatch",
    "cache-rollback",
    "control",
]
Need = Literal["draft model", "state", "eos", "two tokens"]
Assemble = Callable[[Settings, float, Model], tuple[Decoder, Model]]
"""(settings, strength, model at hand) -> a decoder, and the model that it is shown."""
OnLaws = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(p, q, draft) -> an acceptance probability or a law, with shapes as in `Judging`."""


@dataclass(frozen=True)
class Defect:
    """A decoder that claims to be lossless and is not, or a control that is although it looks wrong.

    Attributes:
        id: its name.
        category: which part of a decoder is wrong; "control" if none is.
        source: where it was shipped, proposed or suspected.
        mechanism: what happens.
        conditions: without these it does not show.
        smallest: a setting in which it shows; for a control, one in which the suspicion would.
        assemble: how it is put together.
        needs: what a setting must have besides.
        strength: the size of the flaw, where it has one; `harmless` is the size that leaves nothing wrong.
        within_rounding: whether it is no larger than what half precision, in which it computes, may do to a right
            decoder: enumerated it is wrong, and a judgement, which cannot tell, is INCONCLUSIVE and says so.
    """

    id: str
    category: Category
    source: str
    mechanism: str
    conditions: str
    smallest: Smallest
    assemble: Assemble
    needs: tuple[Need, ...] = ()
    strength: float = 0.0
    harmless: float | None = None
    within_rounding: bool = False

    @property
    def lossy(self) -> bool:
        """Whether the law of its output is wrong."""
        return self.category != "control"

    def build(self, settings: Settings, strength: float | None = None) -> Decoder:
        """The decoder.

        Args:
            settings: as for any decoder; what works with any drafts takes the draft model's, or SJD's without one.
            strength: another size of the flaw, for those that have one.

        Raises:
            InputError: for a strength that the defect does not have, or a draft model that it lacks.
        """
        if strength is not None and self.harmless is None:
            raise InputError(f"defect {self.id!r} has no strength; leave it out")
        if "draft model" in self.needs and settings.draft_model is None:
            raise InputError(
                f"defect {self.id!r} drafts with a second model; give it one (for toys: --draft perturbed)"
            )
        return Assembled(self, settings, self.strength if strength is None else strength)


@dataclass(frozen=True)
class Assembled:
    """A defect's decoder. It is assembled anew in every call, so that what is assembled may remember within a step."""

    defect: Defect
    settings: Settings
    strength: float
    claim: Claim = Lossless()  # noqa: RUF009  (frozen)

    @property
    def name(self) -> str:
        """The defect's."""
        return self.defect.id

    @property
    def window(self) -> int:
        """Draft tokens per forward pass."""
        return self.settings.window

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        decoder, shown = self.defect.assemble(self.settings, self.strength, model)
        return decoder.init(shown, batch, draws)

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        decoder, shown = self.defect.assemble(self.settings, self.strength, model)
        return decoder.step(state, shown, draws)


def drafting(settings: Settings) -> Drafting:
    """The draft model's drafts if there is one, else those of SJD."""
    return Jacobi("independent", settings.initial) if settings.draft_model is None else DraftModel(settings.draft_model)


@dataclass(frozen=True)
class Judge:
    """The token rule with one of its two functions, or both, replaced."""

    keep: OnLaws = accept_probability
    replace: OnLaws = lambda p, q, draft: residual(p, q)

    def accept(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """See Judging."""
        return self.keep(p, q, draft)

    def recover(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape vocab"]:
        """See Judging."""
        return self.replace(p, q, draft)


def judged(rule: Callable[[float], Judge]) -> Assemble:
    """To assemble a decoder that is wrong in its judging alone; `rule` makes it, given the strength."""

    def assemble(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
        return Speculative(drafting(settings), settings.window, rule(strength)), model

    return assemble
