"""LlamaGen beside what is published of it: names and sizes of its tensors, its rotations, its tokenizer, its files."""

import json
import re
import shutil

import folders
import pytest
import torch
import transformers

from realmodels.adapters.llamagen_gpt import Shape, Transformer, rotations, turned
from realmodels.models import open_model
from specverify.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.llamagen(tmp_path_factory.mktemp("tiny") / "llamagen", classes=8)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_tensors_have_its_names_and_its_sizes():
    with torch.device("meta"):
        model = Transformer(Shape(16384, 768, 12, 12, 2048, 16, classes=1000))
    names = {re.sub(r"\d+", "0", name) for name in model.state_dict()}
    layer = ("attention.wqkv", "attention.wo", *(f"feed_forward.w{number}" for number in "000"))
    assert names == {
        *(f"layers.0.{name}.weight" for name in (*layer, "attention_norm", "ffn_norm")),
        *(f"{name}.weight" for name in ("cls_embedding.embedding_table", "tok_embeddings", "norm", "output")),
    }
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == pytest.approx(111e6, rel=2e-3)
    captions = Transformer(Shape(23, 32, 1, 4, 64, 4, caption=6, captions=7)).state_dict()
    assert {"cls_embedding.uncond_embedding", "cls_embedding.cap_proj.fc1.weight"} < set(captions)


def test_heads_turn_by_the_row_and_the_column_and_are_0_in_a_prompt():
    turn = rotations(torch.tensor([[-1, 0, 7]]), 4, 16)
    rates = 10000 ** -(torch.arange(0, 8, 2) / 8)
    angle = torch.cat([1 * rates, 3 * rates])  # cell 7 of a grid of 4 x 4
    assert torch.equal(turn[0, 0], torch.zeros(8, 2))
    assert torch.equal(turn[0, 1], torch.tensor([[1.0, 0.0]] * 8))
    assert torch.allclose(torch.view_as_complex(turn[0, 2].contiguous()), torch.polar(torch.ones(8), angle))
    x = torch.randn(1, 2, 3, 16, generator=torch.Generator().manual_seed(0))
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.view_as_complex(turn.contiguous())
    assert torch.allclose(turned(x, turn), torch.view_as_real(pairs).flatten(-2), atol=1e-6)


def test_its_tokenizer_is_that_of_janus_under_other_names(folder):
    model = open_model(folder, conditions=[0])
    tokens = torch.randint(0, 23, (2, 16), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    theirs = transformers.JanusVQVAE(model.network.pixels.config)
    expected = (theirs.decode(tokens).detach() / 2 + 0.5).clamp(0, 1)
    assert torch.equal(model.render(tokens), expected)
    assert (model.size, float(expected.std()) > 0.01) == ((16, 16), True)


class Runs:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_files_are_never_unpickled(copy, capsys):
    torch.save({"model": Runs()}, copy / "c2i.pt")
    with pytest.raises(InputError, match="cannot be read as tensors alone"):
        open_model(copy, conditions=[0])
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": "other.pt"}, "other.pt does not exist; download it again, or name another"),
        ({"weights": "vq.pt"}, "does not hold a transformer of LlamaGen"),
        ({"tokenizer": "c2i.pt"}, "does not hold LlamaGen's tokenizer"),
        ({"grid": [4, 5]}, "it is square"),
        ({"heads": 5}, "set heads"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(copy, settings, said):
    path = copy / "image-model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    with pytest.raises(InputError, match=said):
        open_model(copy, conditions=[0])


def test_conditions_are_classes_or_features_of_texts(folder, tmp_path):
    text = folders.llamagen(tmp_path / "text", captions=7)
    for where, condition, said in (
        (folder, 9, "9 is no class; those of llamagen are 0..8"),
        (folder, "dog", "'dog' is no class"),
        (text, 3, r"is Float\[n, 6\]"),
        (text, torch.zeros(8, 6), "a text has 8 tokens; text takes 1 to 7"),
    ):
        with pytest.raises(InputError, match=said):
            open_model(where, conditions=[condition])


def test_without_a_tokenizer_there_are_no_pixels(copy):
    settings = json.loads((copy / "image-model.json").read_text())
    del settings["tokenizer"]
    (copy / "image-model.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="has no tokenizer"):
        open_model(copy, conditions=[0]).render(torch.zeros(1, 16, dtype=torch.int64))
