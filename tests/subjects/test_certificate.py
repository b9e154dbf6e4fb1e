"""Certificates: written, read, replayed; and whatever is none is refused with the reason."""

import json
from dataclasses import replace

import pytest

from specverify import defects
from specverify.claims import ClusterLossless, Lossless, Relaxed
from specverify.decoders import Jacobi, Speculative, registry
from specverify.errors import ContractError, InputError
from specverify.evidence.cases import Case, Weights
from specverify.evidence.found import Counterexample
from specverify.evidence.search import explain
from specverify.subjects.certificate import VERSION, case_of, certificate, check, claim_of, load, replay, save
from specverify.subjects.describe import describe, headline
from specverify.verdict import Kind

FAIR = Weights(2, 2, ((1, 1), (1, 1), (1, 1)))
RELEASED = defects.get("stale-scores-after-coupling").build
CASE = Case(FAIR, window=2, initial="repeat-left")


def corrected(window):
    return Speculative(Jacobi("maximal"), window)


@pytest.fixture
def found():
    return certificate(explain(RELEASED, CASE, Lossless()), name="scd-mc, as released", subject=None)


def test_a_certificate_says_all_that_there_is_to_know(found):
    assert found["version"] == VERSION
    assert found["claim"] == {"kind": "lossless"}
    assert found["tv"] == pytest.approx(1 / 8, abs=1e-15)
    assert found["laws"] == {"due": ["1/4"] * 4, "came": ["1/4", "1/4", "1/8", "3/8"]}
    assert found["setting"]["window"] == 2
    assert found["setting"]["model"]["laws"] == [
        {"after": [], "weights": [1, 1]},
        {"after": [0], "weights": [1, 1]},
        {"after": [1], "weights": [1, 1]},
    ]
    assert found["location"]["position"] == 1
    assert found["location"]["branch"] == "accepted (redraft)"
    assert json.loads(json.dumps(found)) == found, "plain data"


def test_saved_and_loaded_it_is_the_same(found, tmp_path):
    path = save(found, tmp_path / "certificate.json")
    assert load(path) == found
    assert case_of(found) == CASE
    assert claim_of(found) == Lossless()


def test_a_refutation_stands_when_it_is_replayed(found, tmp_path):
    path = save(found, tmp_path / "certificate.json")
    judgement = replay(path, subject=RELEASED)
    assert judgement.verdict.kind is Kind.REFUTED
    assert judgement.verdict.reason.startswith("the refutation stands: exact TV 1/8 from the target")
    assert judgement.certificate["tv"] == found["tv"]
    assert judgement.reproduce == f"specverify replay {path}"
    assert judgement.exact[0]["tv"] == found["tv"]
    assert "total variation 1/8" in judgement.notes[0]


def test_the_corrected_decoder_passes_the_certificate(found):
    judgement = replay(found, subject=corrected)
    assert judgement.verdict.kind is Kind.CONSISTENT
    assert judgement.verdict.reason.startswith("the refutation does not stand: exact TV ")
    assert judgement.verdict.reason.endswith("in its setting, the only one that was run; the certificate says TV 0.125")
    assert judgement.exact[0]["tv"] <= 1e-12
    assert judgement.not_covered == ("every setting but the certificate's",)


def test_another_error_than_before_is_said_to_be_another(found):
    judgement = replay({**found, "tv": 0.2}, subject=RELEASED)
    assert judgement.verdict.kind is Kind.REFUTED
    assert judgement.verdict.reason.startswith("refuted, but not as before (the certificate says TV 0.2): exact TV 1/8")


def test_a_subject_is_found_again_by_its_reference(found, tmp_path, monkeypatch):
    (tmp_path / "released_decoder.py").write_text(
        "from specverify import defects\n"
        "def build(settings):\n"
        "    return defects.get('stale-scores-after-coupling').build(settings)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    judgement = replay({**found, "subject": "released_decoder:build"})
    assert judgement.verdict.kind is Kind.REFUTED
    assert judgement.certificate["subject"] == "released_decoder:build"
    with pytest.raises(InputError, match="has no 'gone'"):
        replay({**found, "subject": "released_decoder:gone"})


def test_without_a_subject_there_is_nothing_to_replay(found):
    with pytest.raises(InputError, match="'scd-mc, as released' does not say where its subject is; pass the subject"):
        replay(found)


class Breaks:
    def init(self, model, batch, draws):
        raise ContractError("this never works")

    def step(self, state, model, draws):
        raise AssertionError


def test_a_decoder_that_breaks_down_has_a_certificate_too():
    counterexample = explain(lambda settings: Breaks(), CASE, Lossless())
    found = check(certificate(counterexample, name="breaks", subject=None))
    assert (found["problem"], found["tv"], found["laws"]) == ("error", None, None)
    judgement = replay(found, subject=Breaks())
    assert judgement.verdict.kind is Kind.ERROR
    assert (
        judgement.verdict.reason == "the decoder breaks down: this never works; the certificate says this never works"
    )
    assert describe(counterexample).splitlines()[:2] == ["not lossless, but broken", "error      this never works"]
    assert headline(counterexample) == "with 2 tokens, 2 positions, window 2: this never works"
    assert replay(found, subject=corrected).verdict.kind is Kind.CONSISTENT


def test_a_setting_that_the_subject_does_not_take_is_an_error(found):
    judgement = replay(found, subject=lambda settings: registry.build("sd", settings))
    assert judgement.verdict.kind is Kind.ERROR
    assert (
        "the certificate's setting cannot be judged: decoder 'sd' drafts with a second model"
        in judgement.verdict.reason
    )


@pytest.mark.parametrize("claim", [Relaxed(0.1), ClusterLossless(((0,), (1,))), ClusterLossless(((0, 1),))])
def test_claims_come_back_as_they_were(found, claim):
    again = certificate(Counterexample(CASE, claim, "error", error="x"), name="x", subject=None)
    assert claim_of(check(again)) == claim


@pytest.mark.parametrize(
    "case",
    [
        Case(Weights(2, 1, ((500, 0),), eos=1), Weights(2, 1, ((1, 3),)), 1, None, "ragged"),
        Case(Weights(2, 3, ((1, 1), (1, 2), (2, 1)), span=1, processors="top_k=1"), None, None, None, "alone"),
        Case("dense-2x8", "perturbed", 3),
        Case(Weights(2, 1, ((1, 3),), guide=((3, 1),)), None, 1),
    ],
)
def test_settings_come_back_as_they_were(case):
    found = certificate(Counterexample(case, Lossless(), "error", error="x"), name="x", subject="a:b")
    assert case_of(check(found)) == case, "as it was handed back, or from a file"
    assert case_of(json.loads(json.dumps(check(found)))) == case


def test_a_toy_as_the_model():
    model = replace(CASE, model="dense-2x8")
    counterexample = explain(RELEASED, model, Lossless())
    found = certificate(counterexample, name="x", subject=None)
    assert found["setting"]["model"] == "dense-2x8"
    assert replay(found, subject=RELEASED).verdict.kind is Kind.REFUTED
    assert "p          of the toy dense-2x8" in describe(counterexample)
    assert max(map(len, describe(counterexample).splitlines())) <= 80


def test_of_many_tokens_those_farthest_off_are_shown():
    weights = tuple((7 + 3 * context, *range(1, 16)) for context in range(17))
    counterexample = explain(RELEASED, Case(Weights(16, 2, weights), window=2), Lossless())
    lines = describe(counterexample).splitlines()
    assert max(map(len, lines)) <= 80
    heads = next(line for line in lines if "token 0" in line).split("token")[1:]
    hidden = next(int(line.split()[1]) for line in lines if line.endswith("more tokens, less far off"))
    assert len(heads) + hidden == 16
    location = counterexample.location
    off = [abs(came - due) for came, due in zip(location.came, location.due, strict=True)]
    assert off.index(max(off)) in map(int, heads)


def changed(found, path, value):
    plain = json.loads(json.dumps(found))
    place = plain
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], "something", "the certificate is not valid at format: 'specverify-certificate' was expected"),
        (["version"], 99, "the certificate has version 99; this specverify reads version 1: find it anew"),
        (["setting"], None, "is not valid at the whole: 'setting' is a required property"),
        (["extra"], 1, "is not valid at the whole: Additional properties are not allowed"),
        (["claim", "kind"], "perfect", "is not valid at claim"),
        (["setting", "window"], 0, "is not valid at setting/window: 0 is less than the minimum of 1"),
        (["setting", "arrangement"], "sideways", "is not valid at setting/arrangement"),
        (["setting", "model", "laws", 0, "weights"], [1, -1], "is not valid at setting/model"),
        (["setting", "model", "laws", 0, "weights"], [0, 0], "(0, 0) are no weights: 2 integers of at least 0"),
        (["setting", "model", "laws", 0, "after"], [1], "the law after [1] stands where that after [] belongs"),
        (["setting", "model", "laws", 2], None, "2 laws are given; 2 tokens and length 2 have 3 contexts"),
        (["setting", "model", "eos"], 7, "eos 7 is outside the vocabulary 0..1"),
        (["tv"], "much", "is not valid at tv: 'much' is not of type 'number', 'null'"),
    ],
)
def test_what_is_no_certificate_is_refused(found, tmp_path, path, value, message):
    broken = changed(found, path, value)
    with pytest.raises(InputError) as caught:
        check(broken)
    assert message in str(caught.value)
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(broken))
    with pytest.raises(InputError) as caught:
        load(file)
    assert message.removeprefix("the certificate") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON: Expecting value"),
        (b"{", "is no JSON: Expecting property name"),
        (b"\xff\xfe", "is no JSON: 'utf-8' codec can't decode"),
        (b"[]", "is not valid at the whole: [] is not of type 'object'"),
        (b"null", "is not valid at the whole: None is not of type 'object'"),
    ],
)
def test_a_corrupt_file_is_refused(tmp_path, content, message):
    path = tmp_path / "certificate.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_judgement_is_no_certificate_and_may_have_none(tmp_path):
    (tmp_path / "judgement.json").write_text('{"verdict": {"kind": "CONSISTENT"}}')
    with pytest.raises(InputError, match="the judgement beside it has none: one has that is refuted by an"):
        load(tmp_path / "certificate.json")
    with pytest.raises(InputError, match=r"judgement.json is a judgement; .* beside it, certificate.json"):
        load(tmp_path / "judgement.json")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"certificate .*gone.json cannot be read: No such file or directory"):
        load(tmp_path / "gone.json")
