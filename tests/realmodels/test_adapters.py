"""Adapters on tiny random checkpoints, read back as real ones are: beside `generate`, and rows beside rows alone."""

import shutil

import folders
import pytest
import torch
import transformers
from folders import MADE, PROMPTS, opened
from torch import Tensor

from realmodels.images import ImageModel
from realmodels.models import ADAPTERS, open_model
from specverify import tree
from specverify.conformance import conformance
from specverify.decoders.registry import Settings, build
from specverify.decoders.run import run
from specverify.draws import Sampled
from specverify.errors import ContractError, InputError
from specverify.model import Checked


@pytest.fixture(params=MADE)
def folder(request, made):
    return made[request.param]


class RowNoise(Sampled):
    """Draws whose races are given: those of some rows."""

    def __init__(self, races: Tensor) -> None:
        super().__init__(0)
        self.races = races

    def race(self, batch, slots, vocab, where=None):
        assert where is None
        assert self.races.shape == (batch, slots, vocab)
        return self.races


def decoded(name: str, model: ImageModel, races: Tensor, window: int = 4) -> Tensor:
    return run(build(name, Settings(window=window)), model, len(races), RowNoise(races)).tokens


@pytest.mark.thinned(6)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_rows_together_in_any_window_are_the_rows_alone_token_for_token(folder, guidance, seed):
    model = opened(folder, guidance)
    generator = torch.Generator().manual_seed(seed)
    races = torch.empty(8, model.length, model.vocab, dtype=torch.float64).exponential_(generator=generator)
    alone = torch.cat(
        [decoded("ar-race", model.like(conditions=model.conditions[i : i + 1]), races[i : i + 1]) for i in range(8)]
    )
    assert len(alone.unique(dim=0)) == 8
    assert len({len(prompt) for prompt in PROMPTS}) > 3
    for window in range(1, 9):
        assert torch.equal(decoded("sjd-race", model, races, window), alone), f"window {window}"


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_sixty_four_rows_in_windows_up_to_thirty_two_are_the_rows_alone(folder, guidance, seed):
    model = opened(folder, guidance)
    generator = torch.Generator().manual_seed(seed)
    races = torch.empty(64, model.length, model.vocab, dtype=torch.float64).exponential_(generator=generator)
    alone = [
        decoded("ar-race", model.like(conditions=[model.conditions[i % len(PROMPTS)]]), races[i : i + 1])
        for i in range(64)
    ]
    assert len(torch.cat(alone).unique(dim=0)) == 64
    for window in (1, 2, 5, 16, 32):
        assert torch.equal(decoded("sjd-race", model, races, window), torch.cat(alone)), f"window {window}"


@pytest.mark.thinned(6)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_it_conforms(folder, guidance):
    found = conformance(opened(folder, guidance), batch=3, positions=8)
    assert found.ok, str(found)
    assert not found.costs
    assert ("guidance" in found.checks) == (guidance != 1)


@pytest.mark.thinned(20)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_conforms_within_its_rounding(folder, dtype):
    model = opened(folder, 3.0, dtype=dtype)
    found = conformance(model, batch=2, positions=4)
    assert found.ok, str(found)
    assert not found.costs
    draft = torch.arange(16).view(8, 2) % model.vocab
    fine = opened(folder, 3.0)
    coarse = (model.laws(model.start(8), draft) - fine.laws(fine.start(8), draft)).abs().sum(-1).max() / 2
    assert 1e-5 < float(coarse) < 0.3
    assert (model.dtype, model.precision) == (torch.float32, dtype)


@pytest.mark.thinned(2)
def test_a_decoder_keeps_the_contract_with_it(folder):
    model = Checked(opened(folder, 3.0))
    tokens = run(build("scd-mc", Settings(window=3)), model, 4, Sampled(0)).tokens
    assert tokens.shape == (4, model.length)


def left_padded(prompts, padding):
    longest = max(map(len, prompts))
    ids = torch.tensor([[padding] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def greedily(model, window):
    """The most probable tokens, in windows of coupled Jacobi decoding."""
    return run(build("scd-mc", Settings(window=window)), model, len(PROMPTS), Sampled(0)).tokens


@pytest.mark.filterwarnings("ignore")  # of transformers, about its own arguments
def test_greedy_janus_is_the_librarys_own_generate(made):
    theirs = transformers.JanusForConditionalGeneration.from_pretrained(made["janus"])
    theirs.generation_config.update(generation_kwargs={"boi_token_id": folders.BEGIN}, pad_token_id=folders.PAD)
    theirs.generation_config.generation_kwargs = {"boi_token_id": folders.BEGIN}
    ids, mask = left_padded(PROMPTS, folders.PAD)
    expected = theirs.generate(ids, attention_mask=mask, generation_mode="image", guidance_scale=3.0, do_sample=False)
    model = opened(made["janus"], 3.0, processors="top_k=1")
    assert len(expected.unique(dim=0)) > 4
    assert torch.equal(greedily(model, 5), expected)


@pytest.mark.thinned(2)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", ["causal", "causal-rows", "emu3"])
def test_greedy_codes_are_the_librarys_own_generate(made, name, guidance):
    kind = transformers.Emu3ForConditionalGeneration if name == "emu3" else transformers.AutoModelForCausalLM
    theirs = kind.from_pretrained(made[name])
    model = opened(made[name], guidance, processors="top_k=1")
    network = model.network
    ids, mask = left_padded(PROMPTS, folders.PAD)

    def allowed(row, sequence):
        place = len(sequence) - ids.shape[1]
        if network.grammar is None:
            return network.ids.tolist()
        return network.ids[network.grammar.allowed[network.grammar.kind[min(place, model.length - 1)]]].tolist()

    other = network.negative if name == "emu3" else network.unconditional
    guided = {"guidance_scale": guidance, "negative_prompt_ids": torch.tensor([other]).expand(len(ids), -1)}
    expected = theirs.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=model.length,
        min_new_tokens=model.length,
        eos_token_id=63,
        prefix_allowed_tokens_fn=allowed,
        **({} if guidance == 1 else guided),
    )[:, ids.shape[1] :]
    assert torch.equal(network.ids[greedily(model, 5)], expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["causal-chameleon", "causal-emu3.5"])
def test_greedy_codes_are_those_of_trunk_and_head_without_a_cache(made, name):
    kind = transformers.ChameleonForConditionalGeneration if "chameleon" in name else transformers.Qwen3ForCausalLM
    theirs = kind.from_pretrained(made[name])
    model = opened(made[name], 3.0, processors="top_k=1")
    found = model.network.ids[greedily(model, 5)]
    for prompt, row in zip(PROMPTS, found.tolist(), strict=True):
        for place, token in enumerate(row):
            allowed = model.network.grammar.allowed[model.network.grammar.kind[place]]
            c, u = (
                theirs.lm_head(theirs.model(input_ids=torch.tensor([[*start, *row[:place]]])).last_hidden_state[0, -1])
                for start in (prompt, model.network.unconditional)
            )
            logits = (u.log_softmax(-1) + 3.0 * (c.log_softmax(-1) - u.log_softmax(-1)))[model.network.ids]
            assert int(model.network.ids[logits.masked_fill(~allowed, -torch.inf).argmax()]) == token


def test_emu3_ends_rows_and_images_where_its_processor_does(made):
    model = opened(made["emu3"])
    ids = model.network.ids[run(build("sjd", Settings(window=4)), model, 4, Sampled(3)).tokens]
    assert model.length == 3 * (4 + 1) + 3
    for offset in range(1, model.length + 1):  # behind the token that follows the size, as its documentation counts
        due = {3 * 5 + 1: 6, 3 * 5 + 2: 7, 3 * 5 + 3: 8}.get(offset, 5 if offset % 5 == 0 else None)
        assert bool((ids[:, offset - 1] == due).all()) if due else bool((ids[:, offset - 1] >= 30).all())
    with pytest.raises(InputError, match=r"positions; emu3 has 64"):
        open_model(made["emu3"], conditions=PROMPTS, negative=[1], grid=(9, 9))
    with pytest.raises(InputError, match=r"guidance 3 needs a prompt without condition.* as `unconditional` or `neg"):
        open_model(made["emu3"], conditions=PROMPTS, guidance=3.0, grid=(3, 4))
    plain = open_model(made["emu3"], conditions=PROMPTS, grid=(3, 4))  # whose guidance is 1, which reads no other
    mine = (each.laws(each.start(2), ids[:2, :1] - 30) for each in (plain, model.like(guidance=1.0)))
    torch.testing.assert_close(*mine)


def test_a_file_beside_a_checkpoint_says_its_grid_and_the_prompt_for_guidance(made, tmp_path):
    folder = shutil.copytree(made["emu3"], tmp_path / "mine")
    (folder / "image-model.json").write_text('{"grid": [2, 3], "negative": [1, 9]}')
    said = open_model(folder, conditions=PROMPTS, guidance=3.0)
    told = open_model(made["emu3"], conditions=PROMPTS, guidance=3.0, grid=(2, 3), negative=[1, 9])
    assert said.length == told.length == 2 * (3 + 1) + 3
    assert torch.equal(*(run(build("sjd", Settings(window=4)), each, 3, Sampled(0)).tokens for each in (said, told)))
    assert open_model(folder, conditions=PROMPTS, grid=(3, 4)).length == 3 * (4 + 1) + 3  # who says it goes first


def test_the_last_row_of_emu35_ends_with_the_image(made):
    model = opened(made["causal-emu3.5"])
    config = model.network.config.to_dict()
    assert config.get("rope_parameters", config)["rope_theta"] == 12345
    ids = model.network.ids[run(build("sjd", Settings(window=4)), model, 4, Sampled(3)).tokens]
    assert model.length == 3 * (4 + 1)
    assert torch.equal(ids[:, 4::5], torch.tensor([5, 5, 7]).expand(4, -1))
    assert torch.equal(model.network.layout.code_grid(torch.arange(15)[None])[0], torch.arange(15).view(3, 5)[:, :4])


def test_what_stands_in_an_image_is_what_its_grammar_says(made):
    model = opened(made["causal-rows"])
    tokens = run(build("sjd", Settings(window=4)), model, 8, Sampled(3)).tokens
    ids = model.network.ids[tokens]
    assert torch.equal(ids[:, 4:15:5], torch.full((8, 3), 5))
    assert torch.equal(ids[:, 15:], torch.tensor([6, 7]).expand(8, -1))
    assert int(model.network.layout.code_grid(tokens).max()) < 19


@pytest.mark.thinned(3)
def test_several_chains_of_drafts_give_what_one_token_at_a_time_gives(folder):
    model = opened(folder, 3.0, processors="top_k=1")
    draft = model.like(guidance=1.0, processors=())
    assert model.draft() is None
    for name in ("sd", "sd-multi"):
        decoder = build(name, Settings(window=3, draft_model=draft))
        assert torch.equal(run(decoder, model, 8, Sampled(1)).tokens, greedily(model, 1)), name


@pytest.mark.thinned(2)
def test_selected_rows_keep_their_laws_and_older_contexts_are_refused(folder):
    model = opened(folder, 3.0)
    context, draft = model.start(8), torch.arange(24).view(8, 3) % model.vocab
    laws = model.laws(context, draft)
    context = model.advance(context, draft, torch.arange(8) % 4)
    expected = model.laws(context, draft)
    order = torch.tensor([6, 1, 1, 3, 0])
    chosen = tree.rows(context, order)
    assert (model.laws(chosen, draft[order]) - expected[order]).abs().max() < 1e-5
    assert (expected[6] - expected[1]).abs().max() > 1e-3
    after = model.advance(chosen, draft[order], torch.tensor([1, 0, 2, 3, 1]))
    again = model.laws(after, draft[order][:, :0])
    assert (again[1, 0] - expected[1, 0]).abs().max() < 1e-5
    with pytest.raises(ContractError, match="start anew to go two ways"):
        model.laws(context, draft)
    with pytest.raises(ContractError, match="or of two starts"):
        model.laws(tree.join([after, model.start(2)]), draft[:7])
    assert laws.shape == (8, 4, model.vocab)


def test_the_cache_is_allocated_once(folder):
    model = opened(folder, 3.0)
    context = model.start(8)
    session, one = context.session, torch.ones(8, dtype=torch.int64)
    model.laws(context, torch.zeros(8, 2, dtype=torch.int64))
    before = {layer: tuple(part.data_ptr() for part in pair) for layer, pair in session.cache.buffers.items()}
    for _ in range(4):
        model.laws(context, torch.zeros(8, 2, dtype=torch.int64))
        context = model.advance(context, one[:, None], one)
    context = tree.rows(context, torch.tensor([5, 2]))
    model.laws(context, torch.zeros(2, 2, dtype=torch.int64))
    assert len(before) == 2
    assert before == {layer: tuple(part.data_ptr() for part in pair) for layer, pair in session.cache.buffers.items()}
    assert session.cache.buffers[0][0].shape[0] == 16


def test_pixels_are_from_0_to_1_and_of_the_stated_size(made):
    model = opened(made["janus"])
    pixels = model.render(greedily(model, 3))
    assert pixels.shape == (8, 3, *model.size)
    assert 0 <= float(pixels.min()) < float(pixels.max()) <= 1
    emu = opened(made["emu3"])
    assert emu.render(greedily(emu, 3)).shape == (8, 3, *emu.size) == (8, 3, 6, 8)
    codes = opened(made["causal-rows"], renderer=lambda codes: codes[:, None] / 19)
    assert codes.render(greedily(codes, 3)).shape == (8, 1, 3, 4)
    with pytest.raises(InputError, match="give open_model a renderer="):
        opened(made["causal"]).render(torch.zeros(1, 16, dtype=torch.int64))


def test_every_adapter_has_a_tiny_checkpoint_here():
    unmade = set() if hasattr(transformers, "GlmImageConfig") else {"glm_image"}
    assert {name.partition("-")[0] for name in MADE} == set(ADAPTERS) - unmade
