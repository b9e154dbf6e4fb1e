"""GLM-Image beside its own class and its own processor: positions in three numbers, a preview in front, an end."""

import pytest
import torch
import transformers
from folders import GLM_PROMPTS, opened

from realmodels.models import open_model
from specverify.decoders.registry import Settings, build
from specverify.decoders.run import run
from specverify.draws import Sampled
from specverify.errors import InputError

pytestmark = pytest.mark.skipif(not hasattr(transformers, "GlmImageConfig"), reason="transformers has no GLM-Image")
END, PAD = 20, 63


def grids(preview):
    """Times, rows and columns of the image, and of its preview, as the processor gives them."""
    return torch.tensor([[1, 3, 4], [1, *preview]])


@pytest.fixture
def theirs(made):
    return transformers.GlmImageForConditionalGeneration.from_pretrained(made["glm_image"])


def greedily(model, window):
    return run(build("scd-mc", Settings(window=window)), model, len(GLM_PROMPTS), Sampled(0)).tokens


def left_padded(prompts):
    longest = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (longest - len(prompt)) + prompt for prompt in prompts])
    return ids, (ids != PAD).long()


@pytest.mark.filterwarnings("ignore")  # of transformers, about its own arguments
@pytest.mark.parametrize("preview", [(3, 2), (2, 3), (4, 1)])
def test_greedy_is_the_librarys_own_generate(made, theirs, preview):
    options = {"grid": (3, 4), "preview": preview, "processors": "top_k=1"}
    model = open_model(made["glm_image"], conditions=GLM_PROMPTS, **options)
    ids, mask = left_padded(GLM_PROMPTS)

    def allowed(row, sequence):
        return [END] if len(sequence) - ids.shape[1] == model.length - 1 else list(range(19))

    expected = theirs.generate(
        ids,
        attention_mask=mask,
        image_grid_thw=grids(preview).repeat(8, 1),
        images_per_sample=torch.full((8,), 2),
        do_sample=False,
        max_new_tokens=model.length,
        eos_token_id=END,
        pad_token_id=PAD,
        prefix_allowed_tokens_fn=allowed,
    )[:, ids.shape[1] :]
    assert model.length == preview[0] * preview[1] + 3 * 4 + 1
    assert len(expected.unique(dim=0)) > 4
    for window in (1, 5):
        assert torch.equal(model.network.ids[greedily(model, window)], expected)


@torch.no_grad()
def test_guided_and_greedy_is_its_class_without_a_cache_at_the_positions_that_it_works_out(made, theirs):
    model = opened(made["glm_image"], 3.0, processors="top_k=1")
    found = model.network.ids[greedily(model, 5)]
    for prompt, row in zip(GLM_PROMPTS, found, strict=True):
        laws = []
        for start in (prompt, model.network.unconditional):
            ids = torch.tensor([start])
            front, _ = theirs.model.get_rope_index(ids, image_grid_thw=grids((3, 2)))
            positions = torch.cat([front, theirs.model._cached_decode_position_ids.permute(1, 0, 2)[..., :-1]], -1)
            logits = theirs(input_ids=torch.cat([ids, row[None, :-1]], 1), position_ids=positions).logits
            laws.append(logits[0, len(start) - 1 :].log_softmax(-1))
        guided = laws[1] + 3.0 * (laws[0] - laws[1])
        assert torch.equal(guided[:-1, :19].argmax(-1), row[:-1])
        assert int(row[-1]) == END


def test_the_class_remembers_nothing_of_passes_here(made):
    model = opened(made["glm_image"], 3.0)
    greedily(model, 3)
    whole = model.network.model.model
    assert (whole.rope_deltas, whole._cached_decode_position_ids, whole._prefill_len) == (None, None, None)


@pytest.fixture
def whole(made, tmp_path):
    """A download: the language model, and a processor beside it whose words are few."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    (tmp_path / "vision_language_encoder").symlink_to(made["glm_image"], target_is_directory=True)
    numbers = [str(number) for number in (2, 3, 4, 13, 18, 19, 24, 35, 36, 66)]
    words = dict(zip(["?", "a", "cat", "<sop>", "<eop>", *numbers], range(30, 60), strict=False))
    words |= {"<image>": 62, "<begin>": 19}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    own = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="?",
        pad_token="?",
        bos_token="<begin>",
        extra_special_tokens={"image_token": "<image>", "grid_bos_token": "<sop>", "grid_eos_token": "<eop>"},
    )
    images = transformers.GlmImageImageProcessorPil()
    transformers.GlmImageProcessor(images, own).save_pretrained(tmp_path / "processor")
    return tmp_path


@pytest.mark.parametrize("size", [(1152, 768), (128, 96), (80, 1150)])
def test_texts_and_sizes_become_what_its_processor_makes_of_them(whole, size):
    processor = transformers.AutoProcessor.from_pretrained(whole / "processor")
    expected = processor(text=["a cat"], target_h=size[0], target_w=size[1], return_tensors="pt")
    rows, columns = size[0] // 32, size[1] // 32
    network = open_model(whole / "vision_language_encoder", conditions=["a cat"], grid=(rows, columns)).network
    (ids,), grids = expected["input_ids"].tolist(), expected["image_grid_thw"].tolist()
    assert (30 in ids, len(ids)) == (False, 11)
    assert torch.equal(network.prompt("a cat").conditional, network.prompt(ids).conditional)
    assert grids == [[1, rows, columns], [1, *network.preview]]
    assert network.length == rows * columns + network.preview[0] * network.preview[1] + 1


def test_pixels_are_a_renderers_and_of_the_image_alone(made):
    model = opened(made["glm_image"], renderer=lambda codes: codes[:, None] / 19)
    tokens = greedily(model, 3)
    assert torch.equal(model.render(tokens)[:, 0], tokens[:, 6:18].view(8, 3, 4) / 19)
    assert (model.size, model.description.grid) == ((96, 128), (3, 4))
    with pytest.raises(InputError, match="give open_model a renderer="):
        opened(made["glm_image"]).render(tokens)


def test_what_it_cannot_do_is_refused(made):
    folder = made["glm_image"]
    for conditions, said in (
        ([[50, 51]], "ends with 51; a prompt of glm_image ends with 19"),
        ([[19, 62, 20, 50, 19]], "token 20, of an image to start from"),
        (["a cat"], "holds no tokenizer"),
    ):
        with pytest.raises(InputError, match=said):
            opened(folder, conditions=conditions)
    with pytest.raises(InputError, match="no side may be below 1"):
        open_model(folder, conditions=GLM_PROMPTS, grid=(1, 400))
    with pytest.raises(InputError, match="guidance 3 needs a prompt without condition, and glm_image has none"):
        open_model(folder, guidance=3.0, conditions=GLM_PROMPTS, grid=(2, 2), preview=(1, 1))
