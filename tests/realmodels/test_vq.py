"""The tokenizer: what it learns, how codes are kept in use, and the files that it is trained from."""

import gzip
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from realmodels import codes, imagenet, labelled, store, train_vq, vq
from realmodels.adapters.llamagen_gpt import Shape
from realmodels.fit import Recipe, fit
from realmodels.session import ImageTransformer
from specverify.errors import InputError

SMALL = vq.Shape(side=8, codes=16, width=8, dim=4)


def blobs(n, generator):
    """Images of one bright square each."""
    pixels = torch.zeros(n, 1, 8, 8)
    for image, (row, column) in zip(pixels, torch.randint(6, (n, 2), generator=generator).tolist(), strict=True):
        image[0, row : row + 3, column : column + 3] = 1.0
    return pixels


def test_it_learns_to_give_images_back_by_few_codes_all_in_use(tmp_path):
    model = vq.initialise(SMALL, torch.Generator().manual_seed(0))
    held_out = blobs(200, torch.Generator().manual_seed(1))

    @torch.no_grad()
    def error(module):
        return float((module.decode(module.encode(held_out)) - held_out).square().mean())

    before = error(model)
    list(
        fit(
            model,
            lambda module, generator, batch: vq.loss(module, blobs(batch, generator), generator),
            error,
            Recipe(steps=150, batch=32, rate=4e-3, decay=0.0, every=50),
            tmp_path / "state",
        )
    )
    assert error(model) < 0.5 * before
    codes = model.encode(held_out)
    assert codes.shape == (200, 4)
    assert len(codes.unique()) >= 8
    assert (model.codes().norm(dim=-1) - 1).abs().max() < 1e-5


def test_a_tenth_of_the_codes_that_nothing_chose_are_put_where_a_vector_lies():
    model = vq.initialise(vq.Shape(side=8, codes=400, width=8, dim=4), torch.Generator().manual_seed(0))
    vectors = torch.nn.functional.normalize(torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(2)), dim=-1)
    used, before = model.nearest(vectors).unique(), model.codebook.detach().clone()
    vq._restart(model, vectors, torch.Generator().manual_seed(1))
    moved = (model.codebook != before).any(1)
    assert not bool(moved[used].any())
    assert 12 < int(moved.sum()) < 80
    assert (model.codebook[moved][:, None] - vectors.flatten(0, 1)).abs().sum(-1).amin(1).max() < 1e-6


def test_stored_weights_load_and_a_card_of_something_else_is_refused(tmp_path):
    model = vq.initialise(SMALL, torch.Generator().manual_seed(0))
    card = {"kind": "tokenizer", "shape": {"side": 8, "codes": 16, "width": 8, "dim": 4}}
    store.write("mnist-tiny", model, card, tmp_path)
    again = vq.load_tokenizer("mnist-tiny", folder=tmp_path)
    pixels = blobs(3, torch.Generator().manual_seed(3))
    assert (again.vectors(pixels) - model.vectors(pixels)).abs().max() < 1e-2
    for change in ({"kind": "codes"}, {"shape": {**card["shape"], "codes": 0}}, {"shape": [8]}):
        store.write_card("mnist-tiny", {**store.read_card("mnist-tiny", tmp_path), **change}, tmp_path)
        said = r"does not describe a tokenizer .*python -m realmodels\.train_vq mnist-tiny --out"
        with pytest.raises(InputError, match=said):
            vq.load_tokenizer("mnist-tiny", folder=tmp_path)


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.tobytes()


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40, 8, 8), dtype=np.uint8), (np.arange(40) % 4).astype(np.uint8)


@pytest.mark.parametrize("form", ["npz", "idx", "gz"])
def test_images_are_read_as_npz_and_as_idx(tmp_path, images, form):
    pixels, classes = images
    if form == "npz":
        path, beside = tmp_path / "some.npz", None
        np.savez_compressed(path, x=pixels, y=classes)
    else:
        pack, end = (gzip.compress, ".gz") if form == "gz" else (bytes, "")
        path = tmp_path / f"train-images-idx3-ubyte{end}"
        beside = tmp_path / f"train-labels-idx1-ubyte{end}"
        path.write_bytes(pack(idx(pixels)))
        beside.write_bytes(pack(idx(classes)))
    found = labelled.read(path)
    assert torch.equal(found.pixels, torch.from_numpy(pixels)[:, None])
    assert found.labels.tolist() == classes.tolist()
    train, held_out, spare = found.split(8)
    assert len(spare.labels) == 0
    assert held_out.labels.bincount().tolist() == [2] * 4
    assert len(train.labels) == 32
    assert torch.equal(train.pixels, found.split(8)[0].pixels)
    assert labelled.scaled(held_out).amax() <= 1


def test_files_that_cannot_be_used_are_refused_with_the_remedy(tmp_path, images):
    pixels, classes = images
    path = tmp_path / "some.npz"

    def refused(said, **arrays):
        if arrays:
            np.savez(path, **arrays)
        with pytest.raises(InputError, match=said):
            labelled.read(path)

    refused(r"some\.npz cannot be read as \.npz")
    refused(r"holds x uint8\[40, 8, 8\]; it needs one array of images", x=pixels)
    refused(r"gives images float64\[40, 8, 8\]", x=pixels / 255, y=classes)
    refused(r"with labels uint8\[39\]", x=pixels, y=classes[:39])
    refused(r"images uint8\[40, 8, 7\]", x=pixels[:, :, :7], y=classes)
    path.write_bytes(b"no zip")
    refused(r"cannot be read as \.npz")
    other = tmp_path / "train-images-idx3-ubyte"
    other.write_bytes(idx(pixels)[:100])
    with pytest.raises(InputError, match="cannot be read as IDX of bytes"):
        labelled.read(other)
    other.write_bytes(idx(pixels))
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "train-labels-idx1-ubyte"))):
        labelled.read(other)
    with pytest.raises(InputError, match="give --labels"):
        labelled.read(tmp_path / "mine")
    np.savez(path, x=pixels, y=classes)
    with pytest.raises(InputError, match="3 images of 40 cannot be held out: 4 classes"):
        labelled.read(path).split(3)


def test_the_command_trains_what_loads_and_says_what_it_cannot(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "some.npz", x=rng.integers(0, 256, (120, 28, 28), dtype=np.uint8), y=np.arange(120) % 10)
    common = ["--data", str(tmp_path / "some.npz"), "--out", str(tmp_path / "out"), "--held-out", "20"]
    done = CliRunner().invoke(train_vq.app, [*common, "--steps", "2", "--samples", "0"])
    assert done.exit_code == 0, done.output
    network = codes.Codes("mnist-vq", folder=tmp_path / "out")
    model = ImageTransformer(network, network.conditions)
    assert model.render(torch.zeros(2, 49, dtype=torch.int64)).shape == (2, 1, 28, 28)
    assert store.read_card("mnist-vq", tmp_path / "out")["data"] == "MNIST: 100 training and 20 held-out images"
    assert not list((tmp_path / "out").glob("*.state.*"))
    unknown = "no model 'mnist' to train on images of 1 channel(s); choose among mnist-classifier"
    for arguments, said in ((["mnist"], unknown), ([], "held out")):
        done = CliRunner().invoke(train_vq.app, [*arguments, *common[:-1], "20" if arguments else "3"])
        assert done.exit_code == 2
        assert said in done.stderr


def test_codes_of_a_grid_are_numbered_and_found_again():
    shape = vq.Shape(side=8, codes=105, width=4, dim=3, channels=3, levels=(7, 5, 3))
    tokenizer = vq.initialise(shape, torch.Generator().manual_seed(0))
    codes_of = tokenizer.codes()
    assert codes_of.shape == (105, 3)
    assert len(torch.unique(codes_of, dim=0)) == 105
    assert (codes_of.amin(0).tolist(), codes_of.amax(0).tolist()) == ([-1, -1, -1], [1, 1, 1])
    assert torch.equal(tokenizer.nearest(codes_of[None]), torch.arange(105)[None])
    moved = (codes_of + torch.tensor([1 / 3, 1 / 2, 1.0]) * 0.49 * torch.tensor([1, -1, 1])).clamp(-1, 1)
    assert torch.equal(tokenizer.nearest(moved[None]), torch.arange(105)[None])
    places = vq.places(shape)
    assert torch.equal((places * torch.tensor([1, 7, 35])).sum(1), torch.arange(105))


def test_a_tokenizer_of_a_grid_learns_loads_and_is_checked(tmp_path):
    shape = vq.Shape(side=8, codes=25, width=8, dim=2, channels=3, blocks=2, levels=(5, 5))
    model, generator = vq.initialise(shape, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    pixels = torch.rand(64, 3, 1, 1, generator=generator).expand(-1, -1, 8, 8)
    optimiser, losses = torch.optim.AdamW(model.parameters(), 1e-2), []
    for _ in range(60):
        loss = vq.loss(model, pixels, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 5
    sizes = {"side": 8, "codes": 25, "width": 8, "dim": 2, "channels": 3, "blocks": 2}
    store.write("cifar-tiny", model, {"kind": "tokenizer", "shape": sizes, "levels": [5, 5]}, tmp_path)
    loaded = vq.load_tokenizer("cifar-tiny", folder=tmp_path)
    chosen = loaded.encode(pixels)
    assert chosen.shape == (64, 4)
    assert len(torch.unique(chosen)) > 5
    assert loaded.decode(chosen).shape == pixels.shape
    store.write_card("cifar-tiny", {**store.read_card("cifar-tiny", tmp_path), "levels": [5, 6]}, tmp_path)
    with pytest.raises(InputError, match=r"not one of 25 codes.*train_vq cifar-tiny"):
        vq.load_tokenizer("cifar-tiny", folder=tmp_path)


def colours(n):
    rng = np.random.default_rng(0)
    plain = np.broadcast_to(rng.integers(0, 256, (n, 1, 1, 3), dtype=np.uint8), (n, 32, 32, 3)).copy()
    return plain, (np.arange(n) % 10).astype(np.int64)


def test_colours_are_read_from_an_array_from_image_files_and_from_the_binary_version_of_cifar(tmp_path):
    pixels, classes = colours(40)
    np.savez(tmp_path / "array.npz", x=pixels, y=classes)
    files = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="png")
        files.append(file.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    apart = np.arange(40) >= 20
    blob = np.frombuffer(b"".join(files), np.uint8)
    np.savez(tmp_path / "files.npz", jpeg=blob, offsets=offsets, labels=classes, is_test=apart)
    folder = tmp_path / "binary"
    folder.mkdir()
    records = np.concatenate([classes[:, None].astype(np.uint8), np.moveaxis(pixels, -1, 1).reshape(40, -1)], 1)
    (folder / "data_batch_1.bin").write_bytes(records[:10].tobytes())
    (folder / "data_batch_2.bin").write_bytes(records[10:20].tobytes())
    (folder / "test_batch.bin").write_bytes(records[20:].tobytes())
    found = [labelled.read(tmp_path / name) for name in ("array.npz", "files.npz", "binary")]
    for one in found:
        assert torch.equal(one.pixels, torch.from_numpy(np.moveaxis(pixels, -1, 1).copy()))
        assert torch.equal(one.labels, torch.from_numpy(classes))
    assert found[0].test is None
    for one in found[1:]:
        assert one.test.tolist() == apart.tolist()
        train, held_out, spare = one.split(10)
        assert (len(train.labels), len(held_out.labels), len(spare.labels)) == (20, 10, 10)
        assert torch.equal(train.pixels, one.pixels[:20])
        with pytest.raises(InputError, match="15 images cannot be held out of the 20 that are set apart"):
            one.split(15)
    (folder / "data_batch_2.bin").write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match=r"data_batch_2\.bin is cut off"):
        labelled.read(folder)
    (folder / "test_batch.bin").unlink()
    np.savez(tmp_path / "files.npz", jpeg=blob[:-60], offsets=offsets, labels=classes)
    with pytest.raises(InputError, match="images as files, and they cannot be read"):
        labelled.read(tmp_path / "files.npz")


@pytest.mark.slow
def test_colours_train_the_models_of_colours(tmp_path):
    pixels, classes = colours(120)
    np.savez(tmp_path / "some.npz", x=pixels, y=classes)
    common = ["--data", str(tmp_path / "some.npz"), "--out", str(tmp_path / "out"), "--held-out", "20"]
    done = CliRunner().invoke(train_vq.app, [*common, "--steps", "2", "--samples", "0"])
    assert done.exit_code == 0, done.output
    network = codes.Codes("cifar-fsq", folder=tmp_path / "out")
    model = ImageTransformer(network, network.conditions)
    assert model.render(torch.zeros(2, 64, dtype=torch.int64)).shape == (2, 3, 32, 32)
    assert network.codebook.shape == (4375, 5)
    card = store.read_card("cifar-classifier-features", tmp_path / "out")
    kept = store.read_weights("cifar-classifier-features", card, tmp_path / "out")
    assert (card["network"], card["network_sha256"]) == (imagenet.NAME, imagenet.SHA256)
    assert {name: tuple(one.shape) for name, one in kept.items()} == {
        "axes": (64, 1280), "centre": (1280,), "held_out": (20, 64), "train": (100, 64), "labels": (100,),
        "told": (100,),
    }  # fmt: skip
    done = CliRunner().invoke(train_vq.app, ["mnist-vq", *common])
    assert done.exit_code == 2
    assert "no model 'mnist-vq' to train on images of 3 channel(s); choose among cifar-classifier" in done.stderr


def test_colours_are_not_trained_without_what_their_features_need(tmp_path, monkeypatch):
    pixels, classes = colours(120)
    np.savez(tmp_path / "some.npz", x=pixels, y=classes)
    monkeypatch.setattr(imagenet, "FILE", "models/none.pth")
    imagenet.load.cache_clear()
    common = ["--data", str(tmp_path / "some.npz"), "--out", str(tmp_path / "out"), "--held-out", "20"]
    done = CliRunner().invoke(train_vq.app, common)
    imagenet.load.cache_clear()
    assert (done.exit_code, (tmp_path / "out").exists()) == (2, False)
    assert "pip install 'specverify[real]'" in done.stderr


def test_a_table_that_is_a_sum_in_training_is_a_table_when_it_is_stored():
    shape = Shape(vocab=15, dim=16, layers=1, heads=1, hidden=8, side=2, classes=2)
    grid = vq.Shape(side=8, codes=15, width=4, dim=2, levels=(5, 3))
    model = codes.initialise(shape, torch.Generator().manual_seed(0), vq.places(grid))
    tokens, labels = torch.arange(8).view(2, 4), torch.tensor([0, 1])
    before, keys = codes.logits(model, tokens, labels), codes.initialise(shape, torch.Generator()).state_dict().keys()
    codes.settle(model)
    assert torch.equal(codes.logits(model, tokens, labels), before)
    assert model.state_dict().keys() == keys
