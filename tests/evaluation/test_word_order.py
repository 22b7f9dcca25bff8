"""Choices and retrieval that the order of words alone decides."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_embeddings import KnownEmbeddings, hashed, on_sphere

from contrastive_jax.configuration import Kind, Named, build, complete
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Glyph, Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import KINDS, CaptionChoice, PerturbedRetrieval, Retrieval
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.word_order import PERTURBATIONS, Perturbation, Reordered

KINDS_OF_WORDS = (
    ("black", "blue", "yellow"),
    ("circle", "square", "triangle", "circles", "squares", "triangles"),
    ("top", "bottom", "left", "right"),
)
ARO = ("listed", "unlisted", "within_trigrams", "trigrams")
SENTENCE = "A yellow square is to the left of a black circle, near it."


def bag_of_words(text):
    """A sum in single precision, so that the order of the words changes its last digits."""
    total = np.zeros(16, np.float32)
    for word in text.lower().replace(",", "").replace(".", "").split():
        total += hashed(word).astype(np.float32)
    return total / np.linalg.norm(total)


def order_aware(text):
    return hashed(" ".join(text.split()))


def embedder(read, image=lambda r: hashed(r["key"])):
    return KnownEmbeddings(
        {"image": Glyph(), "text": Text()}, {"image": image, "text": lambda r: read(r["text"])}
    )


@pytest.fixture(scope="module")
def nlvr(data_folder):
    return open_source(f"webdataset:{data_folder}/nlvr_compositional/dev-0000.tar?where=label:true")


@pytest.mark.parametrize("how", PERTURBATIONS)
def test_the_same_words_in_another_order(how):
    changed = Perturbation(how, KINDS_OF_WORDS)(SENTENCE)
    assert changed != SENTENCE
    assert bag_of_words(changed) == pytest.approx(bag_of_words(SENTENCE), abs=1e-6)
    assert changed == Perturbation(how, KINDS_OF_WORDS)(SENTENCE)
    capitals = tuple(tuple(word.title() for word in kind) for kind in KINDS_OF_WORDS)
    assert changed == Perturbation(how, capitals)(SENTENCE)
    assert len({Perturbation("words", seed=seed)(SENTENCE) for seed in range(5)}) > 1


def test_what_has_no_other_order():
    assert Perturbation("words")("emoji") is None
    assert Perturbation("trigrams")("a a a a") is None
    assert Perturbation("trigrams")("a b c") is None
    assert Perturbation("within_trigrams")("a a a b b b") is None
    assert Perturbation("swap", KINDS_OF_WORDS)("a black box") is None  # but for another word in its place
    assert Perturbation("swap", KINDS_OF_WORDS)("two dogs run in the park") is None
    assert Perturbation("listed", KINDS_OF_WORDS)("a black box and a black box") is None
    assert Perturbation("unlisted", KINDS_OF_WORDS)("a black circle a") is None


@pytest.mark.parametrize("ways", [ARO, ("swap",), PERTURBATIONS])
def test_a_bag_of_words_has_exactly_the_chance_of_a_guess(nlvr, ways):
    """50 % where one order is offered, 20 % with four: to the last bit, though its sums differ in theirs."""
    found = dict(
        CaptionChoice("image", "text", true="sentence", perturbations=ways, kinds=KINDS_OF_WORDS).run(
            embedder(bag_of_words), nlvr
        )
    )
    assert found["records"] > 80
    assert found["chance"] == pytest.approx(1 / (1 + len(ways)), rel=1e-12)
    assert found["accuracy"] == pytest.approx(found["chance"], rel=1e-12)
    assert {found[f"against/{how}"] for how in ways} == {0.5}


def test_what_sees_the_order_chooses_by_it(nlvr):
    evaluator = CaptionChoice("image", "text", true="sentence", perturbations=ARO, kinds=KINDS_OF_WORDS)
    blind = dict(evaluator.run(embedder(order_aware), nlvr))
    assert blind["accuracy"] == pytest.approx(0.2, abs=0.08)
    seeing = embedder(order_aware, lambda r: order_aware(r["sentence"]))
    assert dict(evaluator.run(seeing, nlvr))["accuracy"] == 1.0
    assert evaluator.fields == ("sentence",)


@given(st.integers(0, 999))
def test_lots_are_drawn_among_the_equally_near(seed):
    """By hand: the probability to win of the true sentence among the nearest ones."""
    rng = np.random.default_rng(seed)
    near = rng.integers(0, 3, (12, 4)).astype(float)
    texts = [[f"{i} {k}" for k in range(4)] for i in range(12)]
    score = {text: s for row, line in zip(texts, near) for text, s in zip(row, line)}
    embed = embedder(lambda text: np.array([score[text], 1]), lambda r: np.array([1.0, 0]))
    source = Listed("made up", [{"text": row[0], "false": row[1:]} for row in texts])
    best = near == near.max(axis=1, keepdims=True)
    expected = np.mean(best[:, 0] / best.sum(axis=1))
    assert dict(CaptionChoice("image", "text").run(embed, source))["accuracy"] == pytest.approx(expected)


def test_a_source_read_in_another_order():
    source = Listed("s", [{"text": SENTENCE, "all": ["emoji", SENTENCE], "record": 0}, {"record": 1}])
    way = Perturbation("words")
    assert Reordered(source, "text", way)[0] == {**source[0], "text": way(SENTENCE)}
    assert Reordered(source, "all", way)[0]["all"] == ["emoji", way(SENTENCE)]
    assert Reordered(source, "text", way)[1] == {"record": 1}
    assert Reordered(source, "text", way).column("record") == [0, 1]
    assert len(Reordered(source, "text", way)) == 2


def test_groups_of_the_records_that_are_left():
    z = on_sphere(np.random.default_rng(0), 1, 4)[0]
    records = [
        {"text": text, "key": text, "of": of} for text, of in (("one", "a"), ("a b", "b"), ("c d", "c"))
    ]
    embed = embedder(lambda text: z, lambda r: z)
    found = dict(
        CaptionChoice("image", "text", perturbations=("words",), group="of").run(embed, Listed("s", records))
    )
    assert found == {
        "accuracy": 0.5, "accuracy/b": 0.5, "accuracy/c": 0.5, "accuracy/mean": 0.5,
        "chance": 0.5, "against/words": 0.5, "records": 2,
    }  # fmt: skip


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="perturbations='word': unknown"):
        CaptionChoice("image", "text", perturbations=("word",))
    with pytest.raises(InputError, match="perturbations='swap': which words"):
        CaptionChoice("image", "text", perturbations=("swap",))
    source = Listed("s", [{"text": "one", "key": "1"}])
    with pytest.raises(InputError, match="no 'text' has all of the perturbations words"):
        dict(CaptionChoice("image", "text", perturbations=("words",)).run(embedder(bag_of_words), source))


def test_kinds_in_a_config():
    from ml_collections import ConfigDict

    schema = Named(Kind(KINDS))
    settings = dict(
        kind="caption_choice", examples="i", prompts="t", perturbations=("swap",), kinds=KINDS_OF_WORDS
    )
    config = ConfigDict(dict(order=settings))
    complete(config, schema)
    assert build(config, schema)["order"].kinds == KINDS_OF_WORDS
    stored = ConfigDict(json.loads(config.to_json()))
    assert hash(build(stored, schema)["order"].kinds) == hash(KINDS_OF_WORDS)


@pytest.mark.parametrize("several", [None, "text"])
def test_retrieval_by_a_bag_of_words_loses_nothing(several):
    texts = ["a red cat on a mat", "the blue dog in the rain", "two birds that sing at night"]
    values = [[text, text[::-1]] for text in texts] if several else texts
    source = Listed("s", [{"record": i, "text": value, "key": texts[i]} for i, value in enumerate(values)])
    settings = dict(right=("record",), at=(1,), several=several)
    evaluator = PerturbedRetrieval("text", "image", perturbations=("words", "trigrams"), **settings)
    for read, lost in ((bag_of_words, 0.0), (order_aware, 0.1)):
        embed = embedder(read, lambda r, read=read: read(r["key"]))
        found = dict(evaluator.run(embed, source))
        assert (
            found["text_to_image/R@1"]
            == dict(Retrieval("text", "image", **settings).run(embed, source))["text_to_image/R@1"]
        )
        shuffled = min(found["words/image_to_text/R@1"], found["trigrams/image_to_text/R@1"])
        assert found["image_to_text/R@1"] == 1.0
        assert shuffled <= 1.0 - lost if lost else shuffled == 1.0
        assert len(found) == 6
    with pytest.raises(InputError, match="neither 'image' nor 'image' reads texts"):
        dict(PerturbedRetrieval("image", "image", right=("record",)).run(embed, source))
