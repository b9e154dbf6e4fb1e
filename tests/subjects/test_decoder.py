"""Somebody's decoder: proved if it is right, refuted in small if it is not."""

from dataclasses import dataclass, replace
from functools import partial
from time import process_time
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from specverify.claims import ClusterLossless, Lossless, Relaxed
from specverify.decoders import Autoregressive, Jacobi, Speculative, TokenRule, registry
from specverify.decoders.registry import Settings
from specverify.errors import InputError
from specverify.evidence.budget import Budget
from specverify.rules.token import at, residual
from specverify.subjects.decoder import judge_decoder
from specverify.verdict import Kind

pytestmark = pytest.mark.usefixtures("seldom_together")

QUICK = {"examples": 10, "toys": ("guided-2x5",)}
"""Enough where only the outline of a judgement is looked at; whole ones are in tests/soundness."""


@dataclass
class Progress:
    seen: object
    tokens: Tensor
    length: Tensor
    done: Tensor


class Lookahead:
    """One token of lookahead: repeat the last token, keep the guess with probability p, else draw from p without it."""

    def init(self, model, batch, draws):
        zero = torch.zeros(batch, dtype=torch.int64)
        return Progress(model.start(batch), zero[:, None].repeat(1, model.length), zero, zero.bool())

    def step(self, state, model, draws):
        row, active = torch.arange(len(state.length)), ~state.done
        guess = state.tokens[row, (state.length - 1).clamp(min=0)]
        now, later = model.laws(state.seen, guess[:, None]).unbind(1)
        kept = draws.bernoulli(now[row, guess], active)
        more = kept & (state.length + 1 < model.length) & (guess != (-1 if model.eos is None else model.eos))
        law = torch.where(kept[:, None], later, self.rest(now, guess))
        drawn = draws.categorical(law, active & (more | ~kept))
        first = torch.where(kept, guess, drawn)
        block = torch.stack([first, drawn], 1)
        count = active * (1 + more.long())
        tokens, length = state.tokens.clone(), state.length + count
        for k in range(2):
            place = (state.length + k).clamp(max=model.length - 1)
            tokens[row, place] = torch.where(count > k, block[:, k], tokens[row, place])
        ended = state.done | (length == model.length)
        if model.eos is not None:
            ended = ended | ((block == model.eos) & (torch.arange(2) < count[:, None])).any(1)
            tokens[(torch.arange(model.length) >= length[:, None]) & ended[:, None]] = model.eos
        after = Progress(model.advance(state.seen, block, count), tokens, length, ended)
        branch = torch.stack([torch.where(kept, 2, 3) * active, torch.where(more, 4, 0)], 1)
        one, none = active.long(), torch.zeros_like(count)
        return after, SimpleNamespace(
            passes=one, verified=one, accepted=kept * one, emitted=count, branch=branch, draft_passes=none
        )

    def rest(self, p, guess):
        return p.scatter(1, guess[:, None], 0.0)


class Careless(Lookahead):
    """A rejected guess is replaced from all of p."""

    def rest(self, p, guess):
        return p


class Plain:
    """Keeps its state in an ordinary object."""

    def __init__(self):
        self.inner = Lookahead()

    def init(self, model, batch, draws):
        return SimpleNamespace(**vars(self.inner.init(model, batch, draws)))

    def step(self, state, model, draws):
        after, info = self.inner.step(Progress(**vars(state)), model, draws)
        return SimpleNamespace(**vars(after)), info


@pytest.fixture(scope="module")
def careless():
    return judge_decoder(Careless())


def test_its_broken_variant_is_refuted_in_small(careless):
    judgement = careless
    assert judgement.verdict.kind is Kind.REFUTED
    model = judgement.certificate["setting"]["model"]
    assert (model["vocab"], model["length"]) == (2, 1)
    assert judgement.location["branch"] == "recovered (initial)"
    assert "recovered tokens have the law (1/2, 1/2); due is the residual, (0, 1)" in judgement.verdict.reason
    (text,) = judgement.notes
    assert "total variation 1/4" in text
    assert max(map(len, text.splitlines())) <= 80


def test_state_may_be_any_object():
    judgement = judge_decoder(Plain(), **QUICK)
    assert judgement.verdict.kind.proved, judgement.verdict.reason


@dataclass(frozen=True)
class Lenient:
    """Keeps a share of what the token rule rejects: at each position the law is at most `share` off."""

    share: float

    def accept(self, p, q, draft):
        keep = TokenRule().accept(p, q, draft)
        return keep + self.share * (1 - keep)

    def recover(self, p, q, draft):
        return residual(p, q)


def lenient(window, share=0.01, claim=None):
    return Speculative(Jacobi(), window, Lenient(share), claim or Lossless())


def test_a_relaxed_claim_is_refuted():
    judgement = judge_decoder(partial(lenient, share=0.5), Relaxed(0.08), **QUICK)
    assert judgement.verdict.kind is Kind.REFUTED
    assert "where relaxed(tv<=0.08) is claimed" in judgement.verdict.reason
    assert judgement.certificate["tv"] > 0.08
    assert judge_decoder(lenient, Lossless(), **QUICK).verdict.kind is Kind.REFUTED


def test_by_default_a_decoder_is_held_to_its_own_claim_which_may_be_proved():
    judgement = judge_decoder(partial(lenient, claim=Relaxed(0.08)), **QUICK)
    assert judgement.claim == "relaxed(tv<=0.08)"
    assert judgement.verdict.kind.proved


@dataclass(frozen=True)
class Grouped:
    """The token rule on clusters; what is recovered is drawn by cluster, or by token from the residual."""

    partition: tuple[tuple[int, ...], ...]
    by_cluster: bool = True

    def member(self, p):
        member = torch.zeros(p.shape[-1], len(self.partition), dtype=p.dtype)
        for column, cluster in enumerate(self.partition):
            member[list(cluster), column] = 1
        return member

    def accept(self, p, q, draft):
        member = self.member(p)
        cluster = member.argmax(1)[draft]
        return (at(p @ member, cluster) / at(q @ member, cluster)).clamp(max=1)

    def recover(self, p, q, draft):
        if not self.by_cluster:
            return residual(p, q)
        member = self.member(p)
        total = p @ member
        left = residual(total, q @ member) / torch.where(total > 0, total, 1.0)
        return p * (left @ member.T)


PAIRS = ((0, 1), (2, 3))


def grouped(window, by_cluster=True):
    return Speculative(Jacobi(), window, Grouped(PAIRS, by_cluster))


def test_a_cluster_claim_is_proved_and_refuted():
    toys = ("synonyms-4x5", "raster-4x6", "dense-3x6")
    judgement = judge_decoder(grouped, ClusterLossless(PAIRS), examples=10, toys=toys)
    assert judgement.verdict.kind.proved, judgement.verdict.reason
    assert {row["model"] for row in judgement.exact if "x" in row["model"]} == {"synonyms-4x5"}, "clusters with a law"

    judgement = judge_decoder(partial(grouped, by_cluster=False), ClusterLossless(PAIRS), **QUICK)
    assert judgement.verdict.kind is Kind.REFUTED
    assert judgement.location["branch"].startswith("recovered")
    assert len(judgement.location["due"]) == 2, "places are of clusters"
    assert judgement.certificate["setting"]["model"]["vocab"] == 4
    assert "cluster 0" in judgement.notes[0]


@pytest.mark.slow
def test_a_claim_of_one_cluster_says_nothing():
    everything = ClusterLossless(((0, 1, 2, 3),))
    judgement = judge_decoder(grouped, everything, examples=10, toys=("synonyms-4x5",))
    assert judgement.verdict.kind is Kind.VACUOUS
    assert "cluster-lossless(1 clusters) allows every law and says nothing" in judgement.verdict.reason


@pytest.mark.slow
def test_a_partition_without_a_toy_is_judged_on_drawn_models():
    partition = ((0,), (1, 2))
    decoder = lambda window: Speculative(Jacobi(), window, Grouped(partition))  # noqa: E731
    judgement = judge_decoder(decoder, ClusterLossless(partition), **QUICK)
    assert judgement.verdict.kind.proved
    assert {row["model"] for row in judgement.exact} == {"drawn, 3 tokens"}


class WithoutEnds(Lookahead):
    """Says that it does not take models with an end."""

    def init(self, model, batch, draws):
        if model.eos is not None:
            raise InputError("no end of sequence is supported")
        return super().init(model, batch, draws)


def test_what_a_decoder_does_not_take_is_not_covered():
    judgement = judge_decoder(WithoutEnds(), examples=10, toys=("guided-2x5", "eos-3x6"))
    assert judgement.verdict.kind.proved
    (line,) = (line for line in judgement.not_covered if "it says no end of sequence is supported" in line)
    assert line.startswith("eos-3x6")
    assert "eos-3x6" not in {row["model"] for row in judgement.exact}


def test_a_pass_in_which_nothing_was_rejected_is_vacuous():
    def identical(draft_model):
        return Speculative(Oracle(), 2)

    judgement = judge_decoder(identical, **QUICK)
    assert judgement.verdict.kind is Kind.VACUOUS
    assert judgement.verdict.reason == "no draft token was rejected, so the residual was never drawn"


class Oracle:
    """Drafts from the target itself, asked one token at a time; of what is watched, these are no passes."""

    name = "oracle"

    def start(self, model, batch, window, draws):
        return None

    def propose(self, state, model, window, draws):
        from specverify.decoders import DraftModel

        unwatched = getattr(model, "inner", model)
        return DraftModel(unwatched).propose(replace(state, drafting=state.context), model, window, draws)

    def carry(self, before, after, draft, laws, count, draws):
        return None


def test_time_that_runs_out_is_reported():
    judgement = judge_decoder(Lookahead(), seconds=0.0, toys=("dense-2x8",))
    assert judgement.verdict.kind.proved, "what was proved on the tiny models"
    assert any("time ran out" in line and "dense-2x8" in line for line in judgement.not_covered)
    assert "; no others were drawn. Box: " in judgement.verdict.reason


@pytest.mark.slow
def test_larger_toys_than_the_budget_are_not_covered():
    judgement = judge_decoder(Lookahead(), budget=Budget(worlds=300), examples=1, toys=("dense-2x8", "dense-4x6"))
    (line,) = (line for line in judgement.not_covered if line.endswith(": more than 300 worlds"))
    assert line.startswith("dense-2x8")
    assert "dense-4x6" in line


def test_the_same_seed_gives_the_same_judgement(careless):
    again = judge_decoder(Careless())
    assert careless.certificate == again.certificate
    assert careless.verdict == again.verdict


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (3, "int is neither a decoder nor something that makes one; hand over an object with init and step"),
        (lambda temperature, window: None, "needs temperature, which judging cannot supply; give a default"),
        (lambda window, /: None, "needs window, which judging cannot supply"),
        ("no_such_module:thing", "no module named 'no_such_module'"),
        ("specverify.decoders:Autoregresive", "has no 'Autoregresive'; did you mean Autoregressive"),
    ],
)
def test_what_is_no_decoder_is_an_input_error(subject, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(").replace(")", r"\)")):
        judge_decoder(subject)


def test_what_makes_a_decoder_must_make_one():
    judgement = judge_decoder(lambda: None, name="nothing")
    assert judgement.verdict.kind is Kind.ERROR
    assert "nothing returned a NoneType, which has no init and step" in judgement.verdict.reason


def test_a_decoder_is_found_by_its_reference():
    judgement = judge_decoder("specverify.decoders:Autoregressive", **QUICK)
    assert judgement.verdict.kind.proved
    assert judgement.reproduce == "specverify validate specverify.decoders:Autoregressive --claim lossless --seed 0"
    assert judge_decoder(Autoregressive, examples=1, toys=()).reproduce.startswith(
        "specverify validate specverify.decoders.autoregressive:Autoregressive "
    )


@pytest.mark.slow
def test_a_draft_model_is_given_where_it_is_named():
    asked = []

    def sd(draft_model=None):
        asked.append(draft_model is not None)
        return registry.build("sjd" if draft_model is None else "sd", Settings(2, "repeat-left", draft_model))

    judgement = judge_decoder(sd, examples=2, toys=())
    assert judgement.verdict.kind.proved
    assert set(asked) == {True, False}, "with a default it is judged both ways"
    assert {row["draft"] is None for row in judgement.exact} == {True, False}


def test_that_no_proof_for_every_law_was_found_is_the_first_thing_that_is_not_covered():
    class Timed(Autoregressive):
        """It reads a clock, of which no proof can be."""

        def step(self, state, model, draws):
            return super().step(state, model, draws) if process_time() >= 0 else state

    found = judge_decoder(lambda settings: Timed(), **QUICK)
    assert found.verdict.kind is Kind.PROVED
    assert found.not_covered[0].startswith("every law at once: "), found.not_covered
