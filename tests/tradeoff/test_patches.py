"""The sweep of decoders on models of patches: what is planned, measured, watched, reported and chosen."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from realmodels import bootstrap, continuous
from specverify.decoders import registry, sample
from specverify.decoders.continuous import TokenRule
from specverify.errors import InputError
from specverify.tradeoff import choose, decoders, measure, patches, report, sweep
from specverify.tradeoff import record as records
from specverify.tradeoff.decoders import names, plan, why_not
from specverify.tradeoff.plan import AR, REAL, Asked, Cell
from specverify.tradeoff.setting import Setting

SMALL = Setting("digits-gmm", n=66, window=None, batch=40, resamples=20)


# ---- what is planned


@pytest.mark.parametrize(
    ("model", "able"),
    [
        ("digits-gmm", {"sd", "jacobi", "jacobi-maximal"}),
        ("digits-gmm-draft", {"jacobi", "jacobi-maximal"}),
        (
            "digits-diff",
            {"sd-path", "sd-steps", "sd-last", "jacobi-steps", "jacobi-last", "jacobi-path", "jacobi-noise-path"}
            | {"cspd", "cspd-released"},
        ),
    ],
)
def test_every_decoder_is_swept_or_left_out_for_a_reason(model, able):
    cells, omitted = plan(model)
    assert [cell.rule for cell in cells if cell.is_baseline] == [REAL, AR, AR]
    swept = {cell.rule for cell in cells if not cell.is_baseline}
    assert able <= swept
    assert not {"sd-reflection", "jacobi-reflection", "jacobi-noise"} & swept
    assert swept | set(omitted) == set(names()) >= set(registry.names("vectors")) - {AR}
    assert not swept & set(omitted)
    assert all(omitted.values())
    assert len({cell.id for cell in cells}) == len(cells)
    assert all(cell.window for cell in cells if not cell.is_baseline)


def test_every_setting_builds_the_decoder_that_it_names():
    for model in ("digits-gmm", "digits-diff"):
        draft = continuous.load(f"{model}-draft")
        for cell in plan(model)[0]:
            if cell.rule == REAL:
                continue
            built = decoders.build(cell, draft)
            assert built.name == cell.rule
            if cell.rule != AR:
                assert built.window == cell.window
            if cell.parameter == "limit":
                assert built.judging == TokenRule(int(cell.value))
            if cell.parameter == "prefill":
                assert (built.drafting if cell.rule == "cspd" else built.draft).prefill == cell.value
            if cell.parameter in ("temperature", "sigma-power"):
                of_cell = (built.judging.criterion.temperature, built.judging.criterion.power)
                assert of_cell == ((cell.value, 1.0) if cell.parameter == "temperature" else (1.0, cell.value))


def test_windows_and_decoders_can_be_chosen():
    asked = Asked(decoders=["jacobi", "sd"], windows=[3, 1], guidance=(1.0,), only="*/window-3*")
    cells, omitted = plan("digits-gmm", asked)
    ids = [cell.id for cell in cells if not cell.is_baseline]
    assert ids[:2] == ["guidance-1/jacobi/window-3", "guidance-1/sd/window-3"]
    assert "guidance-1/sd/window-3/limit=2" in ids
    assert omitted == {}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"decoders": ["sdd"]}, "unknown decoder 'sdd'; did you mean sd"),
        ({"decoders": ["ar"]}, "'ar' .* is measured anyway"),
        (
            {"decoders": ["sd-path"]},
            "'sd-path' does not go with digits-gmm: it compares trajectories.*choose from sd, jacobi, jacobi-maximal",
        ),
        ({"decoders": []}, "needs a decoder at least"),
        ({"windows": [2, 0]}, "window 0: it is the number of draft tokens"),
        ({"guidance": (-1.0,)}, "guidance -1.0 is not a finite number"),
        ({"guidance": (1.0, 1.5)}, "guidance 1.5 of a mixture is no mixture; use 1"),
        ({"rules": ["gsd"]}, "digits-gmm is a model of patches: choose among its decoders with --decoders"),
        ({"drafting": ["gumbel"]}, "--rules and --drafting are for models of ids"),
        ({"only": "nothing"}, "no setting matches 'nothing'; ids look like 'guidance-1/sd/window-2'"),
    ],
)
def test_what_cannot_be_planned_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        plan("digits-gmm", Asked(**asked))


def test_the_reason_names_what_the_head_lacks():
    assert "a mixture has none" in why_not("cspd", "digits-gmm")
    assert "density of a token" in why_not("sd", "digits-diff")
    assert "this head gives chains of denoising steps" in why_not("jacobi-noise", "digits-diff")
    assert why_not("sd", "digits-gmm-draft") == "drafts with a second model, and there is no digits-gmm-draft-draft"
    assert why_not("sd", "digits-gmm") is None


# ---- watching


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("model", "cell"),
    [
        ("digits-gmm", Cell("sd", 1.0, None, "limit", 1, window=4)),
        ("digits-diff", Cell("cspd", 1.0, None, "temperature", 4, window=3)),
    ],
)
def test_watching_changes_nothing_and_counts_every_judged_draft(model, cell, seed):
    target = continuous.load(model)
    plain = decoders.build(cell, continuous.load(f"{model}-draft"))
    decoder, watched = patches.watch(plain, 5)
    seen, unseen = (sample(one, target, 4, seed, 3) for one in (decoder, plain))
    assert torch.equal(seen.tokens, unseen.tokens)
    assert torch.equal(seen.passes, unseen.passes)
    assert torch.equal(watched.judged.long(), unseen.verified)
    per_draft = watched.bias / watched.judged
    assert 0.01 < float(per_draft.mean()) < 0.9
    assert not watched.looking


def test_what_has_no_price_is_not_watched():
    draft = continuous.load("digits-diff-draft")
    for name in ("sd-path", "cspd-released", "jacobi-steps"):
        decoder = decoders.build(Cell(name, 1.0, window=2), draft)
        assert patches.watch(decoder, 0) == (decoder, None)


# ---- measuring


@pytest.mark.parametrize(("model", "due"), [("digits-gmm-draft", 16), ("digits-diff-draft", 16 * 20)])
def test_the_heads_work_is_counted(model, due, seed):
    loaded = continuous.load(model)
    with patches.head_evaluations(loaded) as count:
        sample(registry.build("ar"), loaded, 7, seed)
    seen = count[0]
    assert 7 * due <= seen <= 7 * due + 1  # a mixture's first law is checked at the start of a run
    sample(registry.build("ar"), loaded, 2, seed)
    assert count[0] == seen


@pytest.mark.thinned(2)
@pytest.mark.parametrize("model", ["digits-gmm-draft", "digits-diff-draft"])
def test_transforms_are_uniform_for_plain_decoding_and_not_for_narrowed_patches(model, seed):
    loaded = continuous.load(model)
    tokens = sample(registry.build("ar"), loaded, 300, seed, 150).tokens
    weight = bootstrap.weights(300, 50, 0)
    far = []
    for some in (tokens, tokens * 0.97):
        pit, excess, variance = patches.statistics(loaded, some, 150, seed)
        assert pit.shape == (300, 64)
        assert ((pit >= 0) & (pit <= 1)).all()
        assert (excess is None) == (variance is None) == ("diff" in model)
        if excess is not None:
            z = excess.sum() / np.sqrt(variance.sum())
            assert (abs(z) < 4.5) == (some is tokens)
        far.append(patches.distance(pit, weight).value)
    assert far[0] < 0.03 < 0.05 < far[1]  # Kolmogorov's 1e-6 quantile for 300 independent images is 0.16


@pytest.fixture(scope="module")
def rows():
    """What is measured of a few settings."""
    asked = Asked(decoders=["sd"], windows=[4])
    cells, _ = plan("digits-gmm", asked)
    return asked, {cell.id: measure.carry_out(cell, SMALL) for cell in cells}


@pytest.mark.slow
def test_rows_say_what_is_known_of_them(rows):
    _, found = rows
    assert [row["error"] for row in found.values()] == [None] * len(found)
    exact, limited = (found[f"guidance-1/sd/window-4{end}"] for end in ("", "/limit=1"))
    assert (exact["claim"], exact["window"], exact["value"]) == ("lossless", 4, None)
    assert limited["claim"].startswith("relaxed")
    assert "bias" not in exact["metrics"]
    assert 0.03 < limited["metrics"]["bias"]["value"] < 0.15
    metrics = exact["metrics"]
    assert metrics["speedup"]["value"] == pytest.approx(16 / metrics["passes"]["value"])
    assert metrics["draft_passes"]["value"] > metrics["passes"]["value"]
    assert {len(metrics[name]["replicates"]) for name in choose.metrics("digits-gmm")} == {20}
    plain = found["guidance-1/ar/seed-0"]
    assert plain["head_evaluations"] == pytest.approx(16, abs=0.1)
    assert exact["head_evaluations"] > 20
    assert "draft_passes" not in plain["metrics"]
    assert {len(tokens) for row in found.values() for tokens in row["images"]["tokens"]} == {64}
    assert exact["images"]["labels"] == [i % 10 for i in range(20)]


@pytest.mark.slow
def test_the_real_images_are_those_of_the_other_models(rows):
    _, found = rows
    other = measure.carry_out(Cell(REAL), replace(SMALL, model="digits-s", window=16))
    assert found[REAL]["metrics"] == other["metrics"]
    assert found[REAL]["images"] == other["images"]


def test_a_sweep_is_written_down_and_shown(tmp_path, monkeypatch, rows):
    asked, found = rows
    monkeypatch.setattr(sweep.pool, "share_out", lambda work, units, *_, **__: (work(unit) for unit in units))
    monkeypatch.setattr(sweep, "carry_out", lambda cell, setting: found[cell.id])
    record = sweep.measure(SMALL, tmp_path, asked)
    assert record["status"] == "complete"
    assert records.load(tmp_path) == json.loads(json.dumps(record))
    assert record["command"] == (
        "specverify tradeoff --model digits-gmm --n 66 --window 4 --decoders sd --seed 0 --batch 40"
    )
    html, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert sorted(path.stem for path in (tmp_path / "figures").glob("*.png")) == [
        "samples-guidance-1",
        "times-guidance-1",
        "tradeoff-guidance-1",
    ]
    for words in ("real images", "limit 8", "lossless"):
        assert f">{words}</td>" in html
        assert f"| {words} |" in text
    assert "Decoders left out" not in html  # none was left out of those that were asked for
    report.write(record | {"omitted": {"sd-path": "compares trajectories"}}, tmp_path)
    assert "<td>compares trajectories</td>" in (tmp_path / "report.html").read_text()
    assert "| compares trajectories |" in (tmp_path / "report.md").read_text()
