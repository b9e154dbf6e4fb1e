"""Targets of one's own in files of arrays, and one toy out of all: for decoders and samplers, on the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from specverify.claims import Lossless
from specverify.decoders import Autoregressive, DraftModel, Speculative, sample
from specverify.errors import InputError, OptionError
from specverify.evidence.budget import Budget
from specverify.evidence.sequences import target_law
from specverify.subjects import target_file
from specverify.subjects.decoder import judge_decoder
from specverify.subjects.here import judge_here
from specverify.subjects.resolve import resolve
from specverify.subjects.sampler import judge_sampler
from specverify.verdict import Kind

P0 = [0.5, 0.3, 0.2]
P1 = [[0.1, 0.2, 0.7], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.25, 0.75]]


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "mine.npz", p0=P0, p1=P1)
    return str(tmp_path / "mine.npz")


def test_a_file_holds_the_law_after_every_prefix(path):
    model = target_file.load(path)
    assert (model.name, model.vocab, model.length, model.eos) == ("mine", 3, 2, None)
    due = np.array(P0)[:, None] * np.array(P1)
    np.testing.assert_allclose(target_law(model).reshape(3, 3), due, atol=1e-15)
    laws = model.laws(model.start(1), torch.tensor([[1]]))
    np.testing.assert_allclose(laws[0, 1], P1[1], atol=1e-15)


def test_weights_are_simple_fractions_or_the_numbers_themselves(tmp_path, path):
    weights = target_file.weights(target_file.load(path))
    assert weights.weights == ((5, 3, 2), (1, 2, 7), (1, 1, 1), (0, 1, 3))
    odd = [1 / np.pi, 1 - 1 / np.pi]
    np.savez(tmp_path / "odd.npz", p0=odd)
    again = target_file.weights(target_file.load(tmp_path / "odd.npz")).model()
    assert again.table[0].tolist() == pytest.approx(odd, abs=1e-16)


def test_behind_an_end_nothing_is_looked_at(tmp_path):
    np.savez(tmp_path / "end.npz", p0=[0.5, 0.5], p1=[[0.5, 0.5], [np.nan, 7.0]], eos=1)
    model = target_file.load(tmp_path / "end.npz")
    assert model.eos == 1
    assert model.table[2].tolist() == [0.5, 0.5]


WRONG = {
    "no array": ({}, "holds the arrays of no position; write p0, p1"),
    "a gap": ({"p0": P0, "p2": P1}, "holds the arrays p0, p2; write p0, p1, p2 and so on"),
    "another name": ({"p0": P0, "q1": P1}, "holds the arrays p0, q1"),
    "a first law with a prefix": ({"p0": P1}, r"p0 has the shape \(3, 3\); it is the first token's law"),
    "another shape": ({"p0": P0, "p1": P0}, r"p1 has the shape \(3,\) and float64; with 3 tokens it is Float\[3, 3\]"),
    "text": ({"p0": P0, "p1": [["a"] * 3] * 3}, "p1 has the shape .* and <U1"),
    "a sum": ({"p0": P0, "p1": [P0, [0.3, 0.3, 0.3], P0]}, r"p1\[1\] is \[0.3, 0.3, 0.3\], which sums to 0.9; a "),
    "below 0": ({"p0": [1.5, -0.5]}, r"p0 is \[1.5, -0.5\], which sums to 1; a law has numbers of at least 0"),
    "nan": ({"p0": [np.nan, 1.0]}, "which sums to nan"),
    "an end that is none": ({"p0": P0, "eos": 3}, "eos is 3; with 3 tokens it is one of 0..2"),
    "half an end": ({"p0": P0, "eos": 0.5}, "eos has the shape .* and float64; it is one integer"),
    "too much": ({f"p{k}": np.full((2,) * (k + 1), 0.5) for k in range(17)}, "more than 65,536 sequences"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_target_says_so(tmp_path, what):
    arrays, says = WRONG[what]
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(InputError, match=says):
        target_file.load(tmp_path / "wrong.npz")


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent.npz: no such file"):
        target_file.load(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("p0")
    with pytest.raises(InputError, match=r"text.npz is no file of arrays .*; write it with numpy.savez"):
        target_file.load(tmp_path / "text.npz")


def lenient(target, draft, n, seed):
    """Takes the draft model for the target in the last position."""
    first = sample(Autoregressive(), target, n, seed).tokens
    other = sample(Autoregressive(), draft, n, seed + 1).tokens
    return torch.cat([first[:, :-1], other[:, -1:]], 1)


def plain(target, draft, n, seed):
    return sample(Speculative(DraftModel(draft), 2), target, n, seed).tokens


def test_a_sampler_is_judged_on_it(path):
    found = judge_sampler(plain, target=path, delta=0.1, alpha=1e-4, beta=1e-2, exact=False)
    assert found.verdict.kind is Kind.CONSISTENT
    assert judge_sampler(lenient, target=path, delta=0.1, alpha=1e-4, beta=1e-2).verdict.kind is Kind.REFUTED


@pytest.mark.slow
@pytest.mark.slow
def test_a_decoder_is_proved_on_it_and_on_one_toy(path):
    found = judge_decoder(Autoregressive, target=path, examples=1)
    assert found.verdict.kind.exit_code == 0
    assert any(row["model"] == "drawn, 3 tokens" and row["window"] is None for row in found.exact)
    one = judge_decoder(Autoregressive, toy="ties-3x5", examples=1)
    assert {row["model"] for row in one.exact if not row["model"].startswith("drawn")} == {"ties-3x5"}


class OnlyThere(Autoregressive):
    """Wrong where the law is that of the file."""

    def step(self, state, model, draws):
        wrong = hasattr(model, "table") and bool((model.table == 0.7).any())
        return super().step(state, Wrong(model) if wrong else model, draws)


class Wrong:
    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def laws(self, context, draft):
        return self.inner.laws(context, draft) ** 2


def test_a_defect_that_only_this_target_shows_is_found(path):
    assert judge_decoder(OnlyThere, Lossless(), target=path, examples=1).verdict.kind is Kind.REFUTED
    assert judge_decoder(OnlyThere, Lossless(), toy="dense-2x8", examples=1).verdict.kind.exit_code == 0


@pytest.mark.slow
def test_what_could_not_be_enumerated_is_not_proved_elsewhere():
    found = judge_decoder(Autoregressive, toy="dense-4x6", examples=1, budget=Budget(worlds=300))
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert "could not be enumerated" in found.verdict.reason


def test_options_that_do_not_go_together_are_refused(path):
    sjd = resolve("sjd")
    with pytest.raises(InputError, match="give a toy or a target, not both"):
        judge_here(sjd, options={"toy": "dense-2x8", "target": path})
    with pytest.raises(InputError, match="unknown toy model 'dense-2x9'"):
        judge_here(sjd, options={"toy": "dense-2x9"})
    with pytest.raises(InputError, match=r"a decoder's is a file of laws, TABLE.npz; a toy is chosen with --toy"):
        judge_here(sjd, options={"target": "dense-2x8|top_k=1"})
    with pytest.raises(OptionError, match="toy 'gauss-1x6' has no ids"):
        judge_decoder(sjd, toy="gauss-1x6")


@pytest.mark.slow
@pytest.mark.thinned(2)
@pytest.mark.parametrize("asked", [("--target", "mine.npz"), ("--toy", "dense-2x8")])
def test_the_command_line_takes_both(path, tmp_path, asked):
    command = [sys.executable, "-m", "specverify.cli", "validate", "ar", *asked, "--seconds", "3", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert " ".join(asked) in json.loads(ended.stdout)["reproduce"]
