"""Models that keep their word, and models with one slip each, of the kinds that key-value caches invite."""

import dataclasses

import findings
import folders
import pytest
import torch

import toymodels
from realmodels import session
from realmodels.models import open_model
from realmodels.ragged import Ragged
from specverify.conformance import conformance
from specverify.errors import ContractError, InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.causal(tmp_path_factory.mktemp("tiny") / "causal", grid=(3, 4))


@pytest.fixture
def model(folder):
    return open_model(folder, guidance=3.0, conditions=folders.prompts(4))


def slip(monkeypatch, owner, name, changed):
    right = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args: changed(right, *args))


def test_a_right_model_conforms_and_says_what_was_compared(model):
    found = conformance(model, batch=3)
    assert found.ok, str(found)
    assert found.checks == (
        "like",
        "own",
        "alone",
        "batch",
        "windows",
        "rejection",
        "lengths",
        "selection",
        "forks",
        "twins",
        "end",
        "starts",
        "conditions",
        "memory",
        "guidance",
        "waiting",
    )
    assert 0 < found.largest < 1e-4
    found.demand()
    assert "no law differs by more than 0.0001" in str(found)


@pytest.mark.parametrize("name", ["dense-3x6", "eos-3x6"])
def test_toys_conform(name):
    found = conformance(toymodels.toy(name))
    assert found.ok, str(found)
    assert "guidance" not in found.checks


def test_digits_conform_at_both_ends():
    found = conformance(open_model("digits-s", guidance=1.5), batch=2, positions=8)
    assert found.ok, str(found)


def one_position(right, self, slots):
    """Every draft of a window has the position of the first."""
    return right(self, slots)[:, :1].expand_as(slots)


def first_rows_position(right, self, slots):
    """All rows have the position of the first one, as if none were longer."""
    return right(self, slots)[:1].expand_as(slots)


def see_next(right, self, slots):
    """A mask off by one: each draft sees the next one."""
    return right(self, slots) | right(self, slots + 1)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("name", "changed", "checks"),
    [
        ("visible", see_next, {"windows", "rejection", "lengths", "selection"}),
        ("positions", one_position, {"windows", "rejection", "lengths", "selection"}),
        ("positions", first_rows_position, {"lengths", "selection"}),
    ],
)
def test_a_slip_in_what_a_pass_is_told_is_found(model, monkeypatch, name, changed, checks):
    slip(monkeypatch, session.Session, name, changed)
    found = conformance(model.like(conditions=[[1, 9, 2]], guidance=1.0), batch=3)
    assert checks <= findings.checks_of(found)
    assert all("at position" in sentence and "of row" in sentence for sentence in found.findings)
    with pytest.raises(ContractError, match="total variation"):
        found.demand()


def count_rejected(right, self, context, tokens, count):
    """A cache that is not rolled back: rejected drafts count as read."""
    after = right(self, context, tokens, count)
    return dataclasses.replace(after, length=context.length + tokens.shape[1] * (count > 0))


def next_rows_length(right, self, context, tokens, count):
    after = right(self, context, tokens, count)
    return dataclasses.replace(after, length=after.length.roll(1))


def token_before_the_last(right, self, context, tokens, count):
    before = tokens.gather(1, (count - 2).clamp(min=0)[:, None])[:, 0]
    return dataclasses.replace(right(self, context, tokens, count), pending=before)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("changed", "check"),
    [(count_rejected, "rejection"), (next_rows_length, "lengths"), (token_before_the_last, "windows")],
)
def test_a_slip_in_advancing_is_found(model, monkeypatch, changed, check):
    slip(monkeypatch, session.ImageTransformer, "advance", changed)
    assert check in findings.checks_of(conformance(model.like(guidance=1.0), batch=3))


def test_rows_that_are_not_gathered_are_found(model, monkeypatch):
    slip(monkeypatch, Ragged, "select", lambda right, self, index: None)
    found = conformance(model, batch=3)
    assert {"selection", "error"} & findings.checks_of(found)
    sentence = next(one for one in found.findings if "error: " in one)
    assert sentence.startswith("with guidance and without, error: the model raised RuntimeError")
    assert "in the check `selection`; a context's rows are dropped, doubled and put in another order" in sentence


def lone_tokens_at_the_first_rows_place(right, self, slots):
    """A short way for one token a pass, written as if rows never had different lengths."""
    found = right(self, slots)
    return found if found.shape[1] > 1 else found[:1].expand_as(found)


def test_a_short_way_for_one_token_is_taken_with_rows_at_different_lengths(model, monkeypatch):
    slip(monkeypatch, session.Session, "positions", lone_tokens_at_the_first_rows_place)
    found = conformance(model.like(guidance=1.0, conditions=[[1, 9, 2]]), batch=3)
    assert {"lengths", "forks"} <= findings.checks_of(found) <= {"lengths", "selection", "forks", "twins"}
    assert all("in a window of 0, with rows at different lengths" in sentence for sentence in found.findings)


def test_rows_of_one_condition_are_told_from_rows_that_heed_theirs(model, monkeypatch):
    one = conformance(model.like(conditions=[[1, 9, 2]]), batch=3)
    assert one.ok
    assert "conditions" not in one.checks
    assert "3 rows of one condition and 1 to 6 of them" in str(one)
    assert str(one).endswith("Not looked at: the condition of another row in the place of its own")
    right = model.network.prompt
    monkeypatch.setattr(model.network, "prompt", lambda condition: right([1, 9, 2]))
    same = conformance(model.like(guidance=1.0, conditions=folders.prompts(4)), batch=3)
    (sentence,) = same.findings
    assert sentence.startswith("conditions: behind the same ")
    assert "laws of row 1" in sentence


def test_swapped_guidance_is_found_and_named(model, monkeypatch):
    slip(monkeypatch, type(model.network), "guide", lambda right, self, c, u, s: right(self, u, c, s))
    (sentence,) = conformance(model, batch=3).findings
    assert sentence.startswith("guidance: at position ")
    assert sentence.endswith("they fit the law with the two rows swapped")


def test_guidance_by_the_row_beside_is_found(model, monkeypatch):
    slip(monkeypatch, type(model.network), "guide", lambda right, self, c, u, s: right(self, c, u.roll(1, 0), s))
    assert any(sentence.startswith("batch: at position") for sentence in conformance(model, batch=3).findings)


def test_guidance_without_effect_is_found(model):
    found = conformance(model.like(conditions=[[1, 2]]), batch=2)  # which is the prompt without condition, too
    assert any("conditions have no effect" in sentence for sentence in found.findings)


class Looks:
    """A toy that looks at a value in every pass."""

    def __init__(self, inner, wrong=None):
        self.inner, self.wrong = inner, wrong
        self.name, self.vocab, self.length, self.eos = inner.name, inner.vocab, inner.length, inner.eos
        self.dtype, self.device, self.start, self.advance = inner.dtype, inner.device, inner.start, inner.advance

    def laws(self, context, draft):
        laws = self.inner.laws(context, draft)
        if self.wrong is None:
            assert float(laws.sum()) > 0
            return laws
        return self.wrong(laws)


def test_waiting_for_the_device_is_found():
    found = conformance(Looks(toymodels.toy("dense-3x6")))
    assert found.ok, "what costs time changes no law"
    assert found.costs.startswith("waiting: a pass or an advance waits for a GPU, if it runs on one (aten::_local_sc")
    assert str(found).endswith(found.costs)


def test_where_no_wrong_cache_could_show_nothing_passes():
    uniform = Looks(toymodels.toy("dense-3x6"), lambda laws: torch.full_like(laws, 1 / 3))
    (sentence,) = conformance(uniform).findings
    assert sentence.startswith(
        "memory: another token further back than the last one changes laws by 0 in total variation"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda laws: laws * 2, "does not sum to 1"),
        (lambda laws: laws * torch.nan, "holds NaN"),
        (lambda laws: laws[:, :, :-1], "covers 2 tokens, but the vocabulary has 3"),
        (lambda laws: laws[:, 5:], "error: the model raised"),
    ],
)
def test_what_is_no_law_is_a_finding(wrong, said):
    (sentence,) = conformance(Looks(toymodels.toy("dense-3x6"), wrong)).findings
    assert said in sentence


@pytest.mark.parametrize(("setting", "value"), [("batch", 1), ("window", 1), ("positions", 0), ("widest", 4)])
def test_sizes_at_which_nothing_could_be_compared_are_refused(setting, value):
    with pytest.raises(InputError, match=f"{setting} is {value}"):
        conformance(toymodels.toy("dense-3x6"), **{setting: value})


def test_what_is_no_model_is_refused():
    with pytest.raises(InputError, match="object is no model: it has no name, vocab, length"):
        conformance(object())
