import json
import tarfile

import numpy as np
import pytest
from known_embeddings import KnownEmbeddings, hashed, on_sphere
from sklearn.metrics import roc_auc_score

from contrastive_jax.data.views import Glyph, Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import CaptionChoice, PictureChoice, Winoground
from contrastive_jax.evaluation.embedding import Listed

AXES = {"x": [1.0, 0], "y": [0, 1.0], "xy": [0.6, 0.8], "none": [0.0, 0]}
EMBED = KnownEmbeddings(
    {"image": Glyph(), "text": Text()},
    {"image": lambda r: np.array(r["image"]), "text": lambda r: np.array(AXES[r["text"]])},
)


def test_a_picture_chooses_its_sentence():
    """Right; wrong; equally near, which is drawn by lot; right against both, and against one only."""
    records = [
        {"image": [1.0, 0], "text": "x", "false": "y", "kind": "swap"},
        {"image": [1.0, 0], "text": "y", "false": "x", "kind": "swap"},
        {"image": [1.0, 1], "text": "x", "false": "y", "kind": "add"},
        {"image": [0.1, 2], "text": "y", "false": ["x", "none"], "kind": "add"},
        {"image": [1.0, 1], "text": "y", "false": ["none", "xy"], "kind": "add"},
    ]
    found = dict(CaptionChoice("image", "text", group="kind").run(EMBED, Listed("made up", records)))
    assert found == {
        "accuracy": pytest.approx(2.5 / 5),
        "accuracy/add": pytest.approx(1.5 / 3),
        "accuracy/swap": 0.5,
        "accuracy/mean": 0.5,
        "chance": pytest.approx((3 / 2 + 2 / 3) / 5),
    }
    padded = [record | {"false": ["none", "", None, "xy"]} for record in records[-1:]]
    found = dict(CaptionChoice("image", "text").run(EMBED, Listed("padded", padded)))
    assert found == {"accuracy": 0.0, "chance": pytest.approx(1 / 3)}
    for wrong in ("", [], [""], None):
        source = Listed("made up", [records[0], records[1] | {"false": wrong}])
        with pytest.raises(InputError, match="record 1: 'false' holds no false sentence"):
            dict(CaptionChoice("image", "text").run(EMBED, source))


def test_winogrounds_scores_by_its_definition():
    rng, n = np.random.default_rng(0), 60
    images, texts = on_sphere(rng, 2 * n, 3), on_sphere(rng, 2 * n, 3)
    texts[:40] += 1.5 * images[:40]
    embed = KnownEmbeddings(
        {"image": Glyph(), "text": Text()},
        {"image": lambda r: images[r["image"]], "text": lambda r: texts[int(r["text"])]},
    )
    records = [
        {f"image_{k}": 2 * i + k for k in (0, 1)}
        | {f"caption_{k}": str(2 * i + k) for k in (0, 1)}
        | {"tag": "ab"[i % 2]}
        for i in range(n)
    ]
    found = dict(Winoground("image", "text", group="tag").run(embed, Listed("made up", records)))
    s = np.einsum("nid,njd->nij", images.reshape(n, 2, 3), texts.reshape(n, 2, 3))  # picture, sentence
    text = (s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0])
    image = (s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1])
    assert found["text_score"] == pytest.approx(text.mean())
    assert found["image_score"] == pytest.approx(image.mean())
    assert found["group_score"] == pytest.approx((text & image).mean())
    assert found["text_score/a"] == pytest.approx(text[::2].mean())
    assert len({found["text_score"], found["image_score"], found["group_score"]}) == 3
    with pytest.raises(InputError, match="give two fields"):
        Winoground("image", "text", pictures=("image",))


def test_a_sentence_chooses_its_picture():
    """`x` has two true pictures and one false: nearer than it, and as near. `y` has one of each, the wrong
    way round; `xy` has true ones alone and takes no part in the choice."""
    shown = [
        ("x", [2.0, 0], "true"), ("x", [1.0, 0], "True"), ("x", [1.0, 9], "false"),
        ("y", [0.0, 1], "true"), ("y", [0.0, 3], "false"), ("xy", [0.0, 0], "true"),
    ]  # fmt: skip
    records = [{"sentence": s, "image": z, "label": label} for s, z, label in shown]
    found = dict(PictureChoice("image", "text").run(EMBED, Listed("made up", records)))
    near = [2.0, 1, 1, 1, 3, 0]
    assert found["accuracy"] == pytest.approx((0.75 + 0) / 2)
    assert found["auc"] == pytest.approx(roc_auc_score([1, 1, 0, 1, 0, 1], near))
    assert found["sentences"] == 2
    for values, message in (
        (["yes", "no"], "neither true nor false"),
        ([1, 1], "same in all"),
        ([2, 0], "neither 1 nor 0"),
    ):
        source = Listed("made up", [record | {"label": v} for record, v in zip(records, values)])
        with pytest.raises(InputError, match=message):
            dict(PictureChoice("image", "text").run(EMBED, source))
    by_number = [record | {"label": record["label"].lower() == "true"} for record in records]
    assert dict(PictureChoice("image", "text").run(EMBED, Listed("made up", by_number))) == found


def test_nlvr(data_folder):
    """Its sentences and pictures, by embeddings that know nothing: as good as a guess."""
    with tarfile.open(data_folder / "nlvr_compositional" / "dev-0000.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    records = [json.loads(content) for name, content in members.items() if name.endswith(".json")]
    for record in records:
        record["image"] = record["identifier"]
    embed = KnownEmbeddings(
        {"image": Glyph(), "text": Text()},
        {"image": lambda r: hashed(r["image"]), "text": lambda r: hashed(r["text"])},
    )
    found = dict(PictureChoice("image", "text").run(embed, Listed("nlvr", records)))
    assert len(records) == 989
    assert found["sentences"] > 100
    assert found["accuracy"] == pytest.approx(0.5, abs=0.08)
    assert found["auc"] == pytest.approx(0.5, abs=0.06)
