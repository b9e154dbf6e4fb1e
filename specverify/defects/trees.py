"""Trees of drafts gone wrong: nodes that are counted twice, branches that are not dropped, laws that are not updated.

Each is `MultiDraft` with two chains, its rule altered or its model shown otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from specverify.declared import Smallest
from specverify.decoders.branched import Candidates
from specverify.decoders.multi_draft import MultiDraft, Recursive, Rule
from specverify.decoders.protocol import Decoder
from specverify.decoders.registry import Settings
from specverify.defects.defect import Assemble, Defect
from specverify.defects.views import View
from specverify.draws import Draws
from specverify.model import Context, Model, row_mask
from specverify.rules.multi_draft import recursive_rejection
from specverify.rules.token import at, residual

CHAINS = 2


@dataclass(frozen=True)
class Altered:
    """A rule with other candidates drawn, or others judged.

    Args:
        inner: the rule.
        drawn: (candidates, whether they are the first slot's) -> the candidates that are used.
        judged: (p, candidates, where, draws, the rule) -> as `Rule.judge`.
    """

    inner: Rule
    drawn: Callable[[Candidates, bool], Candidates] = lambda drawn, first: drawn
    judged: Callable[[Tensor, Candidates, Tensor, Draws, Rule], tuple[Tensor, Tensor]] = (
        lambda p, drawn, where, draws, rule: rule.judge(p, drawn, where, draws)
    )

    @property
    def name(self) -> str:
        """The inner rule's."""
        return self.inner.name

    def draw(
        self, law: Float[Tensor, "batch chains vocab"], where: Bool[Tensor, "batch chains"], first: bool, draws: Draws
    ) -> Candidates:
        """See Rule."""
        return self.drawn(self.inner.draw(law, where, first, draws), first)

    def judge(
        self, p: Float[Tensor, "batch vocab"], drawn: Candidates, where: Bool[Tensor, "batch chains"], draws: Draws
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """See Rule."""
        return self.judged(p, drawn, where, draws, self.inner)


def _altered(rule: Callable[[], Rule]) -> Assemble:
    """To assemble a decoder that is wrong in its rule alone."""

    def assemble(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
        assert settings.draft_model is not None  # Defect.build has looked
        return MultiDraft(settings.draft_model, settings.window, CHAINS, rule()), model

    return assemble


def _one_node(drawn: Candidates, first: bool) -> Candidates:
    """The first slot is one node, drawn once, that every chain goes through."""
    return replace(drawn, token=drawn.token[:, :1].expand_as(drawn.token)) if first else drawn


def _full_law(drawn: Candidates, first: bool) -> Candidates:
    return replace(drawn, law=drawn.law[:, :1].expand_as(drawn.law)) if first else drawn


def _as_certain(drawn: Candidates, first: bool) -> Candidates:
    return replace(drawn, law=one_hot(drawn.token, drawn.law.shape[-1]).to(drawn.law.dtype))


def _every_chain(p: Tensor, drawn: Candidates, where: Tensor, draws: Draws, rule: Rule) -> tuple[Tensor, Tensor]:
    return rule.judge(p, drawn, where.any(1, keepdim=True) & drawn.there, draws)


def _stale_probability(p: Tensor, drawn: Candidates, where: Tensor, draws: Draws, rule: Rule) -> tuple[Tensor, Tensor]:
    """Where p(x) = 0, p is taken to be what it was of the candidate before."""
    left, found, keep = p, torch.zeros_like(p[:, 0]), []
    for number in range(where.shape[1]):
        token, law, tested = drawn.token[:, number], drawn.law[:, number], where[:, number]
        mine = torch.where(at(p, token) > 0, at(left, token), found)
        keep.append((mine / at(law, token)).clamp(max=1).where(tested, 0.0))
        found = mine.where(tested, found)
        left = torch.where(tested[:, None], residual(left, law), left)
    return draws.accept_run(1 - torch.stack(keep, 1), where.any(1, keepdim=True).expand_as(where)), left


@dataclass
class _Stale:
    """Keeps the laws of a pass, to put what is left of p at the last slot in the place of the law behind it."""

    laws: Tensor = field(default_factory=lambda: torch.zeros(0))

    def shown(self, inner: Model, context: Context, draft: Tensor) -> Tensor:
        self.laws = inner.laws(context, draft)
        return self.laws

    def judged(self, p: Tensor, drawn: Candidates, where: Tensor, draws: Draws, rule: Rule) -> tuple[Tensor, Tensor]:
        number, every = rule.judge(p, drawn, where, draws)
        before = where & row_mask(number, where.shape[1])
        _, left = recursive_rejection(p, drawn.law, drawn.token, before)
        stale = (before.any(1) & (number < where.shape[1]))[:, None, None]
        # Every slot does so; the law behind the window is that of the last one.
        behind = self.laws.unflatten(0, where.shape)[:, :, -1]
        behind.copy_(torch.where(stale, left[:, None].expand_as(behind), behind))
        return number, every


def _stale_bonus(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
    assert settings.draft_model is not None  # Defect.build has looked
    stale = _Stale()
    rule = Altered(Recursive(), judged=stale.judged)
    return MultiDraft(settings.draft_model, settings.window, CHAINS, rule), View(model, laws=stale.shown)


def _sibling(inner: Model, context: Context, draft: Tensor, tokens: Tensor, count: Tensor) -> Context:
    """The cache holds the other chain's drafts, and behind them the token that the step ended with."""
    other = draft.unflatten(0, (-1, CHAINS)).flip(1).flatten(0, 1)
    drafts = row_mask(count - 1, tokens.shape[1] - 1)
    return inner.advance(context, torch.cat([other.where(drafts, tokens[:, :-1]), tokens[:, -1:]], 1), count)


def _other_cache(settings: Settings, strength: float, model: Model) -> tuple[Decoder, Model]:
    assert settings.draft_model is not None  # Defect.build has looked
    return MultiDraft(settings.draft_model, settings.window, CHAINS), View(model, advance=_sibling)


DEFECTS = (
    Defect(
        id="duplicate-node-reverified",
        category="acceptance rule",
        source="SafeAILab/EAGLE before commit 476cac0; ggml-org/llama.cpp examples/speculative",
        mechanism="A node that two branches go through is tested twice, the second time against what its rejection "
        "left.",
        conditions="two branches through one node; a residual over at least 2 tokens",
        smallest=Smallest("dense-3x6", 1, draft="perturbed"),
        assemble=_altered(lambda: Altered(Recursive(), drawn=_one_node)),
        needs=("draft model",),
    ),
    Defect(
        id="stale-target-prob-when-absent",
        category="acceptance rule",
        source="ggml-org/llama.cpp examples/speculative/speculative.cpp",
        mechanism="The p of a candidate that the target forbids is not found, and is left at that of the one before.",
        conditions="two branches; a target with zeros that q does not share",
        smallest=Smallest("sparse-3x5", 1, draft="perturbed"),
        assemble=_altered(lambda: Altered(Recursive(), judged=_stale_probability)),
        needs=("draft model",),
    ),
    Defect(
        id="stale-branch-after-accept",
        category="acceptance rule",
        source="ggml-org/llama.cpp examples/speculative/speculative.cpp",
        mechanism="Branches that hold another token than the one accepted stay in play, and are followed if accepted "
        "deeper.",
        conditions="two branches that part; a window of at least 2; a law that depends on the token two before",
        smallest=Smallest("dense-2x8", 2, draft="perturbed"),
        assemble=_altered(lambda: Altered(Recursive(), judged=_every_chain)),
        needs=("draft model",),
    ),
    Defect(
        id="without-replacement-q-not-renormalised",
        category="draft-distribution mismatch",
        source="mutation of recursive rejection without replacement, Jeon et al., arXiv 2402.14160",
        mechanism="Siblings are drawn without replacement, but all are tested against the draft model's whole law.",
        conditions="two siblings; a second one that is tested",
        smallest=Smallest("dense-3x6", 1, draft="perturbed"),
        assemble=_altered(lambda: Altered(Recursive(replacement=False), drawn=_full_law)),
        needs=("draft model",),
    ),
    Defect(
        id="stale-residual-as-bonus",
        category="bonus token",
        source="SafeAILab/EAGLE before commits 11e1de7, 61020ed and 70b2cab",
        mechanism="When a sibling was rejected at the last level before another was accepted, the bonus comes from "
        "what the rejection left of the level's own law.",
        conditions="two siblings at the last level; a step that ends in a bonus token",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=_stale_bonus,
        needs=("draft model",),
    ),
    Defect(
        id="rejected-draft-kv-retained",
        category="cache-rollback",
        source="pie-project/pie PR #197",
        mechanism="After verification the cache holds the nodes of the sibling branch in the place of those accepted.",
        conditions="two branches that part; an accepted draft with positions behind the step",
        smallest=Smallest("dense-2x8", 1, draft="perturbed"),
        assemble=_other_cache,
        needs=("draft model",),
    ),
)

CONTROLS = (
    Defect(
        id="lookahead-specinfer-sampling",
        category="control",
        source="hao-ai-lab/LookaheadDecoding lade/decoding.py",
        mechanism="Several guesses are tested one after the other as if each were certain, whatever they were drawn "
        "from: a rejected one is taken out of p, and the rest is normalised.",
        conditions="suspected wherever two guesses are tested at one position; it only accepts less",
        smallest=Smallest("dense-3x6", 2, draft="perturbed"),
        assemble=_altered(lambda: Altered(Recursive(), drawn=_as_certain)),
        needs=("draft model",),
    ),
)
