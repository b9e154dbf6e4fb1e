"""Proofs for every law as cells of a campaign: what is planned, what each says, and certificates beside the record."""

from __future__ import annotations

import json

import pytest

from specverify import campaign, defects
from specverify.cell import Cell
from specverify.cells import carry_out
from specverify.decoders import registry
from specverify.errors import InputError
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import BITS, Proof
from specverify.kinds import proof
from specverify.kinds.kind import Setting
from specverify.plan import plan
from specverify.plan_proofs import WRONG
from specverify.report import record as records
from specverify.subjects import certificate

SETTING = Setting("quick", 0, "cpu", {})


def carried(name, sizes="2x3x2", **options):
    return carry_out(Cell("proof", name, sizes, proof.box(name, sizes).window, **options), SETTING)


@pytest.mark.parametrize("tier", ["quick", "full"])
def test_every_lossless_decoder_is_to_be_proved(tier):
    cells = plan(tier, "proof/*")
    right = {cell.decoder for cell in cells if cell.rule is None} - set(defects.names())
    lossless = set(registry.names("ids", relaxed=False))
    assert right == lossless
    races = [cell for cell in cells if cell.decoder in right and registry.entry(cell.decoder).races]
    assert {cell.decoder for cell in races} == {"ar-race", "scd-gs", "sjd-race", "sd-list-gumbel"}
    assert all(cell.model.startswith("2x") for cell in races)
    wrong = [cell for cell in cells if proof.known_wrong(cell)]
    assert len(wrong) >= 3
    assert all(defects.get(cell.decoder).lossy for cell in wrong)


def test_a_cell_is_named_by_its_sizes():
    ids = {cell.id for cell in plan("quick", "proof/*")}
    assert {"proof/scd-mc/3x4x3", "proof/scd-mc/3x3x2-end", "proof/scd-mc/2x4x2/random", "proof/ar/3x4"} <= ids
    assert ids < {cell.id for cell in plan("full", "proof/*")}
    for cell in plan("full", "proof/*"):
        assert proof.box(cell.decoder, cell.model, cell.initial).sizes == cell.model


def test_a_lossless_decoder_is_proved_with_its_box_its_error_and_what_it_took():
    found = carried("sd")
    said = found["verdict"]["reason"]
    assert found["verdict"]["kind"] == "PROVED-FOR-ALL"
    assert "for every law of target and draft model, zeros included: 2 tokens by 3, window 2" in said
    row = found["proof"]
    assert (row["outcome"], row["vocab"], row["length"], row["window"], row["drafts"]) == ("proved", 2, 3, 2, True)
    assert row["error_bits"] > BITS
    assert 2**126 < int(row["prime"]) < 2**127
    assert min(row["numbers"], row["symbols"], row["assumptions"], row["worlds"]) > 0
    assert row["seconds"] > 0


@pytest.mark.parametrize("name", ["ar-race", "scd-gs", "sjd-race"])
def test_what_draws_by_races_is_proved_and_its_certificate_carried_out_again(name, tmp_path):
    found = carried(name)
    assert found["verdict"]["kind"] == "PROVED-FOR-ALL"
    assert "zeros included: 2 tokens by 3" in found["verdict"]["reason"]
    proof.write([found], tmp_path)
    again = certificate.replay(tmp_path / "proofs" / f"{name}.json")
    assert (again.subject, again.verdict.kind.value) == (name, "PROVED-FOR-ALL")


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", WRONG)
def test_a_known_wrong_decoder_differs_and_is_refuted_by_enumeration(name):
    found = carried(name)
    assert (found["expected"], found["verdict"]["kind"], found["proof"]["outcome"]) == ("REFUTED", "REFUTED", "differs")
    assert "another chance at a random point" in found["verdict"]["reason"]
    assert "enumerated: exact TV" in found["verdict"]["reason"]


def test_what_is_out_of_reach_says_nothing():
    found = carried("residual-rewarped", "2x2x1")
    assert found["verdict"]["kind"] == "VACUOUS"
    assert "uses log on laws" in found["verdict"]["reason"]


def test_who_differs_at_the_point_and_not_at_a_law_is_not_refuted(monkeypatch):
    """As one is that is right only by an order of probabilities."""
    differs = Proof(Box(2, 3, 2, drafts=True), "differs", "3 of 8 sequences have another chance at a random point")
    monkeypatch.setattr(proof, "prove", lambda *_, **__: differs)
    found = carried("sd")
    assert found["verdict"]["kind"] == "VACUOUS"
    assert "says nothing against it" in found["verdict"]["reason"]


def test_what_is_too_large_is_not_proved(monkeypatch):
    monkeypatch.setattr(proof, "WORLDS", 20)
    found = carried("sjd")
    assert (found["verdict"]["kind"], found["proof"]["outcome"]) == ("VACUOUS", "too large")


ONLY = "proof/s[jc]d-*c*/2x4x2/*"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proofs") / "out"
    campaign.verify("quick", 3, folder, only=ONLY, jobs=1)
    return folder


def test_a_campaign_of_proofs_has_the_verdict_and_says_of_which_sizes(out):
    record = records.load(out)
    assert record["verdict"]["kind"] == "PROVED-FOR-ALL"
    assert record["verdict"]["exit_code"] == 0
    (block, coupled) = record["verdicts"]
    assert (block["decoder"], coupled["decoder"], coupled["kind"]) == ("sjd-block", "scd-mc", "PROVED-FOR-ALL")
    assert "2 tokens by 4, window 2, from zero and random and sample-left drafts" in coupled["reason"]
    assert "error at most 2^-" in coupled["reason"]
    assert coupled["reason"].endswith("seed 3); 3 proved-for-all")
    assert any("scd-gs" in note and "more than two tokens" in note for note in record["not_covered"])


def test_a_certificate_beside_the_record_is_carried_out_again(out):
    assert sorted(path.name for path in (out / "proofs").iterdir()) == ["scd-mc.json", "sjd-block.json"]
    found = certificate.load(out / "proofs" / "scd-mc.json")
    assert found["seed"] == 3
    assert [run["initial"] for run in found["runs"]] == ["zero", "random", "sample-left"]
    primes = {cell["proof"]["prime"] for cell in records.load(out)["cells"]}
    assert {run["prime"] for run in found["runs"]} == primes
    found["runs"] = found["runs"][:1]
    again = certificate.replay(found)
    assert again.verdict.kind.value == "PROVED-FOR-ALL"
    found["runs"][0]["prime"] = "101"
    assert certificate.replay(found).verdict.kind.value == "INCONCLUSIVE"


def test_a_certificate_of_what_was_not_proved_this_time_is_removed(out, tmp_path):
    cells = [cell for cell in records.load(out)["cells"] if cell["decoder"] == "scd-mc"]
    (tmp_path / "proofs").mkdir()
    (tmp_path / "proofs" / "sd.json").write_text("{}")
    proof.write(cells, tmp_path)
    assert [path.name for path in (tmp_path / "proofs").iterdir()] == ["scd-mc.json"]
    proof.write([], tmp_path)
    assert [*(tmp_path / "proofs").iterdir()] == []


@pytest.mark.parametrize(
    ("rule", "value", "sizes", "subject"),
    [
        ("mixture", 0.1, "3x1x1", "mixture rule, one token"),
        ("lantern", 0.1, "2x1x1", "lantern rule, one token"),
        ("gsd-clusters", None, "3x2x1", "gsd-clusters rule"),
    ],
)
def test_what_a_rule_keeps_to_is_said_of_the_rule_and_not_of_the_decoder(rule, value, sizes, subject, tmp_path):
    found = carried("sd", sizes, rule=rule, value=value)
    assert found["verdict"]["kind"] == "PROVED-FOR-ALL"
    assert found["verdict"]["reason"].startswith(f"{found['claim']}, for every law of target and draft model")
    assert found["claim"] != "lossless"
    assert not campaign._speaks(found)
    assert list(campaign._of_rules([found])) == [subject]
    proof.write([found], tmp_path)
    again = certificate.replay(tmp_path / "proofs" / f"sd-{rule}.json")
    assert (again.verdict.kind.value, again.claim) == ("PROVED-FOR-ALL", found["claim"])
    changed = certificate.load(tmp_path / "proofs" / f"sd-{rule}.json")
    changed["claim"] = {"kind": "lossless"}
    with pytest.raises(InputError, match="is of lossless, and its runs of"):
        certificate.check(changed)


def test_a_certificate_of_several_limits_says_them_all(tmp_path):
    proof.write([carried("sd", "2x1x1", rule="lantern", value=value) for value in (0.1, 0.2)], tmp_path)
    again = certificate.replay(tmp_path / "proofs" / "sd-lantern.json")
    assert again.verdict.kind.value == "PROVED-FOR-ALL"
    assert "lend at most 0.1; " in again.claim
    assert again.claim.endswith("lend at most 0.2")


def test_a_rule_that_claims_nothing_of_the_kind_is_an_error():
    found = carried("sd", "3x1x1", rule="typical", value=None)
    assert found["verdict"]["kind"] == "ERROR"
    assert "rule 'typical' keeps to nothing" in found["verdict"]["reason"]


def _row(kind, verdict, decoder="sd"):
    return {"id": f"{kind}/{decoder}", "kind": kind, "decoder": decoder, "claim": "lossless", "expected": None,
            "verdict": {"kind": verdict, "reason": "so"}}  # fmt: skip


@pytest.mark.parametrize(
    ("models", "law", "kind"),
    [
        (["PROVED", "PROVED"], "PROVED-FOR-ALL", "PROVED-FOR-ALL"),
        (["PROVED", "CONSISTENT"], "PROVED-FOR-ALL", "PROVED-FOR-ALL"),
        (["PROVED", "CONSISTENT"], "VACUOUS", "CONSISTENT"),
        (["PROVED", "INCONCLUSIVE"], "PROVED-FOR-ALL", "INCONCLUSIVE"),
        (["PROVED", "REFUTED"], "PROVED-FOR-ALL", "REFUTED"),
        (["PROVED", "ERROR"], "PROVED-FOR-ALL", "ERROR"),
        (["PROVED", "CONSISTENT"], "REFUTED", "REFUTED"),
        (["VACUOUS"], "PROVED-FOR-ALL", "PROVED-FOR-ALL"),
    ],
)
def test_a_proof_lifts_what_passed_and_nothing_that_did_not(models, law, kind):
    proof = carried("ar", "2x2")["proof"]
    rows = [_row("exact", each) for each in models] + [_row("proof", law) | {"proof": proof}]
    found = campaign._verdict("sd", rows)
    assert found["kind"] == kind
    assert json.dumps(found).isascii()
    if kind == "PROVED-FOR-ALL":
        assert "2 tokens by 2" in found["reason"]
