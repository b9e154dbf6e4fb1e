"""The tokenizer: what it learns, how codes are kept in use, and the files that it is trained from."""

import gzip
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from realmodels import codes, labelled, store, train_vq, vq
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
    assert torch.equal(found.pixels, torch.from_numpy(pixels))
    assert found.labels.tolist() == classes.tolist()
    train, held_out = found.split(8)
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
    for arguments, said in ((["mnist"], "no model 'mnist' to train; choose among mnist-classifier"), ([], "held out")):
        done = CliRunner().invoke(train_vq.app, [*arguments, *common[:-1], "20" if arguments else "3"])
        assert done.exit_code == 2
        assert said in done.stderr
