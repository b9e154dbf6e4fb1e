"""Logs of a right engine that are wrong, incomplete or just sorted, judged as a user does.

Each is written here, from the tokens of a right decoder: what is wrong is the log.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
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


def by_numbers(numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Tokens picked by inversion, each by the number at its place: laws are right, whatever the numbers share."""
    uniform, length = torch.from_numpy(numbers), MODEL.length
    tokens = torch.zeros(len(numbers), length, dtype=torch.int64)
    for t in range(length):
        edges = MODEL.laws(MODEL.start(len(numbers)), tokens[:, :t])[:, t].double().cumsum(1)
        tokens[:, t] = (edges[:, :-1] <= uniform[:, t, None]).sum(1)
    return {"tokens": tokens.numpy(), "logprobs": MODEL.laws(MODEL.start(len(numbers)), tokens[:, :-1]).log().numpy()}


def five_on() -> np.ndarray:
    """In every third row the numbers from position 19 on are those of five positions before."""
    numbers = np.random.default_rng(1).random((N, 24))
    numbers[::3, 19:] = numbers[::3, 14:19]
    return numbers


def sixty_rows_on() -> np.ndarray:
    """A fifth of the rows have the numbers of sixty rows before, moved by two positions."""
    numbers = np.random.default_rng(2).random((N, 24))
    for row in range(60, N, 5):
        numbers[row, 2:] = numbers[row - 60, :-2]
    return numbers


def told_by_the_least(log: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The smallest form of a log, as its documentation says."""
    p = np.exp(log["logprobs"].astype(np.float64))
    p /= p.sum(2, keepdims=True)
    x, surprisal = log["tokens"][..., None], -np.log(p)
    entropy, own = (p * surprisal).sum(2), np.take_along_axis(p, x, 2)
    ahead = (p * ((p > own) | ((p == own) & (np.arange(p.shape[2]) < x)))).sum(2)
    return {
        "tokens": log["tokens"],
        "logprob": np.log(own[..., 0]),
        "entropy": entropy,
        "variance": (p * (surprisal - entropy[..., None]) ** 2).sum(2),
        "pit_low": ahead,
        "pit_high": ahead + own[..., 0],
        "below": (p * (np.arange(p.shape[2]) < x)).sum(2),
    }


CASES = {
    "right": (lambda right: right, "CONSISTENT", "108,000 had a choice"),
    "right-numbers": (
        lambda _: told_by_the_least(by_numbers(np.random.default_rng(0).random((N, 24)))),
        "CONSISTENT",
        "108,000 had",
    ),
    "five-on": (lambda _: by_numbers(five_on()), "REFUTED", "most dependent: positions i and i + 5 of a row"),
    "five-on-least": (lambda _: told_by_the_least(by_numbers(five_on())), "REFUTED", "positions i and i + 5 of a row"),
    "sixty-rows-on": (lambda _: by_numbers(sixty_rows_on()), "REFUTED", "moved by 2 positions"),
    "sixty-rows-on-sorted": (lambda _: sorted_by_last(by_numbers(sixty_rows_on())), "REFUTED", "moved by 2 positions"),
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
