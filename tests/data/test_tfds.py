import io
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from shades import Shades, picture

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.tfds import TFDS
from contrastive_jax.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets")


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


class Kinds(tfds.core.GeneratorBasedBuilder):
    """Features of all kinds, nested in one another; two configs and two splits."""

    VERSION = tfds.core.Version("2.10.0")
    BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="small"), tfds.core.BuilderConfig(name="large"))

    def _info(self):
        f = tfds.features
        features = {
            "image": f.Image(shape=(8, 8, 3)),
            "deep": {"image": f.Image(shape=(8, 8, 3)), "label": f.ClassLabel(names=["a", "b"])},
            "images": f.Sequence(f.Image(shape=(8, 8, 3))),
            "boxes": f.Sequence(
                {"box": f.BBoxFeature(), "label": f.ClassLabel(num_classes=3), "of": f.Text()}
            ),
            "texts": f.Sequence(f.Text()),
            "tensor": f.Tensor(shape=(2, 3), dtype=np.uint8),
            "free": f.Tensor(shape=(None, 2), dtype=np.float64),
            "scalar": f.Scalar(np.bool_),
            "pair": f.Translation(["de", "en"]),
            "plain/label": f.ClassLabel(names=["x", "y"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=f.FeaturesDict(features))

    def _split_generators(self, _):
        return {"train": self._generate_examples(7), "test": self._generate_examples(3)}

    def _generate_examples(self, count):
        for n in range(count):
            box = tfds.features.BBox(0.0, 0.1, 0.5, 1.0)
            yield (
                str(n),
                {
                    "image": io.BytesIO(picture(n)),
                    "deep": {"image": io.BytesIO(picture(n + 1)), "label": n % 2},
                    "images": [io.BytesIO(picture(k)) for k in range(n)],
                    "boxes": [{"box": box, "label": k % 3, "of": f"é{k}"} for k in range(n)],
                    "texts": [f"t{k}" for k in range(n)],
                    "tensor": np.full((2, 3), n, np.uint8),
                    "free": np.full((n, 2), 0.1),
                    "scalar": n > 3,
                    "pair": {"de": f"eins {n}", "en": f"one {n}"},
                    "plain/label": n % 2,
                },
            )


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for config in ("small", "large"):
        builder = Kinds(data_dir=folder, config=config, file_format="array_record")
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
    return folder


def same(ours, theirs):
    if isinstance(theirs, dict):
        return set(ours) == set(theirs) and all(same(ours[name], theirs[name]) for name in theirs)
    if isinstance(theirs, (list, tuple)) or getattr(theirs, "ndim", 0):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == (theirs.decode() if isinstance(theirs, bytes) else theirs)


@pytest.mark.parametrize("split", ["train", "test", "train[:50%]", "train[2:]", "train[-3:]+test", "all"])
def test_features_of_all_kinds_are_what_the_library_reads(kinds, split):
    builder = tfds.builder_from_directory(kinds / "kinds" / "small" / "2.10.0")
    theirs = list(builder.as_data_source(split=split))
    ours = list(open_source(f"tfds:kinds/{split}?data_dir={kinds}"))
    assert len(ours) == len(theirs) > 0
    for own, their in zip(ours, theirs):
        n = int(str(their["pair"]["en"], "utf-8").split()[1])
        assert own["image"] == picture(n)
        assert own["deep.image"] == picture(n + 1)
        assert own["images"] == [picture(k) for k in range(n)]
        for nested in ("boxes", "pair"):
            got = {name.partition(".")[2]: own[name] for name in own if name.startswith(f"{nested}.")}
            assert same(got, their[nested])
        for name in ("texts", "tensor", "free", "scalar", "plain/label"):
            assert same(own[name], their[name]), name
        assert own["plain/label_name"] == "xy"[n % 2]


def test_configs_and_versions(kinds, tmp_path):
    shutil.copytree(kinds, tmp_path, dirs_exist_ok=True)
    assert len(open_source(f"tfds:kinds/large/train?data_dir={tmp_path}")) == 7
    assert len(open_source(f"tfds:kinds/large:2.10.0/train?data_dir={tmp_path}")) == 7
    shutil.copytree(tmp_path / "kinds" / "large" / "2.10.0", tmp_path / "kinds" / "large" / "2.9.0")
    shutil.rmtree(tmp_path / "kinds" / "large" / "2.10.0")
    assert len(open_source(f"tfds:kinds/large/train?data_dir={tmp_path}")) == 7
    with pytest.raises(InputError, match=r"no version 2\.10\.0 of 'kinds/large'"):
        open_source(f"tfds:kinds/large:2.10.0/train?data_dir={tmp_path}")
    (tmp_path / "kinds" / ".config" / "metadata.json").unlink()
    with pytest.raises(InputError, match=r"holds the configs large, small; name one: kinds/CONFIG"):
        open_source(f"tfds:kinds/train?data_dir={tmp_path}")


def test_a_column_of_records_of_which_one_is_broken(folder, monkeypatch):
    source = open_source(f"tfds:{folder}/shades/1.0.0/train")
    readers, expected = source._readers, source.column("text")

    class Torn:
        def __getitem__(self, number):
            return self

        def read(self, rows):
            if not rows[0]:
                raise ValueError
            return readers[0].read(rows)

    source._readers = Torn()
    assert source.column("text") == ["", *expected[1:]]
    with pytest.raises(BrokenRecord, match="ValueError"):
        source[0]
