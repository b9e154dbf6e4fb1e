"""Traces: right ones pass at their rates, wrong ones are refuted and placed, in every form of the file."""

import functools
import re

import numpy as np
import pytest
import safetensors.torch
import torch

from specverify.claims import Relaxed
from specverify.decoders import DraftModel, Speculative, sample
from specverify.defects import samplers
from specverify.errors import BudgetError, InputError
from specverify.evidence import borrowed
from specverify.evidence.result import KOLMOGOROV
from specverify.subjects import trace, trace_file
from specverify.subjects.trace import judge_trace
from specverify.verdict import Kind
from toymodels import draft, toy

MODEL = toy("hash-16x24")
DRAFT = draft("perturbed", MODEL)


@functools.lru_cache
def arrays(n, seed=0, name="speculative"):
    tokens = samplers.get(name).sample(MODEL, DRAFT, n, seed).tokens
    return {"tokens": tokens.numpy(), "logprobs": MODEL.laws(MODEL.start(n), tokens[:, :-1]).log().numpy()}


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch):
    """Rows that are held against each other, of which these tests need no more."""
    monkeypatch.setattr(borrowed, "BUDGET", 1 << 18)


@pytest.fixture(scope="module")
def right():
    return arrays(3000)


def top(full, k):
    logprobs = torch.from_numpy(full["logprobs"])
    values, ids = logprobs.topk(k, dim=-1)
    return {"tokens": full["tokens"], "top_ids": ids.numpy(), "top_logprobs": values.numpy()}


def namespace():
    """The writer that the documentation shows."""
    code = [line[4:] for line in trace.__doc__.splitlines() if line.startswith("    ")]
    start = code.index("import numpy as np")
    assert len([line for line in code[start:] if line.strip()]) <= 20
    names = {}
    exec("\n".join(code[start:]), names)
    return names


def written(full, tmp_path):
    small = {name: value[:400] for name, value in full.items()}
    namespace()["write"](tmp_path / "trace.npz", small["tokens"], small["logprobs"])
    return small, tmp_path / "trace.npz"


@pytest.mark.slow
def test_a_right_trace_is_consistent(right):
    found = judge_trace(right, delta=0.03)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert (found.level, found.claim, found.subject) == ("trace", "lossless", "arrays")
    assert sum(item.alpha for item in found.evidence) == pytest.approx(1e-6)
    (main,) = (item for item in found.evidence if item.check == "PIT uniformity")
    assert (main.n, main.metric) == (72_000, KOLMOGOROV)
    assert main.delta <= 0.03
    blurred = judge_trace(right, delta=0.001).verdict
    assert blurred.kind is Kind.INCONCLUSIVE
    remedy = r"some ([\d,]+) tokens that had a choice would do, or --delta ([\d.]+)"
    tokens, delta = re.search(remedy, blurred.reason).groups()
    assert int(tokens.replace(",", "")) > 10 * right["tokens"].size
    assert judge_trace(right, delta=float(delta)).verdict.kind is Kind.CONSISTENT
    assert found.notes[0] == "72,000 tokens of 3,000 sequences, 72,000 had a choice; full laws"
    assert found.verdict.reason.endswith("(72,000 tokens, of which 72,000 had a choice)")
    assert len(found.not_covered) >= 2


@pytest.mark.parametrize(
    ("name", "n", "position"),
    [("cache-not-trimmed", 640, 1), ("shared-coins-across-rows", 3000, None), ("reseed-per-batch", 192, None)],
)
def test_a_wrong_engine_is_refuted(name, n, position):
    found = judge_trace(arrays(n, name=name))
    assert found.verdict.kind is Kind.REFUTED
    assert found.location["refuting checks"]
    if position is not None:
        assert (found.location["position"], found.location["certain"]) == (position, True)
    if name == "reseed-per-batch":
        assert "repeated rows" in found.location["refuting checks"]


def test_temperature_is_told_from_its_direction(right):
    colder = dict(right)
    colder["logprobs"] = torch.from_numpy(right["logprobs"] * 0.9).log_softmax(-1).numpy()
    found = judge_trace(colder)
    assert found.verdict.kind is Kind.REFUTED
    assert found.location["direction"] == "likely tokens come too often"
    assert found.location["excess surprisal"] < 0


def test_an_impossible_token_is_named(right):
    wrong = {name: value[:50].copy() for name, value in right.items()}
    token = wrong["tokens"][7, 3]
    wrong["logprobs"][7, 3, token] = -np.inf
    law = torch.from_numpy(wrong["logprobs"][7, 3]).log_softmax(-1)
    wrong["logprobs"][7, 3] = law.numpy()
    found = judge_trace(wrong)
    assert found.verdict.kind is Kind.REFUTED
    assert found.location["direction"] == "1 token of probability 0"
    assert "1 token of probability 0" in found.verdict.reason


def test_all_forms_of_one_trace_tell_the_same(right, tmp_path):
    small, path = written(right, tmp_path)
    full, reduced = judge_trace(small, seed=3), judge_trace(path, seed=3)
    listed = judge_trace(top(small, 16), seed=3)
    by_name = [{item.check: item for item in found.evidence} for found in (full, reduced, listed)]
    for check in ("PIT uniformity", "surprisal", "leaks", "repeated rows"):
        statistics = [evidence[check].statistic for evidence in by_name]
        assert statistics[0] == pytest.approx(statistics[1], rel=1e-6)
    assert by_name[0]["surprisal"].statistic == pytest.approx(by_name[2]["surprisal"].statistic, rel=1e-6)
    assert "tempering" not in by_name[1]
    assert any("tempering" in note for note in reduced.not_covered)
    assert [found.notes[0].split("; ")[1] for found in (full, reduced, listed)] == [
        "full laws",
        "reduced laws",
        "the most probable tokens and the rest as one outcome",
    ]


@pytest.mark.parametrize("k", [1, 4])
def test_the_most_probable_tokens_are_enough_to_refute(right, k):
    assert judge_trace(top(right, k)).verdict.kind is not Kind.REFUTED
    wrong = arrays(3000, name="cache-not-trimmed")
    assert judge_trace(top(wrong, k)).verdict.kind is Kind.REFUTED


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_safetensors_file_of_any_precision(right, tmp_path, dtype):
    path = tmp_path / "trace.safetensors"
    small = {name: torch.from_numpy(value[:500]) for name, value in right.items()}
    safetensors.torch.save_file({"tokens": small["tokens"].int(), "logprobs": small["logprobs"].to(dtype)}, path)
    found = judge_trace(path)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert found.verdict.reason.startswith("delta = 0.0508 (Kolmogorov distance)"), "what there is is what is seen"
    fine = judge_trace(path, delta=0.02)
    assert fine.verdict.kind is Kind.INCONCLUSIVE, fine.verdict.reason
    assert "not the 0.02 asked for: some 77," in fine.verdict.reason
    assert found.subject == str(path)
    coarse = any("16 bits" in note for note in found.notes)
    assert coarse == (dtype is not torch.float32)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("block", [7, 16 * 24 * 3, 1 << 23])
def test_blocks_of_any_size_give_the_same(right, tmp_path, monkeypatch, compressed, block):
    small = {name: value[:24] for name, value in right.items()}
    (np.savez_compressed if compressed else np.savez)(tmp_path / "trace.npz", **small)
    safetensors.torch.save_file(
        {name: torch.from_numpy(value) for name, value in small.items()}, tmp_path / "trace.safetensors"
    )
    whole = judge_trace(small)
    monkeypatch.setattr(trace_file, "BLOCK", block * 16)
    for source in (small, tmp_path / "trace.npz", tmp_path / "trace.safetensors"):
        found = judge_trace(source)
        assert [item.statistic for item in found.evidence] == pytest.approx([item.statistic for item in whole.evidence])


def test_no_more_than_a_block_is_read_at_once(right, tmp_path, monkeypatch):
    np.savez(tmp_path / "trace.npz", **{name: value[:40] for name, value in right.items()})
    monkeypatch.setattr(trace_file, "BLOCK", 16 * 24 * 4)
    largest = []
    original = trace_file.reduce

    def watched(laws, tokens, generator, **options):
        largest.append(laws.numel())
        return original(laws, tokens, generator, **options)

    monkeypatch.setattr(trace_file, "reduce", watched)
    judge_trace(tmp_path / "trace.npz")
    assert len(largest) == 10
    assert max(largest) == 16 * 24 * 4


def test_rows_that_end_count_up_to_their_end():
    model = toy("eos-3x6")
    run = sample(Speculative(DraftModel(draft("perturbed", model)), 3), model, 20_000, 0)
    logprobs = model.laws(model.start(20_000), run.tokens[:, :-1]).log()
    ended = (run.tokens == 2).int()
    lengths = torch.where(ended.any(1), ended.argmax(1) + 1, model.length)
    # Behind the end an engine logs what it likes.
    beyond = torch.arange(model.length) >= lengths[:, None]
    source = {
        "tokens": run.tokens.masked_fill(beyond, 0),
        "logprobs": logprobs.masked_fill(beyond[..., None], torch.nan),
        "lengths": lengths,
    }
    found = judge_trace(source, delta=0.03)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert found.notes[0].startswith(f"{int(lengths.sum()):,} tokens")
    cut = dict(source, lengths=(lengths - (run.tokens.gather(1, lengths[:, None] - 1)[:, 0] == 2).long()))
    assert judge_trace(cut).verdict.kind is Kind.REFUTED, "a row that stops before its end of sequence is biased"


def damaged(full, **changes):
    small = {name: value[:5].copy() for name, value in full.items()}
    return {name: value for name, value in (small | changes).items() if value is not None}


LAW = np.full((5, 24, 16), -np.log(16))
FLAT = np.full((5, 24), -np.log(16))
TOP = {"logprobs": None, "top_ids": np.tile(np.arange(3), (5, 24, 1)), "top_logprobs": LAW[..., :3]}
REDUCED = {
    "logprobs": None,
    "logprob": FLAT,
    "entropy": -FLAT,
    "variance": 0 * FLAT,
    "pit_low": 0 * FLAT,
    "pit_high": 0 * FLAT + 1 / 16,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logprobs": None}, "the trace holds tokens; it needs tokens, and logprobs, or top_ids and top_logprobs, or"),
        ({"tokens": None}, "the trace holds logprobs; it needs tokens"),
        ({"tokens": np.zeros(5, int)}, r"tokens have shape \(5,\); a trace has Int\[sequences, length\]"),
        ({"tokens": np.zeros((5, 24))}, "tokens has dtype float64; give ids, as integers"),
        ({"tokens": np.full((5, 24), -1)}, "tokens hold -1, first in row 0 at position 0; ids are at least 0"),
        ({"tokens": np.full((5, 24), 16)}, "tokens hold 16, but logprobs are of 16 tokens, first in row 0 at"),
        (
            {"logprobs": LAW[:4]},
            r"logprobs has shape \(4, 24, 16\); with tokens \(5, 24\) it must be \(5, 24\) and one",
        ),
        ({"logprobs": FLAT}, r"logprobs has shape \(5, 24\)"),
        ({"logprobs": LAW.astype(int)}, "logprobs has dtype int64; log-probabilities are floating point"),
        ({"logprobs": LAW * np.nan}, "logprobs holds NaN, first in row 0 at position 0"),
        ({"logprobs": LAW + 3}, "logprobs holds 0.2274, first in row 0 at position 0; log-probabilities are at most 0"),
        ({"logprobs": LAW - 1}, "logprobs do not sum to 1 in probability: they are off by 0.632"),
        ({"logprobs": np.array([object()] * 5)}, "logprobs holds objects; give an array of numbers"),
        ({"lengths": np.full(5, 25)}, r"lengths have shape \(5,\) and hold 25..25; give one for each of the 5"),
        ({"lengths": np.full(4, 2)}, r"lengths have shape \(4,\)"),
        ({"branch": np.zeros((5, 3), int)}, r"branch has shape \(5, 3\), tokens \(5, 24\)"),
        ({"branch": np.full((5, 24), 7)}, "branch holds 7, first in row 0 at position 0; it is 0 none, 1 sampled"),
        (TOP | {"top_ids": np.zeros((5, 24, 3), int)}, "top_ids name a token twice at one position"),
        (TOP | {"top_logprobs": LAW[..., :3] + 2.5}, "top_logprobs sum to 2.28"),
        (TOP | {"top_ids": np.zeros((5, 24), int)}, r"top_ids has shape \(5, 24\)"),
        (REDUCED | {"pit_high": 0 * FLAT + 0.5}, "pit_high - pit_low differs from exp.logprob. by up to 0.438"),
        (REDUCED | {"pit_low": 0 * FLAT - 1}, "pit_low and pit_high lie between 0 and 1"),
        (REDUCED | {"entropy": FLAT}, "entropy and variance are at least 0"),
        (REDUCED | {"variance": FLAT * np.nan}, "variance holds NaN, first in row 0 at position 0"),
        (REDUCED | {"logprob": FLAT.astype(int)}, "logprob has dtype int64; it is floating point"),
    ],
)
def test_what_is_no_trace_says_so(right, changes, message):
    with pytest.raises(InputError, match=message):
        judge_trace(damaged(right, **changes))


@pytest.mark.parametrize("block", [5, 24, 1 << 23])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("logprobs", np.nan, "logprobs holds NaN, first in row 3 at position 17"),
        ("logprobs", 0.5, "logprobs holds 0.5, first in row 3 at position 17"),
        ("logprobs", -1e-5, "they are off by .*, first in row 3 at position 17; log them normalised"),
        ("tokens", 99, "tokens hold 99, but logprobs are of 16 tokens, first in row 3 at position 17"),
        ("tokens", -7, "tokens hold -7, first in row 3 at position 17"),
    ],
)
def test_what_is_wrong_in_a_log_is_named_by_its_row_and_position(right, monkeypatch, block, name, value, said):
    monkeypatch.setattr(trace_file, "BLOCK", 16 * block)
    log = damaged(right)
    for row, position in ((3, 17), (4, 2)):
        log[name][row, position] = value
    with pytest.raises(InputError, match=said):
        judge_trace(log)


def test_what_is_wrong_in_lists_and_reduced_laws_is_named_by_its_place(right):
    twice, large, low = (damaged(right, **changes) for changes in (TOP, TOP, REDUCED))
    twice["top_ids"] = twice["top_ids"].copy()
    twice["top_ids"][2, 5] = 1
    large["top_logprobs"] = large["top_logprobs"].copy()
    large["top_logprobs"][2, 5] = -0.1
    low["pit_low"] = low["pit_low"].copy()
    low["pit_low"][2, 5] = -0.5
    below = damaged(right, **REDUCED, below=np.where(np.arange(24) == 5, 1.5, 0.5) * np.ones((5, 1)))
    for log, row in ((twice, 2), (large, 2), (low, 2), (below, 0)):
        with pytest.raises(InputError, match=f"first in row {row} at position 5"):
            judge_trace(log)
    with pytest.raises(InputError, match=r"below has shape \(5, 3\)"):
        judge_trace(damaged(right, **REDUCED, below=FLAT[:, :3]))


def test_arrays_that_are_not_known_are_named(right):
    assert "not used: temperature" in judge_trace(damaged(right, temperature=np.ones(1))).notes


def test_files_that_are_no_trace_say_so(right, tmp_path):
    with pytest.raises(InputError, match=re.escape(f"there is no file {tmp_path / 'none.npz'}")):
        judge_trace(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("tokens")
    with pytest.raises(InputError, match="is neither npz nor safetensors"):
        judge_trace(str(tmp_path / "text.npz"))
    np.savez(tmp_path / "whole.npz", tokens=np.zeros((4, 4), dtype=np.int64))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    with pytest.raises(InputError, match="it was cut short"):
        judge_trace(tmp_path / "cut.npz")
    np.savez(tmp_path / "pickled.npz", tokens=np.array([{"a": 1}], dtype=object), logprobs=LAW)
    with pytest.raises(InputError, match="tokens holds objects; give an array of numbers"):
        judge_trace(tmp_path / "pickled.npz")
    small = damaged(right)
    np.savez(tmp_path / "fortran.npz", tokens=small["tokens"], logprobs=np.asfortranarray(small["logprobs"]))
    np.savez(tmp_path / "whole.npz", **small)
    assert judge_trace(tmp_path / "fortran.npz").evidence == judge_trace(tmp_path / "whole.npz").evidence
    data = bytearray((tmp_path / "whole.npz").read_bytes())
    place = data.index(small["logprobs"].tobytes()[:64]) + 8
    data[place] ^= 255
    (tmp_path / "flipped.npz").write_bytes(data)
    with pytest.raises(InputError, match="logprobs is damaged"):
        judge_trace(tmp_path / "flipped.npz")


def test_other_claims_and_too_little_time_say_so(right):
    with pytest.raises(InputError, match="a trace tests losslessness; it cannot judge the claim relaxed"):
        judge_trace(right, Relaxed(0.1))
    with pytest.raises(BudgetError, match="the time was up after 0 of 72,000 tokens; give more seconds"):
        judge_trace(right, seconds=0.0)
    with pytest.raises(InputError, match="delta is 0; a discrepancy in Kolmogorov distance"):
        judge_trace(right, delta=0)
