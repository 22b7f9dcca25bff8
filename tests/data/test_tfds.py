import io
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.tfds import TFDS
from contrastive_jax.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets")


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    Shades(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_records_are_those_that_were_prepared(folder):
    source = pickle.loads(pickle.dumps(open_source(f"tfds:{folder}/shades/1.0.0/train")))
    assert len(source) == 10
    assert sorted(record["more.number"] for record in source) == list(range(10))
    for index, record in enumerate(source):
        n = record["more.number"]
        assert record == {
            "key": str(index),
            "record": index,
            "image": picture(n),
            "text": f"é {n}",
            "label": n // 5,
            "label_name": ("dark", "light")[n // 5],
            "more.number": n,
        }
    for field in ("key", "text", "label", "label_name", "more.number", "record"):
        assert list(source.column(field)) == [record[field] for record in source]
    for field in ("image", "colour"):
        with pytest.raises(KeyError):
            source.column(field)


def test_by_name_in_a_folder_of_sets_and_part_of_a_split(folder):
    assert len(open_source(f"tfds:shades:1.0.0/train?data_dir={folder}")) == 10
    assert len(TFDS("shades/train[:30%]", str(folder))) == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuchset/train", "nosuchset"),
        ("shades/test", "'test'"),
        ("train", "no split; write tfds:NAME/SPLIT"),
        ("somebody:theirs/train", "from elsewhere are not loaded"),
    ],
)
def test_sets_that_are_not_there(folder, name, words):
    with pytest.raises(InputError) as error:
        TFDS(name, str(folder))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_no_tensorflow_is_loaded(folder):
    code = (
        "import sys; from contrastive_jax.data.tfds import TFDS\n"
        f"TFDS({str(folder)!r} + '/shades/1.0.0/train')[0]; print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_classes_of_others_are_not_imported(folder, tmp_path):
    own = "tensorflow_datasets.core.features.text_feature.Text"
    shutil.copytree(folder / "shades", tmp_path / "shades")
    file = tmp_path / "shades" / "1.0.0" / "features.json"
    content = file.read_text()
    assert own in content
    file.write_text(content.replace(own, "antigravity.Text"))
    for source in (f"tfds:{tmp_path}/shades/1.0.0/train", f"tfds:shades/train?data_dir={tmp_path}"):
        with pytest.raises(InputError, match=r"the class 'antigravity\.Text', whose code is not loaded"):
            open_source(source)
    assert "antigravity" not in sys.modules
    file.write_text("{")
    with pytest.raises(InputError, match=r"features\.json cannot be read"):
        open_source(f"tfds:{tmp_path}/shades/1.0.0/train")


def test_a_column_of_records_of_which_one_is_broken(folder, monkeypatch):
    source = open_source(f"tfds:{folder}/shades/1.0.0/train")
    rows, expected = source._rows, source.column("text")

    class Torn:
        def __len__(self):
            return len(rows)

        def __getitem__(self, index):
            if not index:
                raise ValueError
            return rows[index]

    source._rows = Torn()
    assert source.column("text") == ["", *expected[1:]]
    with pytest.raises(BrokenRecord, match="ValueError"):
        source[0]
