"""Models that keep their word, and models with one slip each, of the kinds that key-value caches invite."""

import dataclasses
import functools
import re

import folders
import pytest
import torch

import toymodels
from realmodels import session
from realmodels.models import open_model
from realmodels.ragged import Ragged
from specverify.conformance import conformance
from specverify.errors import ContractError, InputError
from specverify.waits import Waits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.causal(tmp_path_factory.mktemp("tiny") / "causal", grid=(3, 4))


@pytest.fixture
def model(folder):
    return open_model(folder, guidance=3.0, conditions=folders.prompts(4))


def checks_of(found):
    """The checks that found something."""
    return {re.sub("^with(out guidance| guidance and without), ", "", one).split(":")[0] for one in found.findings}


def slip(monkeypatch, owner, name, changed):
    right = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args: changed(right, *args))


def test_a_right_model_conforms_and_says_what_was_compared(model):
    found = conformance(model, batch=3)
    assert found.ok, str(found)
    assert found.checks == (
        "own",
        "alone",
        "batch",
        "windows",
        "rejection",
        "lengths",
        "selection",
        "forks",
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
    found = conformance(model.like(conditions=[[1, 9, 2]]), batch=3)
    assert checks <= checks_of(found)
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


@pytest.mark.parametrize(
    ("changed", "check"),
    [(count_rejected, "rejection"), (next_rows_length, "lengths"), (token_before_the_last, "windows")],
)
def test_a_slip_in_advancing_is_found(model, monkeypatch, changed, check):
    slip(monkeypatch, session.ImageTransformer, "advance", changed)
    assert check in checks_of(conformance(model, batch=3))


def test_rows_that_are_not_gathered_are_found(model, monkeypatch):
    slip(monkeypatch, Ragged, "select", lambda right, self, index: None)
    found = conformance(model, batch=3)
    (sentence,) = found.findings
    assert sentence.startswith("with guidance and without, error: the model raised RuntimeError")
    assert "in the check `selection`; a context's rows are dropped, doubled and put in another order" in sentence


def lone_tokens_at_the_first_rows_place(right, self, slots):
    """A short way for one token a pass, written as if rows never had different lengths."""
    found = right(self, slots)
    return found if found.shape[1] > 1 else found[:1].expand_as(found)


def test_a_short_way_for_one_token_is_taken_with_rows_at_different_lengths(model, monkeypatch):
    slip(monkeypatch, session.Session, "positions", lone_tokens_at_the_first_rows_place)
    found = conformance(model.like(guidance=1.0, conditions=[[1, 9, 2]]), batch=3)
    assert checks_of(found) == {"lengths", "selection", "forks"}
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
    assert sentence.endswith("it is the law with the two rows swapped")


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


class Changed:
    """A toy of which one thing is changed."""

    def __init__(self, changed=lambda laws, place: laws, dtype=torch.float64):
        self.inner, self.changed, self.dtype = toymodels.toy("hash-16x24"), changed, dtype
        self.vocab, self.length, self.eos, self.device = 16, 80, None, self.inner.device
        self.name = "changed"

    def start(self, batch):
        return torch.zeros(batch, 1, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64)

    def laws(self, context, draft):
        sums, place = self.sums(context, draft), context[1]
        logits = torch.sin((sums[..., None] + 1.0) * torch.arange(1.0, 17.0, dtype=torch.float64))
        return self.changed(logits.softmax(-1), place[:, None] + torch.arange(sums.shape[1]))

    def sums(self, context, tokens):
        return torch.cat([context[0], tokens], 1).cumsum(1)

    def advance(self, context, tokens, count):
        return self.sums(context, tokens).gather(1, count[:, None]), context[1] + count


def in_wide_windows(laws, positions):
    return laws if laws.shape[1] < 12 else laws.flip(-1)


def in_the_middle(laws, positions):
    wrong = (positions >= 30) & (positions < 50) & torch.tensor(laws.shape[1] > 1)
    return torch.where(wrong[..., None], laws.flip(-1), laws)


@pytest.mark.parametrize(("changed", "check"), [(in_wide_windows, "windows"), (in_the_middle, "windows")])
def test_wide_windows_and_middles_are_looked_at(changed, check):
    right, found = conformance(Changed()), conformance(Changed(changed))
    assert right.ok, str(right)
    assert "Looked at: 4 rows and 1 to 8 of them, windows of 0 to 16 drafts, positions 0 to 23, " in str(right)
    assert str(right).endswith(" of 80")
    assert any(finding.startswith(f"{check}: at position") for finding in found.findings), str(found)


def test_laws_of_another_type_than_the_model_says_are_a_finding():
    found = conformance(Changed(lambda laws, _: laws.float()))
    assert found.findings == ("laws: the law at position 0 is of torch.float32; the model says torch.float64",)


def test_a_cache_on_the_model_itself_is_told_where_it_belongs():
    class Kept(Changed):
        def start(self, batch):
            self.seen = torch.zeros(batch, 0, dtype=torch.int64)
            return super().start(batch)

        def laws(self, context, draft):
            return super().laws(context, draft) + 0 * torch.cat([self.seen, context[0]], 1).sum()

    found = conformance(Kept())
    assert not found.ok
    assert "(test_conformance.py:" in found.findings[0]
    assert "a row's cache must be found by tensors in the context" in found.findings[0]


def test_a_second_start_that_takes_the_first_ones_cache_is_found():
    class Last(Changed):
        def start(self, batch):
            self.scale = torch.zeros(batch, dtype=torch.int64)
            return super().start(batch)

        def sums(self, context, tokens):
            found = super().sums(context, tokens)
            return found + 17 * (len(self.scale) != len(found))

    found = conformance(Last())
    assert any(sentence.startswith("starts: at position") for sentence in found.findings)
    assert any("while other rows are begun" in sentence for sentence in found.findings)


class Table(Changed):
    """A toy whose tokens lie in a table, in a line for each row of a start."""

    def start(self, batch):
        self.lines = torch.zeros(batch, self.length + 1, dtype=torch.int64)
        return torch.arange(batch), torch.zeros(batch, dtype=torch.int64)

    def sums(self, context, tokens):
        line, place = context
        known = (self.lines[line] * (torch.arange(self.length + 1) < place[:, None])).sum(1, keepdim=True)
        return torch.cat([known, tokens], 1).cumsum(1)

    def advance(self, context, tokens, count):
        line, place = context
        where = torch.arange(tokens.shape[1])
        for row in range(len(line)):
            kept = place[row] + where[: int(count[row])]
            self.lines[line[row], kept.clamp(max=self.length)] = tokens[row, : int(count[row])]
        return line, place + count


def test_rows_that_share_a_cache_are_found_where_they_go_on_with_other_tokens():
    found = conformance(Table())
    assert checks_of(found) == {"forks", "starts"}
    assert found.findings[0].startswith("forks: at position ")


def test_windows_of_one_row_alone_are_no_truth_where_they_are_wrong():
    def short_way(laws, _):
        return laws.flip(-1) if len(laws) == 1 and laws.shape[1] > 1 else laws

    found = conformance(Changed(short_way))
    assert found.findings[0].startswith("alone: at position 0 of row 0 the law in a window of 5 that were all kept")
    assert checks_of(found) <= {"alone", "selection"}, "rows beside each other are right"


def test_batches_that_are_padded_wrong_are_found_by_the_rows_that_are_left():
    found = conformance(Changed(lambda laws, _: laws.flip(-1) if len(laws) in (3, 5, 6, 7) else laws))
    assert "selection" in checks_of(found)
    assert "batch" not in checks_of(found)
    assert any("after 4 rows became 3" in sentence for sentence in found.findings)


def test_a_window_of_which_nothing_is_kept_is_met_in_every_width():
    class Slips(Changed):
        def advance(self, context, tokens, count):
            sums, place = super().advance(context, tokens, count)
            return sums + (tokens.shape[1] > 8) * (count.max() == 1), place

    for seed in range(5):
        assert {"alone", "rejection"} <= checks_of(conformance(Slips(), seed=seed)), seed


def test_a_context_that_advancing_spoils_is_found():
    class InPlace(Changed):
        def advance(self, context, tokens, count):
            after = super().advance(context, tokens, count)
            for mine, other in zip(context, after, strict=True):
                mine.copy_(other)
            return context

    assert conformance(InPlace()).findings[0].startswith("alone: at position 0 of row 0 the law in a window of ")


def test_laws_in_a_buffer_that_is_used_again_are_named():
    buffers = {}

    def used_again(laws, _):
        buffer = buffers.setdefault(laws.shape, torch.empty_like(laws))
        return buffer.copy_(laws)

    found = conformance(Changed(used_again))
    assert found.findings[0].startswith("own: a pass of 1 rows changed the laws that the pass before it had given")
    remembered = {}

    def once(laws, place):
        return remembered.setdefault((str(laws.tolist()), str(place.tolist())), laws)

    assert conformance(Changed(once)).findings[0].startswith("own: laws of 1 rows that the caller wrote to came out")


def test_rounding_finer_than_the_type_of_the_laws_is_told_the_remedy():
    def rounded(laws, _):
        return laws + 1e-7 * (laws.roll(1, -1) - laws) * (laws.shape[1] > 1)

    found = conformance(model := Changed(rounded))
    assert found.findings[0].startswith("no difference is above ")
    assert found.findings[0].endswith("say so by an attribute of the model, such as `precision = torch.float32`")
    model.precision = torch.float32
    assert conformance(model).ok


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7])
def test_short_sequences_conform(length):
    model = Changed()
    model.length = length
    found = conformance(model)
    assert found.ok, str(found)
    assert (found.sensitive is None) == (length < 3)


def test_how_many_wrong_tokens_would_show_is_said():
    def flat(much, laws, _):
        return (1 - much) / 16 + much * laws

    assert "another token further back than the last one would show in 100% of places. Looked" in str(
        conformance(Changed())
    )
    lost = conformance(Changed(functools.partial(flat, 1e-10)))
    assert lost.sensitive == 0
    assert (
        "by more than what is no finding (1e-09) in 0% of places: a wrong cache could hardly show" in lost.findings[0]
    )
    some = conformance(Changed(lambda laws, places: torch.where(places[..., None] < 9, laws, flat(0, laws, 0))))
    assert some.ok
    assert 0 < some.sensitive < 0.9
    assert "% of places (in more of them in float32, or on other weights). Looked at" in str(some)


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (lambda x: x.tolist(), "Tensor.tolist"),
        (lambda x: x.cpu(), "Tensor.cpu"),
        (lambda x: x.numpy(), "Tensor.numpy"),
        (lambda x: int(x[0]), "aten::_local_scalar_dense"),
        (lambda x: x[x > 1], "aten::index"),
        (lambda x: x.clone().masked_fill_(x > 1, 0)[x > 1], "aten::index"),
        (lambda x: x.clone().__setitem__(x > 1, 0), "aten::index_put_"),
        (lambda x: x.masked_select(x > 1), "aten::masked_select"),
        (lambda x: x.unique(), "aten::_unique2"),
        (lambda x: x.repeat_interleave(x), "aten::repeat_interleave"),
        (lambda x: torch.where(x > 1), "aten::nonzero"),
        (lambda x: torch.allclose(x, x), "aten::allclose"),
    ],
)
def test_what_waits_is_seen_on_a_cpu(read, named):
    x = torch.arange(4)
    with Waits() as watch:
        read(x)
    assert watch.seen == {named: 1}


def test_what_does_not_wait_is_not_seen():
    x = torch.arange(4)
    with Waits() as watch:
        x.masked_fill(x > 1, 0)[x]
        x[:, None].expand(4, 2).repeat_interleave(2, 0).double()
        x.repeat_interleave(x, output_size=6)
        torch.where(x > 1, x, 0)
        x.clone()[1] = 2
    assert not watch.seen


def test_what_is_no_model_is_refused():
    with pytest.raises(InputError, match="object is no model: it has no name, vocab, length"):
        conformance(object())
