import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from realmodels import store
from realmodels.classifier import load_classifier
from realmodels.digits import DigitsModel, load, load_transformer, names
from realmodels.models import open_model
from specverify.errors import InputError

REMEDY = "train it again with: python -m realmodels.train digits-s --out "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for end in ("json", "safetensors"):
        shutil.copy(store.SHIPPED / f"digits-s.{end}", tmp_path)
    return tmp_path


def edit_card(folder: Path, change) -> None:
    card = store.read_card("digits-s", folder)
    change(card)
    store.write_card("digits-s", card, folder)


def refuse(folder: Path, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        load("digits-s", folder=folder)
    for part in (*parts, REMEDY + str(folder)):
        assert part in str(caught.value)


def test_a_copied_folder_loads(folder: Path) -> None:
    assert names(folder) == ["digits-s"]
    assert load(folder=folder).name == "digits-s"


def test_shipped_models_are_listed_and_named_by_their_guidance() -> None:
    assert "digits-s" in names()
    assert "digits-classifier" not in names()
    assert load(guidance=None).name == "digits-s"
    assert load(guidance=1.5).name == "digits-s-guidance-1.5"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no checkpoint 'digits-xl'.*there: .*digits-s"):
        load("digits-xl")


@pytest.mark.parametrize(
    ("name", "kind", "loader"),
    [
        ("digits-gmm", "mixture", "realmodels.continuous.load"),
        ("digits-diff-draft", "diffusion", "realmodels.continuous.load"),
        ("digits-classifier", "classifier", "realmodels.classifier.load_classifier"),
    ],
)
def test_a_model_of_another_kind_is_sent_to_its_loader(name: str, kind: str, loader: str) -> None:
    said = f"checkpoint '{name}' is of kind '{kind}', which realmodels.digits.load does not load; use {loader}"
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        load(name)


def test_missing_weights(folder: Path) -> None:
    (folder / "digits-s.safetensors").unlink()
    refuse(folder, f"{folder / 'digits-s.safetensors'} does not exist")


def test_a_truncated_file(folder: Path) -> None:
    path = folder / "digits-s.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    refuse(folder, f"{path} has SHA-256", "truncated or changed")


def test_one_changed_bit_of_a_weight(folder: Path) -> None:
    path = folder / "digits-s.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    refuse(folder, f"{path} has SHA-256", f"its card says {store.read_card('digits-s')['sha256']}")


def test_a_changed_hash(folder: Path) -> None:
    edit_card(folder, lambda card: card.update(sha256="0" * 64))
    refuse(folder, "its card says 0000")


def store_bytes(folder: Path, content: bytes) -> None:
    (folder / "digits-s.safetensors").write_bytes(content)
    edit_card(folder, lambda card: card.update(sha256=store.hashlib.sha256(content).hexdigest()))


def test_a_file_that_is_not_safetensors(folder: Path) -> None:
    store_bytes(folder, b"\x80\x04 a pickle, say")
    refuse(folder, "is not a safetensors file")


def test_weights_of_other_shapes(folder: Path) -> None:
    weights = store.read_weights("digits-s", store.read_card("digits-s"))
    store_bytes(folder, save({**weights, "norm.weight": torch.ones(65)}))
    refuse(folder, "'norm.weight' has shape (65,), expected (64,) (1 such tensors)")


def test_weights_that_lack_a_tensor(folder: Path) -> None:
    weights = store.read_weights("digits-s", store.read_card("digits-s"))
    del weights["head.weight"]
    store_bytes(folder, save(weights))
    refuse(folder, "'head.weight' has shape None, expected (17, 64)")


def test_a_card_of_another_size(folder: Path) -> None:
    edit_card(folder, lambda card: card["shape"].update(layers=4))
    refuse(folder, "does not fit its card: 'blocks.3.", "has shape None")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card: card["shape"].pop("heads"), "heads"),
        (lambda card: card["shape"].update(heads=3), "3 heads do not divide 64 dimensions"),
        (lambda card: card["shape"].update(layers=0), "'layers': 0"),
        (lambda card: card["shape"].update(dim="64"), "'dim': '64'"),
        (lambda card: card["shape"].update(depth=2), "depth"),
        (lambda card: card.update(shape=[17, 64]), "list"),
        (lambda card: card.pop("kind"), "kind"),
        (lambda card: card.update(kind="diffuser"), "kind 'diffuser'"),
    ],
)
def test_a_card_that_describes_no_transformer(folder: Path, change, said: str) -> None:
    edit_card(folder, change)
    refuse(folder, f"{folder / 'digits-s.json'} does not describe a transformer", said)


@pytest.mark.parametrize(
    ("content", "said"), [("{", "is not JSON"), ("[1]", "holds a list where an object is due"), ("", "is not JSON")]
)
def test_a_damaged_card(folder: Path, content: str, said: str) -> None:
    (folder / "digits-s.json").write_text(content)
    refuse(folder, str(folder / "digits-s.json"), said)


def test_the_classifier_checks_its_card_too(folder: Path) -> None:
    with pytest.raises(InputError, match=r"digits-s\.json does not describe a classifier"):
        load_classifier("digits-s", folder=folder)
    with pytest.raises(InputError, match=re.escape(f"no checkpoint 'digits-classifier': {folder}")):
        load_classifier(folder=folder)


def test_weights_are_stored_in_half_precision_and_loaded_in_the_asked_one() -> None:
    stored = (store.SHIPPED / "digits-s.safetensors").stat().st_size
    parameters = store.read_card("digits-s")["parameters"]
    assert 2 * parameters < stored < 2 * parameters + 10_000
    assert load(dtype=torch.float64).transformer.head.weight.dtype == torch.float64
    assert load(dtype=torch.bfloat16).dtype == torch.float32


@pytest.mark.parametrize("guidance", [-0.5, float("nan"), float("inf")])
def test_guidance_must_be_a_finite_number_of_at_least_0(guidance: float) -> None:
    with pytest.raises(InputError, match=f"guidance {guidance} is not a finite number of at least 0"):
        load(guidance=guidance)


def test_bad_labels_and_types_are_refused() -> None:
    model = load(classes=(3, 7))
    assert model.start(5).labels.tolist() == [3, 7, 3, 7, 3]
    with pytest.raises(InputError, match=r"class labels \[4, 11\] are not all in 0\.\.10"):
        model.start_with(torch.tensor([4, 11]))
    with pytest.raises(InputError, match=r"the condition 'cat' is no class; those of digits-s are 0\.\.9"):
        open_model("digits-s", conditions=["cat"])
    with pytest.raises(InputError, match=r"class labels have shape \(0,\); give one label per row"):
        load(classes=())
    with pytest.raises(InputError, match=r"dtype torch\.int64 cannot hold logits"):
        DigitsModel(load_transformer("digits-s"), dtype=torch.int64)
