"""Known-wrong samplers: how far off each is, where, and what is known of it. They are judged in the session stats."""

from __future__ import annotations

import pytest
import torch

from specverify.defects import samplers
from specverify.errors import InputError
from specverify.subjects.sampler_suite import standard
from toymodels import draft, toy

LOSSY = [name for name in samplers.names() if samplers.get(name).lossy]
CONTROLS = [name for name in samplers.names() if not samplers.get(name).lossy]
ALONE = {"shared-stream-across-requests", "shared-coins-across-rows", "row-streams-of-consecutive-seeds",
         "reseed-per-call", "reseed-per-batch"}  # fmt: skip
"""Those whose sequences are right one by one."""


# Exact total variation of one sequence's law, by enumeration.
DISTANCES = {
    "params-dropped-on-spec-path": ("skew", 0.1),
    "processor-state-shared-by-copy": ("penalty-3x6", 0.05),
    "penalty-counts-last-token-only": ("penalty-3x6", 0.01),
    "window-start-processor-state": ("switch-3x6", 0.05),
    "cache-not-trimmed": ("recurrent-3x6", 0.1),
    "rotating-cache-stale-keys": ("window-3x6", 0.01),
    "stale-drafts-when-drafter-skipped": ("dense-3x6", 0.01),
    "eos-inside-block-ignored": ("eos-3x6", 0.05),
    "verify-kernel-argmax-flip": ("ties", 0.5),
    "guidance-unconditional-last-token": ("guided-3x4", 0.05),
    "guidance-scale-off-by-one": ("guided-3x4", 0.05),
    "cut-law-not-renormalised": ("skew", 0.05),
}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_the_law_of_one_sequence_is_known_exactly(name):
    model, least = DISTANCES[name]
    cut = (one for one in standard() if one.target.name.startswith(f"{model}-3x5") and "|" in one.target.name)
    case = next(cut, None)
    target = case.target if case else toy(model)
    tv = samplers.get(name).tv(target, case.draft if case else draft("perturbed", target))
    assert tv is not None
    assert tv > least


def test_the_others_are_right_one_by_one_or_not_known():
    target = toy("dense-3x6")
    for name in set(samplers.names()) - set(DISTANCES):
        tv = samplers.get(name).tv(target, draft("perturbed", target))
        known = name in ALONE | set(CONTROLS)
        assert (tv is not None and tv < 1e-12) if known else tv is None, name


def test_a_flaw_shows_only_where_the_target_has_what_it_needs():
    target = toy("dense-2x8")
    for name in LOSSY:
        if samplers.get(name).build is not None and name != "stale-drafts-when-drafter-skipped":
            tv = samplers.get(name).tv(target, draft("perturbed", target))
            assert tv < (0.01 if name == "verify-kernel-argmax-flip" else 1e-12), name


@pytest.mark.parametrize("name", samplers.names())
def test_what_is_known_of_each(name):
    defect = samplers.get(name)
    assert defect.id == name
    assert defect.level == "sampler"
    assert defect.source
    assert defect.conditions
    assert defect.mechanism.endswith(".")
    assert defect.mechanism.count(". ") == 0, "one sentence"
    assert bool(defect.caught_by) == defect.lossy
    target = toy("recurrent-3x6")
    first, second = (defect.sample(target, draft("perturbed", target), 40, 3).tokens for _ in range(2))
    assert first.shape == (40, 6)
    assert torch.equal(first, second), "a sampler here is a function of its seed"


def test_unknown_names_bring_the_nearest_known_one():
    with pytest.raises(InputError, match="unknown sampler defect 'reseed'; did you mean reseed-per-"):
        samplers.get("reseed")
    with pytest.raises(InputError, match="unknown sampler defect 'zzz'; known: shared-stream-across-requests, "):
        samplers.get("zzz")
