"""Features of images: raw pixels, RBM units, latents of a trained model."""

import numpy as np
import torch

from mvae.data.table import Table
from mvae.paper.baselines.features import latents, pixels, rbm
from mvae.paper.datasets import digits
from tests.built import built


def test_pixels_are_scaled_levels_of_first_modality() -> None:
    image = torch.tensor([[[0, 51], [255, 102]]], dtype=torch.uint8)
    found = pixels(Table({"image": image, "label": [3]}))
    np.testing.assert_allclose(found, [[0, 0.2, 1, 0.4]], rtol=1e-6)
    floats = pixels(Table({"image": torch.tensor([[0.5, 0.25]]), "label": [3]}))
    np.testing.assert_array_equal(floats, [[0.5, 0.25]])
    np.testing.assert_allclose(pixels(Table({"image": image, "label": [3]}), 0.5), np.sqrt(found), rtol=1e-6)
    assert image.tolist() == [[[0, 51], [255, 102]]]  # not divided in place


def test_rbm_features_are_hidden_probabilities_without_labels() -> None:
    images = digits.load().train.take(slice(0, 200))
    relabelled = Table({"image": images.columns["image"], "label": torch.zeros(200, dtype=torch.int64)})
    found, same = (rbm(table, epochs=2, seed=1)(images) for table in (images, relabelled))
    assert found.shape == (200, 128)
    assert ((found > 0) & (found < 1)).all()
    np.testing.assert_array_equal(found, same)
    roots = rbm(images, epochs=2, seed=1, power=0.5)(images)
    rooted = Table({"image": np.sqrt(pixels(images)), "label": [0] * 200})
    np.testing.assert_allclose(roots, rbm(rooted, epochs=2, seed=1)(rooted), atol=1e-5)


def test_latents_are_scaled_posterior_means() -> None:
    model, images = built("digits", model="vae"), digits.load().train.take(slice(0, 1500))
    found = latents(model, images)(images)
    mean, _ = model.modalities["image"].expert_parameters(torch.as_tensor(images.columns["image"]))
    np.testing.assert_allclose(found, (mean / mean.std()).detach().numpy(), rtol=1e-4, atol=1e-5)
