"""A small data set, to be prepared by TFDS."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def picture(number):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Shades(tfds.core.GeneratorBasedBuilder):
    """Ten grey pictures."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 8, 3)),
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["dark", "light"]),
            "more": {"number": np.int32},
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for n in range(10):
            example = {
                "image": io.BytesIO(picture(n)),
                "text": f"é {n}",
                "label": n // 5,
                "more": {"number": n},
            }
            yield str(n), example
