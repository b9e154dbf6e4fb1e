"""Every defect at an exactly known distance, and at none where its conditions do not hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from specverify import defects
from specverify.decoders import Decoder, registry, sample
from specverify.decoders.registry import Settings
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import ExactLaw, sequence_index, target_law
from specverify.model import Model
from specverify.processors import Processed, parse_processors
from toymodels import draft, toy
from toymodels.automata import Recursion, StateModel
from toymodels.tables import TableModel

EXACT = 1e-12
LOSSY = [name for name in defects.names() if defects.get(name).lossy]
CONTROLS = [name for name in defects.names() if not defects.get(name).lossy]

# Measured by enumeration in float64; the toy, window and drafts are each defect's `smallest`.
DISTANCES = {
    "accept-all-prefix-count": 0.593065345562,
    "first-draft-unverified": 0.593065345562,
    "shape-bug-accept-count": 0.248202009425,
    "synthetic-prob-always-accept": 0.371113369317,
    "synthetic-acceptance": 0.460631025011,
    "inverted-ratio": 0.499334824157,
    "zero-coin-inclusive": 9.96904699297e-08,
    "argmax-verify-at-temperature": 0.506489652473,
    "match-else-redraw": 0.11119615805,
    "pad-id-collides-with-token-0": 0.241416414249,
    "greedy-with-raw-ratio": 0.225508170374,
    "forced-accept-special-tokens": 0.166604831399,
    "accept-uniform-keyed-like-draft": 0.234013997467,
    "recovered-from-target": 0.266264701881,
    "residual-softmaxed": 0.248182278301,
    "residual-by-list-position": 0.0712128597917,
    "residual-rewarped": 0.16698959577,
    "inplace-target-zeroed": 0.902838987304,
    "residual-smoothing-leak": 4.50079881689e-10,
    "q-clamped-0.99-in-residual": 0.000109791264757,
    "residual-only-if-disjoint": 0.266264701881,
    "accept-uniform-reused-in-residual": 0.0452374499712,
    "missing-sync-partial-residual-sum": 0.310431339073,
    "raw-q-for-processed-draw": 0.185685512832,
    "argmax-draw-softmax-q": 0.263753549313,
    "beam-search-draw-q": 0.293929993373,
    "bf16-draw-fp32-ratio": 0.000234675198247,
    "stale-scores-after-coupling": 0.0838113623984,
    "reuse-labelled-target": 0.0554492269394,
    "race-not-shifted": 0.00894738678401,
    "one-race-for-all-positions": 0.457442660982,
    "one-race-for-a-step": 0.063868647693,
    "bonus-from-draft": 0.430853052801,
    "bonus-unwarped": 0.193593304694,
    "processor-only-on-bonus": 0.252218430111,
    "params-dropped-on-spec-path": 0.363669680844,
    "cache-not-trimmed": 0.133285405651,
    "rotating-cache-stale-keys": 0.0789968677479,
    "processor-state-shared-by-copy": 0.0884474588671,
    "penalty-counts-last-token-only": 0.127523013444,
    "penalty-history-omits-seed-token": 0.127034369411,
    "window-start-processor-state": 0.506713450326,
    "eos-inside-block-ignored": 0.364953908251,
    "block-verify-tokenwise-accept": 0.404314541569,
    "block-verify-break-at-first": 0.233337754139,
    "joint-ratio-one-coin": 0.0640536770729,
    "joint-ratio-segments": 0.106179889418,
    "joint-ratio-phrases": 0.100798590635,
    "block-verify-tokenwise-residual": 0.00152927354603,
    "block-on-coupled-drafts": 0.00818894626359,
    "duplicate-node-reverified": 0.0382250672052,
    "stale-target-prob-when-absent": 0.0110348655754,
    "stale-branch-after-accept": 0.086488055219,
    "without-replacement-q-not-renormalised": 0.015359025948,
    "stale-residual-as-bonus": 0.136171126591,
    "rejected-draft-kv-retained": 0.547879307492,
    "tree-longest-path-wins": 0.0446682572835,
    "tree-younger-from-residual": 0.16828574788,
    "tree-redrawn-from-all": 0.00423536853844,
}
TINY = {"zero-coin-inclusive": 5e-8, "residual-smoothing-leak": 1e-10}


def smallest(name: str, strength: float | None = None, wider: int = 0) -> tuple[Decoder, Model]:
    defect = defects.get(name)
    toy_name, window, initial, kind = defect.smallest
    model = toy(toy_name)
    settings = Settings(window + wider, initial or "repeat-left", draft(kind, model) if kind else None)
    return defect.build(settings, strength), model


def at_smallest(name: str, strength: float | None = None, wider: int = 0) -> tuple[float, ExactLaw]:
    decoder, model = smallest(name, strength, wider)
    exact = enumerate_decoder(decoder, model)
    return exact.tv(target_law(model)), exact


def test_every_defect_has_a_known_distance() -> None:
    assert list(DISTANCES) == LOSSY


@pytest.mark.thinned(8)
@pytest.mark.parametrize("name", LOSSY)
def test_defect_is_at_its_known_distance(name: str) -> None:
    tv, exact = at_smallest(name)
    assert tv > TINY.get(name, 1e-4)
    assert tv == pytest.approx(DISTANCES[name], abs=min(1e-9, 1e-4 * tv))
    assert exact.verified > 0
    if defects.get(name).category == "bonus token":
        assert exact.branches["bonus"] > 0.1
    if defects.get(name).category == "residual":
        assert exact.branches["recovered"] > 0.1


@pytest.mark.thinned(9)
@pytest.mark.parametrize("name", LOSSY)
def test_defect_shows_in_wider_windows_too(name: str) -> None:
    tv, _ = at_smallest(name, wider=1)
    assert tv > TINY.get(name, 1e-4)


@pytest.mark.thinned(36)
@pytest.mark.parametrize(
    ("name", "toy_name"),
    [
        (name, toy_name)
        for name in CONTROLS
        for toy_name in ("dense-2x8", "sparse-3x5", "ties-3x5", "eos-3x6", "penalty-3x6")
        if toy_name == "dense-2x8" or "two tokens" not in defects.get(name).needs
    ],
)
@pytest.mark.parametrize("window", [1, 2, 3])
def test_controls_are_lossless(name: str, toy_name: str, window: int) -> None:
    model = toy(toy_name)
    for kind in ("perturbed", "independent"):
        exact = enumerate_decoder(defects.get(name).build(Settings(window, draft_model=draft(kind, model))), model)
        assert exact.tv(target_law(model)) <= EXACT
        assert exact.branches["accepted"] > 0
        assert exact.branches["recovered"] > 0


def test_controls_only_cost_speed() -> None:
    model = toy("dense-3x6")
    settings = Settings(2, draft_model=draft("perturbed", model))
    best = enumerate_decoder(registry.build("sd", settings), model)
    for name in ("one-hot-rule-with-any-draft", "bonus-dropped-on-full-accept", "draft-cache-over-trimmed"):
        assert enumerate_decoder(defects.get(name).build(settings), model).passes > best.passes + 0.01


@pytest.mark.parametrize("name", [name for name in LOSSY if defects.get(name).harmless is not None])
def test_defect_vanishes_at_its_harmless_strength(name: str) -> None:
    tv, exact = at_smallest(name, strength=defects.get(name).harmless)
    assert tv <= EXACT
    assert exact.branches["recovered"] > 0.1


@pytest.mark.parametrize("name", ["residual-smoothing-leak", "residual-rewarped", "bonus-unwarped"])
def test_distance_grows_with_the_strength(name: str) -> None:
    strengths = {"residual-smoothing-leak": (1e-6, 1e-4, 1e-2)}.get(name, (0.9, 0.7, 0.3))
    first, second, third = (at_smallest(name, strength)[0] for strength in strengths)
    assert 0 < first < second < third


def test_a_coin_of_fewer_bits_errs_more() -> None:
    coarse, fine = (at_smallest("zero-coin-inclusive", strength=bits)[0] for bits in (4.0, 24.0))
    assert coarse > 2**-4 > 1e5 * fine


def of(
    toy_name: str, window: int = 2, draft: Callable[[Model], Model] | None = None, processors: str = ""
) -> Callable[[], tuple[Model, Settings]]:
    def subject() -> tuple[Model, Settings]:
        model = toy(toy_name)
        processed = Processed(model, parse_processors(processors)) if processors else model
        return processed, Settings(window, draft_model=None if draft is None else draft(processed))

    return subject


def itself(model: Model) -> Model:
    return model


def a_draft(kind: str, processors: str = "") -> Callable[[Model], Model]:
    return lambda model: Processed(draft(kind, model), parse_processors(processors))


def forgetful() -> tuple[Model, Settings]:
    """A law by position alone, in a context that keeps a state nevertheless."""
    weights = torch.tensor([[1, 2, 3], [5, 1, 1], [1, 1, 4], [2, 2, 1], [1, 1, 1]])
    recursion = Recursion(
        (0,), lambda state, token: state + token[:, None], lambda position, state: weights[position % 5]
    )
    model = StateModel("by-position", 3, 5, recursion, torch.float64, torch.device("cpu"))
    return model, Settings(2, draft_model=draft("perturbed", model))


# One setting for each defect in which its conditions do not hold, though drafts are verified.
INVISIBLE = {
    "accept-all-prefix-count": of("dense-3x6", draft=itself),
    "first-draft-unverified": of("dense-3x6", draft=itself),
    "shape-bug-accept-count": of("dense-3x6", 1, a_draft("perturbed")),
    "synthetic-prob-always-accept": of("dense-3x6", draft=a_draft("perturbed")),
    "synthetic-acceptance": of("dense-3x6", draft=itself),
    "inverted-ratio": of("dense-3x6", draft=itself),
    "zero-coin-inclusive": of("dense-3x6", draft=itself),
    "argmax-verify-at-temperature": of("dense-3x6", draft=a_draft("perturbed"), processors="top_k=1"),
    "match-else-redraw": of("dense-3x6", draft=a_draft("perturbed"), processors="top_k=1"),
    "pad-id-collides-with-token-0": of("zero-3x5", draft=a_draft("perturbed", "allowed=1+2")),
    "greedy-with-raw-ratio": of("dense-3x6", draft=itself),
    "forced-accept-special-tokens": of("raster-4x6", draft=a_draft("perturbed", "allowed=0+1+2")),
    "accept-uniform-keyed-like-draft": of("dense-3x6", draft=itself),
    "recovered-from-target": of("dense-3x6", draft=itself),
    "residual-softmaxed": of("dense-3x6", draft=itself),
    "residual-by-list-position": of("dense-3x6", draft=a_draft("perturbed")),
    "residual-rewarped": of("dense-2x8", draft=a_draft("perturbed")),  # two tokens: the residual is one token
    "inplace-target-zeroed": of("dense-3x6", draft=a_draft("perturbed")),
    "residual-smoothing-leak": of("dense-3x6", draft=itself, processors="top_k=1"),
    "q-clamped-0.99-in-residual": of("ties-3x5"),
    "residual-only-if-disjoint": of("dense-3x6", draft=itself),
    "accept-uniform-reused-in-residual": of("dense-2x8", draft=a_draft("perturbed")),
    "missing-sync-partial-residual-sum": of("dense-2x8", draft=a_draft("perturbed")),
    "raw-q-for-processed-draw": of("dense-2x8", draft=a_draft("perturbed")),  # the top 2 are all
    "argmax-draw-softmax-q": of("dense-3x6", draft=a_draft("one-hot")),
    "beam-search-draw-q": of("dense-3x6", draft=a_draft("one-hot")),
    "bf16-draw-fp32-ratio": of("dense-3x6", draft=a_draft("one-hot")),
    "stale-scores-after-coupling": of("dense-3x6", 1),
    "reuse-labelled-target": of("dense-3x6", 1),
    "race-not-shifted": of("dense-2x8", 1),
    "one-race-for-all-positions": of("dense-2x8", processors="top_k=1"),
    "one-race-for-a-step": of("dense-2x8", processors="top_k=1"),
    "bonus-from-draft": of("dense-3x6", draft=itself),
    "bonus-unwarped": of("sparse-3x5", draft=a_draft("disjoint")),  # every draft is rejected
    "processor-only-on-bonus": of("dense-3x6", draft=a_draft("perturbed"), processors="top_k=1"),
    "params-dropped-on-spec-path": of("dense-3x6", draft=a_draft("perturbed"), processors="top_k=1"),
    "cache-not-trimmed": of("recurrent-3x6", draft=itself),
    "rotating-cache-stale-keys": of("window-3x6", 1, a_draft("perturbed")),
    "processor-state-shared-by-copy": forgetful,
    "penalty-counts-last-token-only": of(
        "penalty-3x6", draft=a_draft("perturbed", "allowed=2"), processors="allowed=0+1"
    ),
    "penalty-history-omits-seed-token": forgetful,
    "window-start-processor-state": forgetful,
    "eos-inside-block-ignored": of("dense-3x6", draft=a_draft("perturbed")),
    "block-verify-tokenwise-accept": of("dense-3x6", 1, a_draft("perturbed")),
    "block-verify-break-at-first": of("dense-3x6", 1, a_draft("perturbed")),
    "joint-ratio-one-coin": of("dense-3x6", 1, a_draft("perturbed")),
    "joint-ratio-segments": of("dense-3x6", 1, a_draft("perturbed")),
    "joint-ratio-phrases": of("dense-3x6", 1, a_draft("perturbed")),
    "block-verify-tokenwise-residual": of("dense-2x8", 3, a_draft("perturbed")),
    "block-on-coupled-drafts": of("dense-3x6", 1),
    "duplicate-node-reverified": of("dense-2x8", draft=a_draft("perturbed")),
    "stale-target-prob-when-absent": of("dense-3x6", draft=a_draft("perturbed")),
    "stale-branch-after-accept": of("dense-3x6", 1, a_draft("perturbed")),
    "without-replacement-q-not-renormalised": of("dense-2x8", draft=a_draft("perturbed")),
    "stale-residual-as-bonus": of("sparse-3x5", draft=a_draft("disjoint")),  # every draft is rejected
    "rejected-draft-kv-retained": of("dense-3x6", draft=a_draft("one-hot")),  # all branches are one
    "tree-longest-path-wins": of("dense-3x6", 1),
    "tree-younger-from-residual": of("dense-2x8"),  # two tokens: the younger sibling is the other one
    "tree-redrawn-from-all": of("dense-3x6", 1),
}


@pytest.mark.thinned(8)
@pytest.mark.parametrize("name", LOSSY)
def test_defect_does_not_show_without_its_conditions(name: str) -> None:
    model, settings = INVISIBLE[name]()
    exact = enumerate_decoder(defects.get(name).build(settings), model)
    assert exact.verified > 0
    assert exact.tv(target_law(model)) <= EXACT


@pytest.mark.thinned(14)
@pytest.mark.parametrize("name", defects.names())
def test_sampling_shows_the_enumerated_law(
    name: str, seed: int, agrees: Callable[[torch.Tensor, torch.Tensor, float], None]
) -> None:
    decoder, model = smallest(name)
    tokens = sample(decoder, model, 40_000, seed).tokens
    counts = torch.bincount(sequence_index(tokens, model.vocab), minlength=model.vocab**model.length)
    agrees(counts, enumerate_decoder(decoder, model).law, 0.1)


def single(p: list[float]) -> TableModel:
    return TableModel("one-token", torch.tensor([p], dtype=torch.float64), 1)


def test_laws_of_one_token_follow_from_the_closed_form() -> None:
    """With a the acceptance probability and r the recovered law, the output is q a + (1 - sum q a) r."""
    p, q = torch.tensor([0.5, 0.4, 0.1], dtype=torch.float64), torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    residual = torch.tensor(
        [0.8, 0.2, 0.0], dtype=torch.float64
    )  # (p - q)+ = (0.4, 0.1, 0), and 1 - TV(p, q) = 0.5 is accepted
    kept, inverted = torch.minimum(p, q), torch.tensor([0.1 * 0.1 / 0.5, 0.3 * 0.3 / 0.4, 0.6], dtype=torch.float64)
    output = {
        "recovered-from-target": kept + 0.5 * p,
        "residual-rewarped": kept + 0.5 * residual**2 / (0.8**2 + 0.2**2),
        "inverted-ratio": inverted + (1 - inverted.sum()) * residual,
        "accept-all-prefix-count": q,
    }
    model, settings = single(p.tolist()), Settings(1, draft_model=single(q.tolist()))
    for name, law in output.items():
        exact = enumerate_decoder(defects.get(name).build(settings), model)
        assert exact.law.tolist() == pytest.approx(law.tolist(), abs=1e-14)
        assert exact.tv(p) > 0.05
