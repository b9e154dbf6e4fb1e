"""Where each identity of continuous acceptance and rejection is tested; z = Sigma^-1/2 (x - mu), Delta between means.

| id | identity |
|---|---|
| C1 | 1 - TV(p, q) = E_q min(1, p/q), for equal covariances 2 Phi(-|Delta| / 2); E_q[p/q] = 1 |
| C2 | reflection: y ~ p, and y = x with probability 1 - TV |
| C3 | thinning p with (1 - q/p)+ succeeds with TV = 1 - b: geometric trials; E[T] = 1, Var[T] = 2 b / (1 - b) |
| C4 | a limit of K fails with b^K given rejection, with (1 - b) b^K <= (1/(K+1)) (K/(K+1))^K of all decisions |
| C5 | acceptance over trajectories is at most that over tokens |
| C6 | shared noise: the mean squared distance of tokens falls by 2 tr sqrt(Sigma_q Sigma_p) |
| C7 | CSpD's ratio is Sigma times that of the last transitions; its mean is that of Sigma |
"""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
IDENTITIES = {
    "C1": [
        "rules/test_rejection.py::test_c1_the_output_density_is_p_and_acceptance_is_one_minus_tv",
        "rules/test_rejection.py::test_c1_the_mean_ratio_is_one",
        "rules/test_reflection.py::test_c1_the_overlap_has_a_closed_form",
        "evidence/test_bounds.py::test_exact_rules_accept_at_the_closed_form_rate",
        "evidence/test_quadrature.py::test_equal_scales_have_the_closed_form_overlap",
        "evidence/test_ratio.py::test_exact_ratios_in_many_dimensions_pass",
    ],
    "C2": [
        "rules/test_reflection.py::test_c2_the_coupled_token_has_density_p",
        "rules/test_reflection.py::test_c2_by_samples",
        "evidence/test_quadrature.py::test_reflection_is_lossless_and_reflecting_always_is_not",
    ],
    "C3": [
        "rules/test_rejection.py::test_c3_decisions_have_law_p_and_cost_one_trial_on_average",
        "rules/test_rejection.py::test_c3_in_more_dimensions_with_the_closed_form_of_the_overlap",
        "evidence/test_trials.py::test_the_rule_takes_one_trial_a_decision_and_its_variance_is_known",
    ],
    "C4": [
        "rules/test_rejection.py::test_c4_a_limit_leaves_what_the_closed_form_says_and_draws_from_p",
        "rules/test_rejection.py::test_c4_the_bound_on_failures_is_their_largest_mass",
        "rules/test_rejection.py::test_c4_the_released_cap_of_100",
    ],
    "C5": [
        "rules/test_trajectory.py::test_c5_trajectories_are_accepted_no_more_often_than_tokens",
        "rules/test_trajectory.py::test_c5_by_samples_where_transitions_share_their_covariance",
        "rules/test_trajectory.py::test_c5_by_samples_where_they_do_not_acceptance_falls_with_every_step",
        "evidence/test_bounds.py::test_acceptance_of_paths_is_at_most_that_of_tokens",
    ],
    "C6": [
        "rules/test_cspd.py::test_c6_shared_noise_brings_tokens_together",
        "rules/test_cspd.py::test_c6_by_quadrature",
    ],
    "C7": [
        "rules/test_cspd.py::test_c7_the_surrogate_is_a_ratio_of_densities_of_two_trajectories",
        "rules/test_cspd.py::test_c7_given_the_noise_the_mean_of_the_surrogate_is_sigma_and_only_one_keeps_the_law",
        "rules/test_cspd.py::test_c7_by_samples_the_true_ratio_has_mean_one_and_the_surrogate_that_of_sigma",
        "evidence/test_ratio.py::test_it_unmasks_the_surrogate",
    ],
}


def functions(file):
    return {node.name: node for node in ast.parse((TESTS / file).read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("identity", IDENTITIES)
def test_every_identity_has_tests_that_assert(identity):
    for place in IDENTITIES[identity]:
        file, name = place.split("::")
        assert name in functions(file), f"{place} is gone; say where {identity} is tested now"
        calls = [getattr(x.func, "id", getattr(x.func, "attr", "")) for x in ast.walk(functions(file)[name])
                 if isinstance(x, ast.Call)]  # fmt: skip
        asserts = any(isinstance(x, ast.Assert) for x in ast.walk(functions(file)[name]))
        assert asserts or any(call.startswith(("assert_", "agrees")) for call in calls), f"{place} asserts nothing"


def test_every_test_that_names_an_identity_is_listed():
    listed = {place for places in IDENTITIES.values() for place in places}
    for file in sorted(path.relative_to(TESTS).as_posix() for path in (TESTS / "rules").glob("test_*.py")):
        for name in functions(file):
            if found := re.match(r"test_c(\d)_", name):
                assert f"{file}::{name}" in listed, f"list {file}::{name} under C{found[1]}"
    assert all(f"| {identity} |" in __doc__ for identity in IDENTITIES)
