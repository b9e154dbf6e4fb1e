"""What a record says that a run cost, against what is known of the run."""

import math

import pytest
import torch

import toymodels
from specverify import costs
from specverify.decoders import Autoregressive, Branch, DraftModel, Run, Speculative, sample
from specverify.evidence.enumerate import enumerate_decoder


def test_figures_of_two_sequences_are_those_worked_out_by_hand():
    def rows(*values):
        return torch.tensor(values)

    accepted, recovered, bonus = Branch.ACCEPTED, Branch.RECOVERED, Branch.BONUS
    branch = torch.tensor([[accepted] * 3 + [recovered] + [bonus] * 2, [accepted] + [recovered] * 3 + [bonus] * 2])
    run = Run(torch.zeros(2, 6, dtype=torch.int64), rows(3, 5), rows(4, 4), rows(3, 1), rows(9, 11), branch)
    found = costs.of_run(run, 6, 0.5, 0)
    assert (found["n"], found["tokens"], found["seconds"], found["tokens_per_second"]) == (2, 12, 0.5, 24)
    assert (found["passes_mean"], found["step_compression"], found["draft_passes_mean"]) == (4, 1.5, 10)
    assert found["passes_interval"] == pytest.approx([4 - 1.96, 4 + 1.96])  # deviation sqrt(2), over sqrt(2)
    assert found["acceptance_rate"] == 0.5
    assert found["acceptance_interval"] == pytest.approx([0.5 - 1.96 / 4, 0.5 + 1.96 / 4])
    assert found["branches"] == {"sampled": 0, "accepted": 4, "recovered": 4, "bonus": 4}
    assert [(row["batch"], row["passes"], row["speedup"]) for row in found["lock_step"]] == [(1, 4, 1.5)]


def test_intervals_of_a_run_hold_the_exact_cost_and_are_no_wider_than_they_need_be(seed):
    """Of 60 runs, at most 10 intervals may miss (95% hold, so that 11 have probability 2e-4)."""
    toy = toymodels.toy("dense-3x6")
    decoder = Speculative(DraftModel(toymodels.draft("perturbed", toy)), 2)
    exact = enumerate_decoder(decoder, toy)
    missed = {"passes": 0, "acceptance": 0}
    for one in range(60):
        run = sample(decoder, toy, 400, seed, first_block=one)
        found = costs.of_run(run, toy.length, 1.0, seed)
        for name, truth in (("passes", exact.passes), ("acceptance", exact.acceptance_rate)):
            low, high = found[f"{name}_interval"]
            missed[name] += not low <= truth <= high
        deviation = float(run.passes.double().std())
        assert found["passes_interval"][1] - found["passes_interval"][0] == pytest.approx(3.92 * deviation / 20)
        assert found["step_compression"] == pytest.approx(toy.length / found["passes_mean"])
    assert max(missed.values()) <= 10, missed


def test_plain_decoding_costs_a_pass_a_token_and_has_no_acceptance():
    toy = toymodels.toy("dense-3x6")
    found = costs.of_run(sample(Autoregressive(), toy, 100, 0), toy.length, 2.0, 0)
    assert (found["passes_mean"], found["step_compression"], found["draft_passes_mean"]) == (6, 1, 0)
    assert found["acceptance_rate"] is found["acceptance_interval"] is None
    assert [row["speedup"] for row in found["lock_step"]] == [1, 1, 1]
    assert costs.finite(math.inf) is None
