"""The model of MNIST that ships: it opens, renders, conforms, is judged, and decoders of all kinds run on it."""

import json
import shutil

import numpy as np
import pytest

from realmodels import codes, images, judges, quality, store
from realmodels.models import names, open_model
from specverify import cells, plan
from specverify.conformance import conformance
from specverify.decoders.registry import Settings, build
from specverify.decoders.run import sample
from specverify.errors import InputError
from specverify.tradeoff import measure, sweep
from specverify.tradeoff import setting as shared
from specverify.tradeoff.plan import LOSSLESS, REAL, Cell
from specverify.tradeoff.setting import Setting

NAME = "mnist-vq"
ALPHA = 1e-6
"""Of all checks on a run together."""
MODELS = {"mnist-vq": -(-100_000 // 49), "cifar-fsq": -(-100_000 // 64), "janus-digits": 1640}
"""Models, and how many of their images are 100,000 tokens; some more where three in ten are all but certain."""
NATS = {"mnist-vq": 0.06, "cifar-fsq": 0.07, "janus-digits": 0.03}
"""Of surprisal per token, what is seen on so many: less of a model whose next code is less certain."""
SEEN_BY = {"mnist-vq": "surprisal", "cifar-fsq": "surprisal", "janus-digits": "surprisal by position and entropy"}
"""What sees both slips: grey levels leave less to choose than codes do."""


@pytest.fixture(scope="module")
def model():
    return open_model(NAME)


def test_it_opens_by_name_with_what_an_image_model_has(model):
    assert NAME in names()
    assert isinstance(model, images.ImageModel)
    assert (model.vocab, model.length, model.size) == (256, 49, (28, 28))
    assert (model.conditions, model.guidance) == (tuple(range(10)), 1)
    assert (model.description.grid, model.description.levels) == ((7, 7), 256)
    assert model.embedding().shape == (256, 8)
    card = store.read_card(NAME)
    assert card["licence"] in model.description.licence
    assert sum(path.stat().st_size for path in store.SHIPPED.glob("mnist*")) < 3e6
    other = open_model(NAME, guidance=2.0, conditions=[3, 7], processors="top_k=50")
    assert (other.name, other.conditions) == ("mnist-vq|guidance=2|top-k=50", (3, 7))
    with pytest.raises(InputError, match=r"the condition 11 is no class; those of mnist-vq are 0\.\.10"):
        open_model(NAME, conditions=[11])


@pytest.mark.thinned(2)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_it_conforms(guidance):
    found = conformance(open_model(NAME, guidance=guidance), batch=3, positions=6)
    assert found.ok, str(found)
    assert not found.costs
    assert "memory" in found.checks


def test_samples_are_of_the_class_that_was_asked_for(model):
    judge = judges.judge(NAME)
    tokens = sample(build("scd-mc", Settings(window=16)), model.like(guidance=1.5), 50, 0, 50).tokens
    pixels = model.render(tokens)
    assert (pixels.shape, bool((pixels >= 0).all() & (pixels <= 1).all())) == ((50, 1, 28, 28), True)
    shown = images.levels(model, tokens)
    told = judge.reference.classifier(shown).argmax(-1)
    assert float((told == images.labels(model.conditions, 50, 50)).double().mean()) > 0.85
    assert float((told == images.labels(model.conditions, 50, 50).roll(1)).double().mean()) < 0.3


def test_another_tokenizer_or_classifier_than_it_was_trained_with_is_refused(tmp_path, monkeypatch):
    for path in store.SHIPPED.glob("mnist*"):
        shutil.copy(path, tmp_path)
    assert codes.Codes(NAME, folder=tmp_path).length == 49
    for name, said in (("mnist-vq-tokenizer", "was trained with a mnist-vq-tokenizer whose weights have SHA-256"),):
        card = json.loads((tmp_path / f"{name}.json").read_text())
        tensors = store.read_weights(name, card, tmp_path)
        kept = {key: value for key, value in card.items() if key != "sha256"}
        store.write_tensors(name, {key: value + 0.01 for key, value in tensors.items()}, kept, tmp_path)
        with pytest.raises(InputError, match=f"{said}.*python -m realmodels.train_vq mnist-vq"):
            codes.Codes(NAME, folder=tmp_path)
    store.write_card(NAME, {**store.read_card(NAME), "shape": {"vocab": 256}}, tmp_path)
    with pytest.raises(InputError, match="does not describe a transformer of codes"):
        codes.load_transformer(NAME, tmp_path)
    judges._of_features.cache_clear()
    monkeypatch.setattr(judges.store, "read_card", lambda name: {**store_card(name), "classifier_sha256": "0"})
    with pytest.raises(InputError, match="holds features of mnist-classifier with SHA-256 0"):
        judges.judge(NAME)
    judges._of_features.cache_clear()


store_card = store.read_card


def test_real_images_are_measured_by_their_features_alone():
    judge = judges.judge(NAME)
    real = judge.train
    assert real.tokens is None
    assert real.features.shape == (2000, 64)
    assert float(real.told.double().mean()) > 0.98
    found = quality.measured(
        real.features[:500], int(real.told[:500].sum()), np.ones((2, 500), dtype=int), judge.reference
    )
    assert 0 < found["fd"].value < 30
    assert judges.judge("no such model") is None


@pytest.mark.slow
def test_sweeps_take_it(monkeypatch):
    monkeypatch.setattr(shared, "SINGLE", 1)
    setting = Setting(NAME, n=66, window=8, batch=40, resamples=5)
    sweep._check(setting, (), 1)
    rows = [measure.carry_out(cell, setting) for cell in (Cell(REAL), Cell(LOSSLESS, 1.5, "maximal"))]
    assert [row["error"] for row in rows] == [None, None]
    assert rows[0]["images"] is None
    assert set(quality.METRICS) <= rows[0]["metrics"].keys() & rows[1]["metrics"].keys()
    assert abs(rows[1]["metrics"]["bias"]["value"]) < 1e-6
    assert len(rows[1]["images"]["tokens"][0]) == 28 * 28
    assert sweep._head(setting, sweep.Asked(), {}, 1)["tokens"] == "codes"


def judged(name: str, n: int, window: int | None = 16, model: str = NAME):
    """A cell of a campaign on a model, and its verdict."""
    kind = "real" if name in ("ar", "sjd", "sjd-block", "scd-mc", "scd-gs") else "defect"
    initial = None if window is None else "repeat-left"
    cell = plan.Cell(kind, name, model, window, initial, guidance=1.0, n=n, batch=256)
    checks = cells.checks(cell)
    setting = cells.Setting("quick", 0, "cpu", {f"{cell.id}: {check}": ALPHA / len(checks) for check in checks})
    return cells.carry_out(cell, setting)


def test_campaigns_take_it_and_say_how_to_repeat_a_cell():
    found = judged("scd-mc", 30)
    assert found["verdict"]["kind"] == "INCONCLUSIVE"  # 1,470 tokens see little, and say so
    assert not any(row["rejected"] for row in found["evidence"])
    assert found["reproduce"].endswith(f"--only '{found['id']}' --real mnist-vq")
    shown = found["figures"]["images"]
    assert (shown["height"], shown["width"], shown["levels"], shown["labels"][:3]) == (28, 28, 256, [0, 1, 2])
    planned = plan.plan("quick", "*mnist-vq*", NAME)
    assert {cell.kind for cell in planned} == {"real", "paired", "defect"}
    assert all(cell.n >= 1600 * 64 / 49 for cell in planned if cell.kind == "real" and not cell.timed_alone)
    assert not any("digits-s" in cell.id for cell in plan.plan("quick", real=NAME))
    with pytest.raises(InputError, match="unknown image model 'mnist-vg'; did you mean mnist-vq"):
        plan.plan("quick", real="mnist-vg")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ar", "sjd", "scd-mc", "scd-gs"])
@pytest.mark.parametrize("model", MODELS)
def test_lossless_decoders_keep_the_law_over_100_000_tokens(name, model):
    """2,041 images of 49 tokens, 1,563 or 1,640 of 64; alpha = 1e-6 over all checks, beta = 1e-6.

    What would have been seen: 0.02 of Kolmogorov distance of transforms, `NATS` of surprisal per token.
    """
    found = judged(name, MODELS[model], None if name == "ar" else 16, model)
    rows = {row["check"]: row for row in found["evidence"]}
    assert not [check for check, row in rows.items() if row["rejected"]]
    assert rows["PIT uniformity"]["delta"] <= 0.02
    assert rows["surprisal"]["delta"] <= NATS[model]
    assert found["run"]["tokens"] >= 100_000
    assert found["verdict"]["kind"] != "REFUTED"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stale-scores-after-coupling", "residual-rewarped"])
@pytest.mark.parametrize("model", MODELS)
def test_published_slips_are_refuted_over_100_000_tokens(name, model):
    """SCD's released label of drafts that it kept, and the residual that passes through the processors again."""
    found = judged(name, MODELS[model], model=model)
    assert found["verdict"]["kind"] == "REFUTED"
    assert SEEN_BY[model] in {row["check"] for row in found["evidence"] if row["rejected"]}


@pytest.mark.parametrize("model", ["mnist-vq", "cifar-fsq"])
def test_the_model_card_states_its_figures(model):
    text = (store.SHIPPED.parent / "MODEL_CARD.md").read_text()
    text = text.split(f"\n## {model}\n")[1].split("\n## ")[0]
    tokenizer, found = (store.read_card(name)["figures"] for name in (f"{model}-tokenizer", model))
    plain = [value for value in (*tokenizer.values(), *found.values()) if type(value) is float]
    for value in (*plain, *found["entropy_nats"].values()):
        assert str(value) in text
    for guidance in ("1", "1.5", "2"):
        assert f"| {guidance} | {' | '.join(map(str, found[f'guidance_{guidance}'].values()))} |" in text
    for decoder in ("sjd", "scd-mc"):
        for window, row in found["jacobi"][decoder].items():
            cells = " | ".join(map(str, (decoder, window.removeprefix("window_"), *row.values())))
            assert f"| {cells} |" in text
    assert found["classifier_sha256"] == store.read_card(f"{model.partition('-')[0]}-classifier")["sha256"]
