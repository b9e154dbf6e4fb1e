"""The figures of the shipped cards, measured again."""

import math
import re

import pytest
import torch
from sklearn.datasets import load_digits

from realmodels import judges, store
from realmodels.classifier import load_classifier
from realmodels.data import Images, augment, digits
from realmodels.digits import load, load_transformer, names
from realmodels.figures import held_out_nats, nearest, sample


def test_the_split_is_stratified_disjoint_and_whole() -> None:
    train, held_out = digits()
    assert (len(train.labels), len(held_out.labels)) == (1437, 360)
    share = held_out.labels.bincount() / (train.labels.bincount() + held_out.labels.bincount())
    assert (share - 360 / 1797).abs().max() < 0.005
    pixels, labels = load_digits(return_X_y=True)
    both = torch.cat([torch.cat([part.tokens, part.labels[:, None]], dim=1) for part in (train, held_out)])
    assert sorted(both.tolist()) == sorted(
        [*image, label] for image, label in zip(pixels.tolist(), labels, strict=True)
    )


@pytest.mark.parametrize("name", names())
def test_held_out_bits_per_dimension_are_those_of_the_card(name: str) -> None:
    card = store.read_card(name)
    bits = held_out_nats(load_transformer(name)) / math.log(2)
    assert bits == pytest.approx(card["figures"]["held_out_bits_per_dimension"], abs=1e-3)
    assert bits < 0.45 * math.log2(17)


def test_held_out_nats_are_the_likelihood_that_decoding_has() -> None:
    _, held_out = digits()
    model = load()
    laws = model.laws(model.start_with(held_out.labels), held_out.tokens[:, :-1])
    found = -laws.gather(2, held_out.tokens[..., None]).log().mean()
    assert float(found) == pytest.approx(held_out_nats(model.transformer), abs=1e-5)


@pytest.mark.slow
def test_samples_at_guidance_one_and_a_half_look_like_their_class_to_the_classifier() -> None:
    labels = torch.arange(300) % 10
    images = sample(load(guidance=1.5), 300, torch.Generator().manual_seed(3))
    assert (load_classifier()(images).argmax(-1) == labels).float().mean() >= 0.93
    assert (load_classifier()(images.roll(1, 0)).argmax(-1) == labels).float().mean() < 0.2


def test_the_classifier_reads_held_out_digits_as_well_as_its_card_says() -> None:
    _, held_out = digits()
    classifier = load_classifier()
    accuracy = (classifier(held_out.tokens).argmax(-1) == held_out.labels).float().mean()
    figures = store.read_card("digits-classifier")["figures"]
    assert float(accuracy) == pytest.approx(figures["held_out_accuracy"], abs=1e-3)
    assert accuracy > 0.98
    features = classifier.features(held_out.tokens)
    assert features.shape == (360, classifier.num_features)
    assert (features.std(0) > 0).float().mean() > 0.9


def test_samples_do_not_copy_training_images() -> None:
    train, held_out = digits()
    images = sample(load(), 300, torch.Generator().manual_seed(4))
    assert nearest(train.tokens[:5], train).tolist() == [0] * 5
    assert nearest(images, train).min() > 0
    assert nearest(images, train).mean() > 0.9 * nearest(held_out.tokens, train).mean()


def test_nearest_is_the_smallest_sum_of_absolute_differences() -> None:
    images = Images(torch.tensor([[0, 4], [10, 10]]), torch.tensor([0, 1]))
    assert nearest(torch.tensor([[1, 2], [9, 16]]), images).tolist() == [3, 7]


def test_augmented_images_are_small_changes_within_the_grey_levels() -> None:
    tokens = digits()[0].tokens[:200]
    changed = augment(tokens, torch.Generator().manual_seed(0))
    assert changed.min() >= 0
    assert changed.max() <= 16
    moved = (changed - tokens).abs().float().mean()
    other = (tokens.roll(1, 0) - tokens).abs().float().mean()
    assert 0.3 < moved < 0.5 * other
    assert torch.equal(changed, augment(tokens, torch.Generator().manual_seed(0)))


def test_the_model_card_states_the_figures_of_the_checkpoints() -> None:
    text = (store.SHIPPED.parent / "MODEL_CARD.md").read_text()
    stated = set(re.findall(r"\d[\d.,]*\d|\d", text))
    cards = {name: store.read_card(name) for name in store.names()}
    for name, card in cards.items():
        assert name in text
        if card["kind"] == judges.FEATURES:
            continue
        assert f"{card['parameters']:,}" in stated
        assert str(card["training"]["cpu_minutes"]) in stated
    assert str(cards["digits-classifier"]["figures"]["held_out_accuracy"]) in text
    for name in names():
        figures = cards[name]["figures"]
        assert figures["classifier_sha256"] == cards["digits-classifier"]["sha256"]
        assert str(figures["held_out_bits_per_dimension"]) in stated
        assert str(figures["nearest_train_l1_of_held_out"]) in stated
        for guidance in ("1", "1.5", "2"):
            row = figures[f"guidance_{guidance}"]
            assert f"| {guidance} | {' | '.join(str(value) for value in row.values())} |" in text
