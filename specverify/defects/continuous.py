"""Known-wrong decoders of continuous tokens: what the released code of CSpD does, one flaw at a time, and a control.

Each is an exact decoder but for its flaw, and claims to be exact. All flaws at once, with the released decoder around
them, are `decoders.continuous.Released`, which claims nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from specverify.catalogue import Catalogue
from specverify.decoders.draft_model import DraftModel
from specverify.decoders.protocol import Decoder
from specverify.decoders.registry import Settings
from specverify.decoders.speculative import Speculative
from specverify.defects.continuous_parts import (
    Blind,
    Judged,
    Judging,
    Misnamed,
    Near,
    OnLastSteps,
    OnTokens,
    WithoutNoise,
)
from specverify.errors import InputError
from specverify.rules.cspd import RELEASED, Criterion

_SOURCE = "MarkXCloud/CSpD, spec_decode/spec_decode_runner.py"
_JUDGED = "judge_continuous"
_TESTS = ("density", "rosenblatt", "projections", "energy", "moments")


@dataclass(frozen=True)
class ContinuousDefect:
    """A decoder of continuous tokens that claims to be lossless and is not, or a control that is.

    Attributes:
        id: its name.
        category: "continuous", or "control" if nothing is wrong.
        source: where it was shipped.
        mechanism: what happens.
        conditions: without these it does not show.
        smallest: toy, window and draft law of `toymodels.continuous` where it shows.
        caught_by: the checkers of the kill matrix that must catch it.
        assemble: makes it from its parts, given the size of the flaw.
        strength: that size, where it has one; `harmless` is the size that leaves nothing wrong.
    """

    id: str
    category: Literal["continuous", "control"]
    source: str
    mechanism: str
    conditions: str
    smallest: tuple[str, int, str]
    caught_by: tuple[str, ...]
    assemble: Callable[[DraftModel, int, float], Decoder]
    strength: float = 0.0
    harmless: float | None = None

    @property
    def lossy(self) -> bool:
        """Whether the law of its output is wrong."""
        return self.category != "control"

    def build(self, settings: Settings, strength: float | None = None) -> Decoder:
        """The decoder.

        Args:
            settings: as for any decoder; a draft model is needed.
            strength: another size of the flaw, for those that have one.

        Raises:
            InputError: for a strength that the defect does not have, or no draft model.
        """
        if strength is not None and self.harmless is None:
            raise InputError(f"defect {self.id!r} has no strength; leave it out")
        if settings.draft_model is None:
            raise InputError(f"defect {self.id!r} drafts with a second model; give it one")
        size = self.strength if strength is None else strength
        return self.assemble(DraftModel(settings.draft_model, name=self.id), settings.window, size)


def _judged(by: Callable[[float], Judging]) -> Callable[[DraftModel, int, float], Decoder]:
    """To assemble a decoder that is wrong in its judging alone."""
    return lambda drafting, window, strength: Speculative(drafting, window, Judged(by(strength)))


DEFECTS = (
    ContinuousDefect(
        id="cspd-acceptance-temperature",
        category="continuous",
        source=f"{_SOURCE} L21-38 (temperature=42)",
        mechanism="The exponents of both densities are divided by 42^2 in accepting, and not in the residual: nearly "
        "every draft is kept, and the output has the draft's law.",
        conditions="any two Gaussians; for N(0, 1) and N(1, 1) a total variation of 0.38",
        smallest=("gauss-1x6", 1, "shifted"),
        caught_by=(*_TESTS, "acceptance", "trials", _JUDGED),
        assemble=_judged(lambda size: OnTokens(Criterion(temperature=size, limit=None))),
        strength=RELEASED.temperature,
        harmless=1.0,
    ),
    ContinuousDefect(
        id="cspd-trial-cap-zero",
        category="continuous",
        source=f"{_SOURCE} L45-59 (sample_distribution)",
        mechanism="The residual is searched for in 100 proposals; tokens without one stay the zero vector they were "
        "made as.",
        conditions="p and q are close: the zero vector has the mass TV (1 - TV)^100, 0.0037 at TV = 0.01",
        smallest=("gauss-1x6", 1, "near"),
        caught_by=("density", "repeats", "cap", _JUDGED),
        assemble=_judged(lambda _: OnTokens(Criterion(limit=RELEASED.limit, zero=True))),
    ),
    ContinuousDefect(
        id="cspd-target-not-conditioned-on-drafts",
        category="continuous",
        source=f"{_SOURCE} L157-171; models/mar.py (sample_tokens_step_with_mask)",
        mechanism="A block of drafts is judged in one pass in which they are masked, so that each is judged by its law "
        "given what is committed, not given the drafts before it.",
        conditions="a window of 2 or more, or a bonus token",
        smallest=("gauss-1x6", 2, "shifted"),
        caught_by=(*_TESTS, _JUDGED),
        assemble=lambda drafting, window, _: Blind(Speculative(drafting, window, Judged(OnTokens()))),
    ),
    ContinuousDefect(
        id="cspd-inverted-trajectory-factor",
        category="continuous",
        source=f"{_SOURCE} L19 and L38; diffusion/gaussian_diffusion.py (log_var)",
        mechanism="The ratio at the last step is multiplied by the product of sigma_p / sigma_q over the steps before. "
        "The paper has its inverse; the exact factor is 1, the power 0 of either.",
        conditions="sigma_p and sigma_q differ at some step before the last",
        smallest=("chain-1x4", 1, "narrower"),
        caught_by=(*_TESTS, "acceptance", "ratio", "trials", _JUDGED),
        assemble=_judged(lambda size: OnLastSteps(Criterion(power=size))),
        strength=RELEASED.power,
        harmless=0.0,
    ),
    ContinuousDefect(
        id="cspd-last-step-law",
        category="continuous",
        source="MarkXCloud/CSpD, diffusion/gaussian_diffusion.py (p_sample_with_noise) against sample_distribution",
        mechanism="Draft and target emit the mean of their last transition, whose density judges the draft as if it "
        "had been drawn; rejected tokens are drawn with its noise.",
        conditions="a last transition with noise that matters",
        smallest=("chain-1x4", 1, "wider"),
        caught_by=("density", "rosenblatt", "projections", "moments", "ratio", "trials", _JUDGED),
        assemble=_judged(lambda _: WithoutNoise()),
    ),
    ContinuousDefect(
        id="near-without-a-coin",
        category="continuous",
        source="Drift-AR, arXiv 2603.28049, aSleepyTree/Drift-AR at 04977d1, there against the target's own features",
        mechanism="A draft is kept wherever it lies within a radius (the strength) of a value drawn from the target, "
        "which else is emitted: no coin weighs p against q.",
        conditions="p differs from q; the radius is not 0",
        smallest=("gauss-1x6", 1, "shifted"),
        caught_by=("density", "rosenblatt", "projections", "moments", "acceptance", "trials", _JUDGED),
        assemble=_judged(Near),
        strength=1.0,
        harmless=0.0,
    ),
)
CONTROLS = (
    ContinuousDefect(
        id="cspd-variance-as-std",
        category="control",
        source="MarkXCloud/CSpD (x1_std=draft_var)",
        mechanism="What is called a variance and used as a standard deviation is one: exp(log variance / 2).",
        conditions="suspected wherever a variance is not 1",
        smallest=("gauss-1x6", 1, "shifted"),
        caught_by=(),
        assemble=_judged(lambda _: Misnamed()),
    ),
)
_ALL = Catalogue("defect of continuous tokens", {defect.id: defect for defect in (*DEFECTS, *CONTROLS)})


def names() -> tuple[str, ...]:
    """All of them, the controls last."""
    return _ALL.names()


def get(name: str) -> ContinuousDefect:
    """What is known of one.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    return _ALL[name]
