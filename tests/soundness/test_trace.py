"""Logs of a right engine that are wrong, incomplete or just sorted, judged as a user does.

Each is written here, from the tokens of a right decoder: what is wrong is the log.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from soundness.judging import validate

from specverify.decoders import DraftModel, Speculative, sample
from toymodels import draft, toy

MODEL = toy("hash-16x24")
N = 4500


def log() -> dict[str, np.ndarray]:
    tokens = sample(Speculative(DraftModel(draft("perturbed", MODEL)), 3), MODEL, N, 7).tokens
    laws = MODEL.laws(MODEL.start(N), tokens[:, :-1])
    return {"tokens": tokens.numpy(), "logprobs": laws.log().numpy()}


def first_of_each_four(right: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Only the first token of each four has its law; the others are logged as certain."""
    sure = np.full_like(right["logprobs"], -np.inf)
    np.put_along_axis(sure, right["tokens"][..., None], 0.0, 2)
    return dict(right, logprobs=np.where(np.arange(24)[:, None] % 4 == 0, right["logprobs"], sure))


def emitted_alone(right: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    ids = right["tokens"][..., None]
    return {"tokens": right["tokens"], "top_ids": ids, "top_logprobs": np.take_along_axis(right["logprobs"], ids, 2)}


def one_copy(right: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    changed = {name: array.copy() for name, array in right.items()}
    for array in changed.values():
        array[1234] = array[77]
    return changed


def sorted_by_last(right: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    order = np.lexsort((right["tokens"][:, 0], right["tokens"][:, -1]))
    return {name: array[order] for name, array in right.items()}


CASES = {
    "right": (lambda right: right, "CONSISTENT", "108,000 had a choice"),
    "sorted": (sorted_by_last, "CONSISTENT", "108,000 had a choice"),
    "first-of-four": (first_of_each_four, "INCONCLUSIVE", "27,000 had a choice"),
    "emitted-alone": (emitted_alone, "INCONCLUSIVE", "is the emitted token everywhere"),
    "one-copy": (one_copy, "REFUTED", "1 of 4500 rows repeat an earlier one"),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_log_is_judged_by_what_it_can_show(name: str, tmp_path: Path) -> None:
    change, kind, words = CASES[name]
    np.savez(tmp_path / f"{name}.npz", **change(log()))
    found = validate(str(tmp_path / f"{name}.npz"), tmp_path / "out")
    assert found["verdict"]["kind"] == kind, found["verdict"]["reason"]
    assert words in found["verdict"]["reason"]
    assert found["not_covered"]
