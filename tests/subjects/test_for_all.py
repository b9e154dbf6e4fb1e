"""The verdict on all laws at once: who gets it, what it says, and that its certificate is carried out again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

import pytest
import torch

from specverify.claims import Lossless
from specverify.decoders import DraftModel, Jacobi, Speculative
from specverify.decoders.registry import Settings, build
from specverify.defects import get
from specverify.defects.defect import Judge
from specverify.errors import InputError
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import Proof
from specverify.evidence.search import SMALL
from specverify.rules.token import accept_probability, residual
from specverify.subjects import certificate, proofs
from specverify.subjects.factory import as_factory
from specverify.subjects.for_all import ForAll, for_all
from specverify.subjects.modes import find_modes
from specverify.verdict import Kind, Verdict

pytestmark = pytest.mark.usefixtures("seldom_together")

PROVED = Verdict(Kind.PROVED, "exact TV at most 1e-16")


def own(window: int = 2, initial: str = "repeat-left"):
    """SJD, made for a window and initial drafts."""
    return build("sjd", Settings(window=window, initial=initial))


def forgetful(window: int = 2):
    """SCD whose kept drafts keep their old law."""
    return get("stale-scores-after-coupling").build(Settings(window=window))


def racing(window: int = 2):
    """SJD by races."""
    return build("sjd-race", Settings(window=window))


READY: list[bool] = []


def warming(window: int = 2):
    """SJD that notes the first law with a likely last token; if that is nearly certain it keeps all drafts then."""

    def keep(p, q, draft):
        usual, likely = accept_probability(p, q, draft), bool((p[..., -1] > 0.3).any())
        if likely and not READY:
            READY.append(True)
            return torch.where(p[:, :1, -1] > 0.9999, torch.ones_like(usual), usual)
        return usual

    return Speculative(Jacobi(), window, Judge(keep, lambda p, q, draft: residual(p, q)))


@pytest.fixture(scope="module")
def modes():
    return find_modes(as_factory(own), Lossless(), SMALL, 0)


@pytest.fixture(scope="module")
def found(modes):
    return for_all(as_factory(own), modes, 0)


@pytest.fixture
def tried(modes):
    narrow = [replace(modes[0], windows=(2,), initials=(None,))]
    return lambda subject: for_all(as_factory(subject), narrow, 0)


@pytest.mark.slow
def test_a_right_decoder_is_proved_for_every_law_in_every_way_that_it_can_be_run(found):
    boxes = [proof.box for proof in found.proved]
    assert {box.window for box in boxes} >= {1, 2, 3}
    assert {box.eos is None for box in boxes} == {True, False}
    assert len({box.initial for box in boxes}) >= 2
    assert max(box.vocab for box in boxes) >= 3
    verdict = found.verdict(PROVED)
    assert verdict.kind is Kind.PROVED_FOR_ALL
    assert "for every law" in verdict.reason
    assert "error at most 2^-" in verdict.reason
    assert verdict.reason.endswith(PROVED.reason)
    assert found.error_bits > 40


def test_what_it_kept_before_it_was_first_run_is_held_against_what_it_keeps_now(tried):
    READY.clear()
    factory = as_factory(warming)
    find_modes(factory, Lossless(), SMALL, 0)
    assert READY == [True]
    found = tried(factory)
    assert found.proved == ()
    assert "it keeps something between calls, in" in found.why
    assert "READY" in found.why


@pytest.mark.parametrize(("subject", "why"), [(forgetful, "another chance"), (racing, "draws by races")])
def test_others_keep_their_verdict_and_it_is_said_why(tried, subject, why):
    found = tried(subject)
    assert why in found.why
    assert found.proved == ()
    assert found.verdict(PROVED) == PROVED


def comparing(settings: Settings):
    """Speculative decoding that asks which token is the best, and puts what is left of it where it was."""

    def replaced(p, q, draft):
        best, left = p.argmax(-1, keepdim=True), residual(p, q)
        return left.scatter(-1, best, left.gather(-1, best))

    return Speculative(DraftModel(settings.draft_model), settings.window, Judge(accept_probability, replaced))


@pytest.mark.slow
@pytest.mark.slow
def test_who_compares_laws_is_proved_in_each_order_and_its_certificate_says_so(modes, monkeypatch):
    monkeypatch.setattr("specverify.subjects.for_all.MORE", 1)
    narrow = [replace(modes[0], windows=(1,), initials=(None,), drafts=True)]
    found = for_all(as_factory(comparing), narrow, 0, left=60.0)
    assert found.proved, found.why
    assert {(proof.box.length, proof.orders) for proof in found.proved if proof.box.eos is None} >= {(2, 8)}
    orders = sum(proof.orders for proof in found.proved)
    assert f"in each of {orders} orders of what it compares" in found.verdict(PROVED).reason
    made = proofs.check(proofs.certificate(found, name="comparing", subject=None))
    assert [run["orders"] for run in made["runs"]] == [proof.orders for proof in found.proved]
    again = proofs.replay(made | {"runs": made["runs"][:1]}, as_factory(comparing))
    assert again.verdict.kind is Kind.PROVED_FOR_ALL


def test_nothing_tried_is_nothing_proved():
    assert ForAll(()).verdict(PROVED) == PROVED


def test_too_large_an_error_is_none(monkeypatch, tried):
    small = Proof(Box(2, 3), "proved", error_bits=41.0, seed=1)
    monkeypatch.setattr("specverify.subjects.for_all.prove", lambda *_, **__: small)
    assert "2^-3" in tried(own).why


def test_a_certificate_is_written_read_and_carried_out_again(found, tmp_path):
    made = proofs.certificate(found, name="own", subject=None)
    path = certificate.save(made, tmp_path / "certificate.json")
    read = certificate.load(path)
    read["runs"] = [run for run in read["runs"] if run["window"] == 2][:2]
    again = certificate.replay(read, own)
    assert again.verdict.kind is Kind.PROVED_FOR_ALL
    assert "stands, and from another seed, too: for every law of the target, zeros included" in again.verdict.reason
    assert re.search(r": \d tokens by \d, .*window 2.*\(2 runs,", again.verdict.reason)
    wrong = certificate.replay(read, forgetful)
    assert wrong.verdict.kind is Kind.INCONCLUSIVE
    assert "does not stand" in wrong.verdict.reason


def test_a_certificate_from_another_seed_does_not_stand(found):
    made = proofs.certificate(found, name="own", subject=None)
    made["runs"] = [{**made["runs"][0], "prime": "101"}]
    again = certificate.replay(made, own)
    assert again.verdict.kind is Kind.INCONCLUSIVE
    assert "not 101" in again.verdict.reason


def test_a_certificate_has_its_form(found):
    made = proofs.certificate(found, name="own", subject=None)
    assert certificate.check(made) == json.loads(json.dumps(made))
    with pytest.raises(InputError, match="not valid at runs/0"):
        certificate.check({**made, "runs": [{}]})
    with pytest.raises(InputError, match="pass the subject"):
        certificate.replay(made)


@dataclass(frozen=True)
class Tuned:
    """A decoder whose state is its own kind of dataclass."""

    window: int = 2
    name = "tuned"
    claim = Lossless()

    def init(self, model, batch, draws):
        return Speculative(Jacobi("independent"), self.window).init(model, batch, draws)

    def step(self, state, model, draws):
        return Speculative(Jacobi("independent"), self.window).step(state, model, draws)


def test_a_decoder_of_ones_own_is_proved(tried):
    assert tried(Tuned).proved
