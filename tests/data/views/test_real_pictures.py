"""Views of real sets: emoji, small photographs, digits as arrays."""

import numpy as np
import pytest

from contrastive_jax.data.examples import evaluate_view
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Photo

SIMCLR = dict(crop=(0.2, 1.0), ratio=(0.75, 1.333), flip=0.5, jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2, blur=0.5)


def test_emoji_stand_on_white(data_folder):
    source = open_source(f"webdataset:{data_folder}/emoji_noto_multilingual/test-*.tar")
    seen = evaluate_view(source, Photo(resolution=64), range(48))
    corners = seen[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all(-1).mean() > 0.9
    assert (seen.reshape(48, -1, 3).std(1) > 20).any(-1).all()


def test_photographs_have_the_mean_and_deviation_known_of_them(data_folder):
    source = open_source(f"parquet:{data_folder}/cifar10/train.parquet")
    view = Photo(resolution=32, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616))
    seen = evaluate_view(source, view, range(0, len(source), len(source) // 600))
    assert np.abs(seen.mean((0, 1, 2))).max() < 0.1
    assert np.abs(seen.std((0, 1, 2)) - 1).max() < 0.1
    drawn = [Photo(resolution=32, **SIMCLR)(source[i], np.random.default_rng(i), True) for i in range(64)]
    assert len({picture.tobytes() for picture in drawn}) == 64


@pytest.mark.parametrize("channels", [1, 3])
def test_digits_of_eight_pixels(channels):
    source = open_source("digits:train")
    seen = evaluate_view(source, Photo(resolution=16, channels=channels), range(20))
    assert seen.shape == (20, 16, 16, channels)
    assert (seen.max((1, 2, 3)) > 200).all()
