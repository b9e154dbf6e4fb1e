"""Janus' adapter on weights that were learned: the digits in its class of transformers, beside its own `generate`."""

import math
import shutil
import sys

import pytest
import torch
import transformers

from realmodels import images, janus_digits, store, train
from realmodels.adapters.janus import Janus
from realmodels.classifier import load_classifier
from realmodels.data import digits
from realmodels.figures import sample
from realmodels.fit import Recipe, fit
from realmodels.models import names, open_model
from specverify.conformance import conformance
from specverify.decoders.registry import Settings, build
from specverify.decoders.run import run
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.integrations.transformers import decoder

NAME = "janus-digits"
FOLDER = store.SHIPPED / NAME
IDS = torch.tensor([[1, 10 + label, 2] for label in range(10)])
OFF = 1 + 1e-6
"""A scale that is 1 up to rounding: at 1 itself the library's loop for images gives two rows an image, and fails."""


@pytest.fixture(scope="module")
def model():
    return open_model(NAME)


@pytest.fixture(scope="module")
def theirs():
    """As a user of transformers reads it, with nothing said beside the folder."""
    return transformers.JanusForConditionalGeneration.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def greedy(theirs):
    """By the guidance, the library's most probable tokens of each class."""
    return {
        guidance: theirs.generate(
            IDS,
            attention_mask=torch.ones_like(IDS),
            generation_mode="image",
            guidance_scale=max(guidance, OFF),
            do_sample=False,
        )
        for guidance in (1.0, 3.0)
    }


def test_it_opens_by_name_with_what_an_image_model_has(model):
    assert NAME in names()
    assert isinstance(model, images.ImageModel)
    assert isinstance(model.network, Janus)
    assert (model.vocab, model.length, model.size) == (17, 64, (8, 8))
    assert (model.conditions, model.guidance) == (tuple(range(10)), 1)
    assert (model.description.grid, model.description.levels) == ((8, 8), 17)
    assert model.description.guidance == 1.5
    assert store.read_card(NAME)["licence"] == model.description.licence
    other = open_model(NAME, guidance=2.0, conditions=[3, 7], processors="top_k=5")
    assert (other.name, other.conditions) == ("janus-digits|guidance=2|top-k=5", (3, 7))
    for condition in (10, "three"):
        with pytest.raises(InputError, match=rf"condition {condition!r} is no class; those of {NAME} are 0\.\.9"):
            open_model(NAME, conditions=[condition])


def test_a_class_is_its_word_in_the_prompt_and_the_folder_opens_as_any_other(model):
    prompts = [row.tolist() for row in IDS]
    draft = torch.arange(10)[:, None] % 17
    for other in (open_model(FOLDER, conditions=prompts), open_model(NAME, conditions=prompts)):
        assert torch.equal(other.laws(other.start(10), draft), model.laws(model.start(10), draft))
    law = model.laws(model.start(10), torch.zeros(10, 20, dtype=torch.int64))[:, -1]
    assert torch.cdist(law, law, p=1).fill_diagonal_(1).min() > 1e-3


def test_it_is_small_and_holds_what_the_class_needs():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_200_000
    assert sorted(path.name for path in FOLDER.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    _, said = transformers.JanusForConditionalGeneration.from_pretrained(FOLDER, output_loading_info=True)
    assert not any(said.values())


@pytest.mark.thinned(2)
@pytest.mark.filterwarnings("ignore")  # of transformers, about its own arguments
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_tokens_are_the_librarys_own(theirs, greedy, guidance):
    opened = open_model(NAME, guidance=guidance, processors="top_k=1")
    found = run(build("scd-mc", Settings(window=8)), opened, 10, Sampled(0))
    assert torch.equal(found.tokens, greedy[guidance])
    assert len(found.tokens.unique(dim=0)) == 10
    assert int(found.passes.max()) < 64
    made = decoder("scd-mc", window=8, guidance=guidance)
    tokens = theirs.generate(IDS, attention_mask=torch.ones_like(IDS), do_sample=False, custom_generate=made)
    assert torch.equal(tokens, greedy[guidance])


@pytest.mark.thinned(2)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_sampling_by_custom_generate_is_that_of_the_model_by_its_name(theirs, guidance):
    asked = {"attention_mask": torch.ones_like(IDS), "do_sample": True, "top_k": 0}
    opened = open_model(NAME, guidance=guidance)
    for name in ("sjd", "scd-mc"):
        made = decoder(name, window=8, guidance=guidance, seed=5)
        tokens = theirs.generate(IDS, **asked, custom_generate=made)
        assert torch.equal(tokens, run(build(name, Settings(window=8)), opened, 10, Sampled(5)).tokens), name
    plain, fast = (decoder(name, window=8, guidance=guidance, seed=5) for name in ("ar-race", "sjd-race"))
    one, two = (theirs.generate(IDS, **asked, custom_generate=made) for made in (plain, fast))
    assert torch.equal(one, two)
    assert int(fast.run.passes.max()) < int(plain.run.passes.min()) == 64


@pytest.mark.thinned(2)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_it_conforms(guidance):
    found = conformance(open_model(NAME, guidance=guidance), batch=3, positions=6)
    assert found.ok, str(found)
    assert not found.costs
    assert "memory" in found.checks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_code_k_is_rendered_as_grey_level_k_in_any_image(theirs, dtype):
    generator = torch.Generator().manual_seed(0)
    flat = torch.arange(17)[:, None].expand(-1, 64)
    tokens = torch.cat([flat, torch.randint(17, (20, 64), generator=generator), digits()[1].tokens[:20]])
    opened = open_model(NAME, dtype=dtype)
    pixels = opened.render(tokens)
    assert (pixels.shape, pixels.dtype) == ((57, 1, 8, 8), torch.float32)
    assert (pixels.flatten(1) - tokens / 16).abs().max() < 1e-6
    assert torch.equal(images.levels(opened, tokens), tokens)
    shown = theirs.decode_image_tokens(tokens).detach()
    assert (shown.flatten(1) - (tokens / 8 - 1)).abs().max() < 1e-6


def test_samples_are_of_the_class_that_was_asked_for(model):
    judge, labels = load_classifier(), torch.arange(200) % 10
    for guidance, least in ((1.0, LEAST[0]), (1.5, LEAST[1])):
        told = judge(sample(model.like(guidance=guidance), 200, torch.Generator().manual_seed(3))).argmax(-1)
        assert float((told == labels).float().mean()) > least
        assert float((told == labels.roll(1)).float().mean()) < 0.2


LEAST = (0.9, 0.96)
"""Shares of 200 samples that the classifier takes for their class, at guidance 1 and 1.5."""


def test_held_out_likelihood_is_that_of_the_card_and_the_one_that_decoding_has(model):
    _, held_out = digits()
    with torch.no_grad():
        nats = float(janus_digits.loss(model.network.model, held_out.tokens, held_out.labels))
    stated = store.read_card(NAME)["figures"]["held_out_bits_per_dimension"]
    assert nats / math.log(2) == pytest.approx(stated, abs=1e-3)
    own = model.like(conditions=held_out.labels.tolist())
    laws = own.laws(own.start(360), held_out.tokens[:, :-1])
    assert float(-laws.gather(2, held_out.tokens[..., None]).log().mean()) == pytest.approx(nats, abs=1e-5)


def test_it_is_refused_with_the_remedy_where_something_is_missing(tmp_path, monkeypatch):
    shutil.copytree(FOLDER, tmp_path / NAME)
    shutil.copy(store.SHIPPED / f"{NAME}.json", tmp_path)
    assert janus_digits.load(folder=tmp_path).name == NAME
    weights = tmp_path / NAME / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    remedy = "train it again with: python -m realmodels.train janus-digits --out "
    with pytest.raises(InputError, match=f"has SHA-256 .*{remedy}"):
        janus_digits.load(folder=tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=f"model.safetensors does not exist; {remedy}"):
        janus_digits.load(folder=tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert NAME in names()
    with pytest.raises(InputError, match=r"needs the package transformers; install it with pip install 'specverify\["):
        open_model(NAME)
    with pytest.raises(InputError, match="needs the package transformers"):
        train.JOBS[NAME].build(torch.Generator())


def test_training_is_stored_as_the_library_reads_it_and_an_interruption_changes_no_bit(tmp_path):
    job, recipe = train.JOBS[NAME], Recipe(steps=3, batch=4, rate=4e-3, every=3)
    found = []
    for stop in (None, 1):
        model = job.build(torch.Generator().manual_seed(0))
        steps = fit(model, *train.objectives(job), recipe, tmp_path / "state")
        if stop:
            next(steps)
            steps.close()
            model = job.build(torch.Generator().manual_seed(0))
            steps = fit(model, *train.objectives(job), recipe, tmp_path / "state")
        assert [progress.step for progress in steps][-1] == 3
        found.append(model.state_dict())
    whole, taken_up = found
    assert all(torch.equal(whole[key], taken_up[key]) for key in whole)
    job.write(NAME, model, {**job.card, "data": "some"}, tmp_path)
    opened = janus_digits.load(folder=tmp_path)
    read = opened.network.model.state_dict()
    assert all(torch.equal(read[key], value.half().float()) for key, value in whole.items())
    assert torch.equal(images.levels(opened, torch.arange(64)[None] % 17), torch.arange(64)[None] % 17)


def test_the_model_card_states_its_figures():
    text = (store.SHIPPED.parent / "MODEL_CARD.md").read_text().split(f"\n## {NAME}\n")[1].split("\n## ")[0]
    found = store.read_card(NAME)["figures"]
    assert f"| held-out bits per dimension | {found['held_out_bits_per_dimension']} |" in text
    for guidance in ("1", "1.5", "2"):
        assert f"| {guidance} | {' | '.join(map(str, found[f'guidance_{guidance}'].values()))} |" in text
    assert found["classifier_sha256"] == store.read_card("digits-classifier")["sha256"]
