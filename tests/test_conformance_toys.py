"""Toys of which one thing is changed, as caches and kernels go wrong, and what `conformance` says of them."""

import copy
import functools

import pytest
import torch
from changed import Changed
from findings import checks_of

from specverify.conformance import conformance


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
    assert "(test_conformance_toys.py:" in found.findings[0]
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
    assert checks_of(found) == {"forks", "twins", "starts", "error"}
    assert found.findings[0].startswith("forks: at position ")


def test_windows_of_one_row_alone_are_no_truth_where_they_are_wrong():
    def short_way(laws, _):
        return laws.flip(-1) if len(laws) == 1 and laws.shape[1] > 1 else laws

    found = conformance(Changed(short_way))
    assert found.findings[0].startswith("alone: at position 0 of row 0 the law in a window of 5 that were all kept")
    assert checks_of(found) <= {"alone", "selection", "starts"}, "rows beside each other are right"


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


def test_a_cache_of_prefixes_that_overlooks_what_stands_before_is_found():
    """Pages of four tokens, each known by its own tokens alone."""
    known = {}

    class Pages(Changed):
        def start(self, batch):
            return torch.zeros(batch, self.length + 17, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64)

        def sums(self, context, tokens):
            return torch.cat([self.states(*context)[:, None], tokens], 1).cumsum(1)

        def states(self, text, place):
            states = []
            for row, end in zip(text.tolist(), place.tolist(), strict=True):
                state = 0
                for begin in range(0, end, 4):
                    page = tuple(row[begin : min(begin + 4, end)])
                    grown = state + sum(page)
                    state = known.setdefault((begin, page), grown) if len(page) == 4 else grown
                states.append(state)
            return torch.tensor(states)

        def advance(self, context, tokens, count):
            text, place = context[0].clone(), context[1]
            for row in range(len(text)):
                begin, n = int(place[row]), int(count[row])
                text[row, begin : begin + n] = tokens[row, :n]
            return text, place + count

    assert "twins" in checks_of(conformance(Pages(), positions=12))


def test_a_pool_that_another_start_takes_is_found_by_those_that_begin_later():
    class Pool(Changed):
        def start(self, batch):
            self.taken = getattr(self, "taken", 0) + 1
            zeros = torch.zeros(batch, dtype=torch.int64)
            return zeros[:, None], zeros, zeros + self.taken

        def sums(self, context, tokens):
            late = (context[2] < self.taken) & (context[1] > 6)  # pages that it took last belong to another now
            return super().sums(context, tokens) + late[:, None]

        def advance(self, context, tokens, count):
            return *super().advance(context, tokens, count), context[2]

    assert {"starts"} == checks_of(conformance(Pool()))


def test_rows_beside_one_that_has_ended_are_looked_at():
    class Ends(Changed):
        eos = 5

        def __init__(self, wrong=False):
            super().__init__()
            self.eos, self.wrong = 5, wrong

        def start(self, batch):
            return *super().start(batch), torch.zeros(batch, dtype=torch.int64)

        def advance(self, context, tokens, count):
            ended = ((tokens == 5) & (torch.arange(tokens.shape[1]) < count[:, None])).any(1)
            return *super().advance(context, tokens, count), context[2] | ended

        def sums(self, context, tokens):
            beside = self.wrong * ((context[2] == 0) & bool(context[2].any()))
            return super().sums(context, tokens) + beside[:, None]

    right = conformance(Ends())
    assert right.ok, str(right)
    assert "ended" in right.checks
    assert {"ended"} == checks_of(conformance(Ends(wrong=True)))


@pytest.mark.parametrize("ends", [80, 20])
def test_guidance_is_looked_at_behind_the_first_window(ends):
    class Guided(Changed):
        conditions, guidance = (0, 1), 3.0

        def like(self, **changed):
            other = copy.copy(self)
            for name in changed.keys() & {"conditions", "guidance"}:
                setattr(other, name, changed[name])
            return other

        def start(self, batch):
            sums, place = super().start(batch)
            return sums, place, torch.tensor([self.conditions[row % len(self.conditions)] for row in range(batch)])

        def laws(self, context, draft):
            sums, place = self.sums(context, draft), context[1][:, None] + torch.arange(draft.shape[1] + 1)
            waves = torch.arange(1.0, 17.0, dtype=torch.float64)
            c, u = (torch.sin((sums + shift + 1.0)[..., None] * waves) for shift in (context[2][:, None] * 0.1, 0.3))
            scale = torch.where(place < ends, self.guidance, 1.0 if self.guidance > 1 else self.guidance)
            return (u + scale[..., None] * (c - u)).softmax(-1)

        def advance(self, context, tokens, count):
            return *super().advance(context, tokens, count), context[2]

    found = conformance(Guided())
    assert checks_of(found) == (set() if ends == 80 else {"guidance"})
    if ends == 20:
        assert found.findings[0].startswith("guidance: at position 2")


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
