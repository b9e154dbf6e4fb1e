"""Every known-wrong sampler is refuted where it shows, at a place and for what it is; every control passes."""

from __future__ import annotations

import pytest

from specverify.defects import samplers
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_suite import Case, small, standard
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from toymodels import draft, toy

LOSSY = [name for name in samplers.names() if samplers.get(name).lossy]
CONTROLS = [name for name in samplers.names() if not samplers.get(name).lossy]
ALONE = {"shared-stream-across-requests", "shared-coins-across-rows", "row-streams-of-consecutive-seeds",
         "reseed-per-call", "reseed-per-batch"}  # fmt: skip
"""Those whose sequences are right one by one."""
APART = {"noise-ring-across-positions", "noise-from-rows-before", "small-batches-take-another-path",
         "last-row-unmasked"}  # fmt: skip
"""Those that show in pairs of tokens, or in some rows, rather than behind a prefix."""


def on(*names):
    """Those cases of the standard suite, in this order; the whole suite takes some seconds for each defect."""
    return tuple(next(case for case in standard() if case.target.name.startswith(name)) for name in names)


SHORT = Shortened(toy("hash-16x24"), 8)
WHERE = dict.fromkeys(LOSSY, on("sparse", "switch", "eos")) | {
    "row-streams-of-consecutive-seeds": (Case(SHORT, draft("perturbed", SHORT)),),
    "reseed-per-batch": on("hash"),
    "params-dropped-on-spec-path": on("eos", "skew"),
    "processor-state-shared-by-copy": on("sparse", "penalty"),
    "penalty-counts-last-token-only": on("sparse", "penalty"),
    "cache-not-trimmed": on("sparse", "recurrent"),
    "rotating-cache-stale-keys": on("sparse", "recurrent"),
    "verify-kernel-argmax-flip": on("sparse", "ties"),
    "noise-ring-across-positions": on("sparse", "hash"),
    "noise-from-rows-before": on("sparse"),
    "guidance-unconditional-last-token": on("sparse", "guided"),
    "guidance-unconditional-other-row": on("sparse", "guided"),
    "guidance-scale-off-by-one": on("sparse", "guided"),
    "cut-law-not-renormalised": on("sparse", "skew"),
    "uniform-24bit-tail-truncation": on("zero", "dense-8x3"),
}


@pytest.mark.parametrize("name", LOSSY)
def test_a_defect_is_refuted(name):
    # A call must hold more rows than the server takes at once.
    delta = 0.02 if name == "reseed-per-batch" else 0.05
    found = judge_sampler(samplers.get(name).sample, suite=WHERE[name], delta=delta, name=name, exact=False)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert found.subject == name
    independent = "sequences are not independent" not in found.verdict.reason
    if name in ALONE:
        assert not independent or "calls with other seeds give the same sequences" in found.verdict.reason
    elif name in APART:
        caught = samplers.get(name).caught_by
        assert any(item.rejected for item in found.evidence if item.check.endswith(caught))
    elif name != "unseeded-rows-uninitialised-noise":
        assert independent
        assert found.location is not None
        assert found.location["certain"]


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_not(name):
    found = judge_sampler(samplers.get(name).sample, suite=small(), delta=0.1, exact=False)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
