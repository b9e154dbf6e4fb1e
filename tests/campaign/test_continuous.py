"""Continuous tokens in a campaign: exact rules are proved, decoders consistent, and CSpD refuted where it is wrong."""

import numpy as np
import pytest
import torch

from specverify import campaign, continuous_density
from specverify.cell import ALPHA, BETA, DELTA_CONTINUOUS, Cell
from specverify.cells import carry_out, checks
from specverify.claims import Lossless
from specverify.continuous_density import CSPD, EXACT, NODES, pair
from specverify.decoders import registry, sample
from specverify.decoders.continuous import coupling
from specverify.defects import continuous as continuous_defects
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.evidence import quadrature
from specverify.evidence.quadrature import Output
from specverify.evidence.rosenblatt import RosenblattUniformity
from specverify.kinds import KINDS
from specverify.kinds import continuous as kind
from specverify.kinds.density import judge_density
from specverify.kinds.kind import Setting
from specverify.laws import select
from specverify.plan import plan
from specverify.rules import reflection, rejection
from specverify.rules.relaxation import NOTHING
from toymodels import continuous

HEADER = {"hardware": {"accelerator": None}}
CONTROL = "cspd-variance-as-std"


@pytest.fixture(scope="module")
def densities():
    """All but two that take an eighth of the time each; tests/stats has these."""
    cells = [
        cell
        for cell in plan("quick", "density/*")
        if (cell.decoder, cell.model) != ("path", "score-1x4") or cell.draft == "shifted"
    ]
    return campaign._finish(HEADER, cells, carried_out(cells))


def by_name(record):
    return {(c["decoder"], c["model"], c["settings"]["draft"]): c for c in record["cells"]}


@pytest.mark.slow
def test_exact_rules_are_proved_to_a_millionth(densities):
    exact = [c for c in densities["cells"] if c["decoder"] in EXACT]
    assert {c["decoder"] for c in exact} == set(EXACT)
    for cell in exact:
        found = cell["figures"]["density"]
        assert cell["verdict"]["kind"] == "PROVED", cell["id"]
        assert (cell["claim"], cell["expected"]) == ("lossless", None)
        assert found["tv"] + found["error"] <= 1e-6
        assert found["accepted"] <= found["overlap"] + 1e-9, "no lossless rule keeps more"
        if cell["decoder"] in ("thinning", "reflection", "maximal"):
            assert found["accepted"] == pytest.approx(found["overlap"], abs=1e-9), "a maximal coupling"


@pytest.mark.slow
def test_acceptance_keeps_the_order_of_data_processing(densities):
    """Trajectories, whole or step by step, are kept less often than tokens can be; neither of the two always leads."""
    found = by_name(densities)
    wheres = [key[1:] for key in found if key[0] == "path"]
    assert len(wheres) == 4
    leads = []
    for where in wheres:
        path, steps, last = (found[rule, *where]["figures"]["density"] for rule in ("path", "steps", "last-step"))
        # Kinks between the nodes leave a thousandth in the rates, though nothing in the output.
        assert max(one["accepted"] for one in (path, steps, last)) < path["overlap"] - 0.01
        leads.append(path["accepted"] - steps["accepted"])
    assert min(leads) < -0.04
    assert max(leads) > 0.01


@pytest.mark.slow
def test_cspd_is_refuted_with_its_bias_wherever_its_factor_is_not_one(densities):
    found = by_name(densities)
    wrong = [c for c in densities["cells"] if c["expected"] == "REFUTED"]
    assert {c["decoder"] for c in wrong} == set(CSPD)
    for cell in wrong:
        assert cell["verdict"]["kind"] == "REFUTED", cell["id"]
        assert cell["claim"] == "lossless"
        assert cell["figures"]["density"]["tv"] > 0.05 > 20 * cell["figures"]["density"]["error"]
    published = found["cspd", "chain-1x4", "wider"]["figures"]["density"]
    assert published["tv"] == pytest.approx(0.0743, abs=2e-4)
    assert published["accepted"] > published["overlap"] + 0.05, "more than any lossless rule could keep"
    assert found["cspd-released", "chain-1x4", "wider"]["figures"]["density"]["atom"] > 1e-4
    assert densities["verdict"]["kind"] == "PROVED"
    assert not any("cspd" in verdict["decoder"] for verdict in densities["verdicts"])


@pytest.mark.slow
def test_cspd_as_published_is_exact_where_covariances_are_shared_and_claims_nothing(densities):
    found = by_name(densities)
    for model, least in (("chain-1x4", 1e-14), ("score-1x4", 1e-6)):
        cell = found["cspd", model, "shifted"]
        assert cell["figures"]["density"]["tv"] < least
        assert (cell["claim"], cell["expected"], cell["verdict"]["kind"]) == ("relaxed(tv<=1)", None, "VACUOUS")
        assert "Sigma is 1" in cell["verdict"]["reason"]
        assert cell["figures"]["density"]["accepted"] < cell["figures"]["density"]["overlap"] - 0.01
    silent = [note for note in densities["not_covered"] if "whose claim says nothing" in note]
    assert len(silent) == 1
    assert "cspd" in silent[0]
    assert found["cspd-acceptance-temperature", "chain-1x4", "shifted"]["verdict"]["kind"] == "REFUTED"


@pytest.mark.slow
def test_the_curves_of_a_density_are_densities(densities):
    found = by_name(densities)["thinning", "mix-1x6", "shifted"]["figures"]["density"]
    for name in ("p", "q", "out"):
        assert np.trapezoid(found[name], found["x"]) == pytest.approx(1, abs=5e-3)
    assert np.allclose(found["out"], found["p"], atol=1e-4)
    assert not np.allclose(found["q"], found["p"], atol=0.05)


def test_a_broken_rule_is_refuted(monkeypatch):
    """What is summed is the rule itself: thinning that keeps every proposal draws from p, not from the residual."""
    monkeypatch.setattr(continuous_density, "thin_probability", lambda p, q, x: torch.ones_like(p.log_prob(x)))
    result = carry_out(Cell("density", "thinning", "gauss-1x6", draft="shifted"), Setting("quick", 0, "cpu", {}))
    assert result["verdict"]["kind"] == "REFUTED"
    assert 0.1 < result["figures"]["density"]["tv"] < 0.3


@pytest.mark.parametrize(
    ("rule", "part", "broken"),
    [
        ("path", "thin_probability", lambda p, q, x: torch.ones_like(p.log_prob(x))),
        ("steps", "thin_probability", lambda p, q, x: torch.ones_like(p.log_prob(x))),
        ("steps", "accept_probability", lambda p, q, x: torch.ones_like(p.log_prob(x))),
    ],
)
def test_broken_rules_on_trajectories_are_refuted(monkeypatch, rule, part, broken):
    monkeypatch.setattr(continuous_density, part, broken)
    found = EXACT[rule](pair("chain-1x4", "wider"), 24)
    assert found.tv > 0.01


def test_heads_that_begin_apart_are_refused():
    found = pair("chain-1x4", "shifted")
    first = found.q.head.first
    found.q.head.first = lambda condition: continuous_density.Gaussian(
        first(condition).mean + 1, first(condition).scale
    )
    with pytest.raises(InputError, match="the two chains begin with different noise"):
        EXACT["steps"](found, NODES)


@pytest.mark.parametrize(("rule", "model"), [("thinning", "mix-1x6"), ("maximal", "gauss-1x6")])
def test_rules_sampled_have_the_density(rule, model, seed):
    """4,000 decisions by the rule that is shipped, in ten cells of equal mass."""
    found = pair(model, "wider")
    output = EXACT[rule](found, NODES)
    assert output.accepted == pytest.approx(quadrature.overlap(found.on, found.log_p, found.log_q), abs=1e-12)
    rows = 4000
    many = [select(law, torch.zeros(rows, dtype=torch.int64)) for law in (found.p, found.q)]
    where = torch.ones(rows, dtype=torch.bool)
    draws = Sampled(seed)
    decided = rejection.decide(*many, many[1].sample(draws, where), draws, where)
    below = np.cumsum(output.out * output.line.weight)
    counts = np.bincount(
        (np.interp(decided.x[:, 0].numpy(), output.x, below) * 10).astype(int).clip(0, 9), minlength=10
    )
    assert ((counts - rows / 10) ** 2 / (rows / 10)).sum() < 50  # 9 degrees of freedom: p = 1e-7


def test_verdicts_of_densities():
    on = quadrature.panels(np.linspace(-9.0, 9.0, 40))
    p = np.exp(-0.5 * on.x**2) / np.sqrt(2 * np.pi)

    def judged(out, claim=None, **parts):
        return judge_density(claim or Lossless(), Output(on, p, out, 0.6, **parts), 0.7)

    moved = p * (1 + 0.1 * np.sign(on.x))
    assert judged(p).kind.value == "PROVED"
    assert judged(moved).kind.value == "REFUTED"
    assert "0.05 from p" in judged(moved).reason
    assert judged(p, error=1e-3).kind.value == "INCONCLUSIVE"
    assert judged(moved, NOTHING).kind.value == "VACUOUS"
    none_rejected = judge_density(Lossless(), Output(on, p, p, 1.0), 1.0)
    assert (none_rejected.kind.value, "residual" in none_rejected.reason) == ("VACUOUS", True)
    with pytest.raises(InputError, match=r"mass 0\.5"):
        judged(p / 2)
    with pytest.raises(InputError, match="'gauss-2x6' has 2 dimensions"):
        pair("gauss-2x6", "shifted")


def test_the_plan_checks_every_decoder_at_a_hundredth():
    for tier in ("quick", "full"):
        cells = [cell for cell in plan(tier) if cell.kind == "continuous"]
        assert {cell.decoder for cell in cells} >= set(registry.names("vectors"))
        assert {int(cell.model.split("-")[1].split("x")[0]) for cell in cells} >= {1, 2, 8, 16}
        alpha = ALPHA / sum(len(checks(cell)) for cell in plan(tier))
        for cell in cells:
            model = continuous.toy(cell.model)
            check = RosenblattUniformity("all", model.length, model.dim)
            seen = check.smallest_detectable(cell.n, alpha=alpha, beta=BETA)
            assert KINDS[cell.kind].known_wrong(cell) or seen <= DELTA_CONTINUOUS["Rosenblatt uniformity"] == 0.01, (
                cell.id
            )


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    return campaign.verify("quick", 0, tmp_path_factory.mktemp("continuous"), only="continuous/sd*/gauss-1x6*", jobs=1)


@pytest.mark.slow
def test_decoders_are_consistent_at_a_hundredth(sampled):
    assert sampled["verdict"]["kind"] == "CONSISTENT"
    assert {v["decoder"] for v in sampled["verdicts"]} == {"sd (continuous)", "sd-reflection (continuous)"}
    for cell in sampled["cells"]:
        assert cell["verdict"]["kind"] == "CONSISTENT", cell["verdict"]["reason"]
        uniform = cell["evidence"][0]
        assert (uniform["check"], uniform["rejected"]) == ("Rosenblatt uniformity", False)
        assert uniform["delta"] <= 0.01
        assert cell["run"]["tokens"] == 6 * cell["run"]["n"]
        if cell["decoder"] == "sd" and cell["settings"]["draft"] == "shifted":
            assert cell["figures"]["overlap"] == pytest.approx(0.6170750774519738)
            assert cell["evidence"][-1]["check"] == "acceptance rate is the overlap"
    assert any("continuous tokens" in note for note in sampled["not_covered"])


def carried_out(cells):
    alphas = {f"{cell.id}: {check}": 1e-9 for cell in cells for check in checks(cell)}
    return {cell.id: carry_out(cell, Setting("quick", 0, "cpu", alphas)) for cell in cells}


def test_cspd_and_its_flaws_are_refuted_by_their_samples():
    cells = plan("quick", "continuous/cspd*")
    found = carried_out(cells)
    wrong = {cell.decoder for cell in cells if KINDS[cell.kind].known_wrong(cell)}
    flaws = {name for name in continuous_defects.names() if name.startswith("cspd")}
    assert wrong == {"cspd", "cspd-released", *flaws} - {CONTROL}
    for cell in cells:
        result = found[cell.id]
        assert result["claim"] == "lossless"
        assert result["verdict"]["kind"] == ("REFUTED" if cell.decoder in wrong else "CONSISTENT"), cell.id
        assert result["expected"] == ("REFUTED" if cell.decoder in wrong else None)
        rejecting = [item["check"] for item in result["evidence"] if item["rejected"]]
        if cell.decoder == "cspd-trial-cap-zero":
            equal = {"values that many tokens share", "noise that many tokens share"}
            assert "values that many tokens share" in rejecting
            assert set(rejecting) <= equal, "its zero vectors are too few for any other check"
        elif cell.decoder != CONTROL:
            assert result["evidence"][0]["estimate"] > 0.005
    record = campaign._finish(HEADER, cells, found)
    assert record["verdicts"] == [], "a control is no decoder that somebody claims something of"
    assert record["verdict"]["kind"] == "INCONCLUSIVE", "that the checks work proves nothing of anybody's decoder"
    assert record["verdict"]["exit_code"] == 2
    assert record["verdict"]["reason"] == (
        f"{len(wrong)} known-wrong decoders, all refuted; 1 control, none flagged; "
        "nothing was proved: no decoder that claims anything was judged"
    )


def test_what_is_known_to_be_wrong_and_passes_is_an_error(monkeypatch):
    monkeypatch.setattr(kind.registry, "build", lambda name, settings: registry.Autoregressive())
    (cell,) = plan("quick", "continuous/cspd/chain-1x4/*")
    record = campaign._finish(HEADER, [cell], carried_out([cell]))
    assert record["verdict"]["kind"] == "ERROR"
    assert "missed known-wrong decoders: continuous/cspd/" in record["verdict"]["reason"]


def test_first_drafts_are_drawn_apart_from_the_sequences(seed):
    """The seed of the acceptance check is not that of the run."""
    cell = next(c for c in plan("quick") if c.decoder == "sd" and c.kind == "continuous")
    model, decoder = kind.build(cell)
    run = sample(decoder, model, 2000, seed)
    alphas = dict.fromkeys(checks(cell), 1e-6)
    result = {"figures": {}}
    found = [kind.evidence(cell, model, decoder, run.tokens, alphas, s, result) for s in (seed, seed + 1)]
    assert found[0][0] == found[1][0]
    assert found[0][-1].statistic != found[1][-1].statistic
    assert result["figures"]["overlap"] == pytest.approx(0.80640, abs=1e-4)


@pytest.mark.parametrize(
    ("toy", "share"), [("gauss-1x6", 0.0), ("equal-1x6", 1.0), ("equal-4x4", 1.0), ("equal-16x4", 1.0)]
)
def test_jacobi_decoding_reflects_its_drafts_where_covariances_are_equal(monkeypatch, toy, share):
    """Of the drafts that are not kept, in judging and in redrawing."""
    seen = []
    plain = coupling.couple

    def spied(p, q, x, draws, where, *rest, **named):
        found = plain(p, q, x, draws, where, *rest, **named)
        seen.append((reflection.equal_covariance(p, q)[where & ~found.accepted]).double())
        return found

    monkeypatch.setattr(coupling, "couple", spied)
    model = continuous.toy(toy)
    sample(registry.build("jacobi-reflection", registry.Settings(3)), model, 300, 0)
    shares = torch.cat(seen)
    assert len(shares) >= 300
    # An old law may be the new one to the last bit where nothing that it depends on has changed.
    assert float(shares.mean()) == pytest.approx(share, abs=0.02)
