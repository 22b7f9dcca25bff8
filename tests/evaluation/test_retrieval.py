import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_embeddings import KnownEmbeddings, on_sphere

from contrastive_jax.data.views import Glyph, Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import geometry, nearest
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.nearest import nearest_neighbours
from contrastive_jax.evaluation.retrieval import Retrieval


def embedder(texts, images, devices=1):
    views = {"text": Text(), "image": Glyph()}
    functions = {"text": lambda r: texts[r["record"]], "image": lambda r: images[r["record"]]}
    return KnownEmbeddings(views, functions, devices)


def records(n, **columns):
    rows = [{"record": i} | {name: values[i] for name, values in columns.items()} for i in range(n)]
    return Listed("made up", rows)


def test_recall_by_hand():
    """Text 0 finds its image first, text 1 second, text 2 third; and what the images find."""
    texts = np.array([[1.0, 0], [0, 1], [-1, 0]])
    images = np.array([[2.0, 0], [1, 1], [0, 2]])
    evaluator = Retrieval(rows="text", columns="image", right=("record",), at=(1, 2, 3))
    # Scores, texts down: [2 1 0] [0 1 2] [-2 -1 0].
    assert dict(evaluator.run(embedder(texts, images), records(3))) == {
        "text_to_image/R@1": pytest.approx(2 / 3),
        "text_to_image/R@2": 1.0,
        "text_to_image/R@3": 1.0,
        "image_to_text/R@1": pytest.approx(1 / 3),
        "image_to_text/R@2": pytest.approx(2 / 3),
        "image_to_text/R@3": 1.0,
    }


@pytest.mark.parametrize("devices", [1, 8])
def test_recall_is_that_of_the_whole_matrix(devices):
    rng, n = np.random.default_rng(0), 61
    texts, images = on_sphere(rng, n, 6), on_sphere(rng, n, 6)
    picture = rng.integers(0, 40, n)
    evaluator = Retrieval(rows="text", columns="image", right=("picture",), at=(5, 1, 10))
    source = records(n, picture=picture)
    found = dict(evaluator.run(embedder(texts, images, devices), source))
    assert [name.partition("R@")[2] for name in found] == ["1", "5", "10"] * 2
    for direction, scores in (("text_to_image", texts @ images.T), ("image_to_text", images @ texts.T)):
        best = np.argsort(-scores, axis=1)
        for k in (1, 5, 10):
            expected = np.mean([picture[i] in picture[best[i, :k]] for i in range(n)])
            assert found[f"{direction}/R@{k}"] == pytest.approx(expected)


def test_a_corpus_smaller_than_k():
    z = np.eye(3)
    evaluator = Retrieval(rows="text", columns="image", right=("record",), at=(1, 10))
    assert set(dict(evaluator.run(embedder(z, -z), records(3))).values()) == {0.0, 1.0}
    assert evaluator.find(embedder(z, z), records(3), "text", "image", 10).nearest.shape == (3, 3)


def test_an_identical_picture_and_its_name_count_as_right():
    """Texts 0 and 1 each find the other's picture, which are the same picture; text 2 finds another."""
    texts, images = np.eye(4), np.eye(4)[[1, 0, 3, 2]]
    evaluator = Retrieval(rows="text", columns="image", right=("picture",), at=(1,))
    source = records(4, picture=[7, 7, 8, 9])
    assert list(dict(evaluator.run(embedder(texts, images), source)).values()) == [0.5, 0.5]
    apart = records(4, picture=[6, 7, 8, 9])
    assert list(dict(evaluator.run(embedder(texts, images), apart)).values()) == [0.0, 0.0]


def test_any_of_several_fields_makes_an_answer_right():
    source = records(2, picture=[1, 2], character=[5, 5])
    evaluator = Retrieval(rows="text", columns="image", right=("picture", "character"), at=(1,))
    found = dict(evaluator.run(embedder(np.eye(2), np.eye(2)[::-1]), source))
    assert list(found.values()) == [1.0, 1.0]


def test_several_captions_a_picture():
    """Three pictures with 2, 1 and 3 captions: a picture is right with any of its own, as on COCO."""
    captions = [["a", "b"], ["c"], ["d", "e", "f"]]
    directions = dict(zip("abcdef", np.eye(3)[[1, 0, 1, 0, 2, 1]]))
    embed = KnownEmbeddings(
        {"text": Text(field="captions"), "image": Glyph()},
        {"text": lambda r: directions[r["captions"]], "image": lambda r: np.eye(3)[r["record"]] * [3, 2, 1]},
    )
    evaluator = Retrieval("text", "image", right=("record",), at=(1,), several="text")
    found = dict(evaluator.run(embed, records(3, captions=captions)))
    assert found == {"text_to_image/R@1": 3 / 6, "image_to_text/R@1": 2 / 3}


def test_a_picture_that_stands_in_several_records_is_one_answer():
    """Four records of two pictures; text 2 finds picture 9 second, behind one entry of picture 7."""
    texts = np.array([[1.0, 0], [1, 0], [2, 1], [0, 1]])
    images = np.eye(2)[[0, 0, 1, 1]]
    source = records(4, picture=[7, 7, 9, 9])
    settings = dict(rows="text", columns="image", right=("picture",), at=(1, 2))
    found = dict(Retrieval(**settings, once=("image",)).run(embedder(texts, images), source))
    assert found["text_to_image/R@1"] == 3 / 4
    assert found["text_to_image/R@2"] == 1.0
    answers = Retrieval(**settings, once=("image",)).find(embedder(texts, images), source, "text", "image", 5)
    assert set(answers.nearest.ravel()) == {0, 2}
    assert dict(Retrieval(**settings).run(embedder(texts, images), source))["text_to_image/R@2"] == 3 / 4


@pytest.mark.parametrize("devices", [1, 8])
def test_a_query_is_not_its_own_answer(devices):
    """Products by their pictures: the nearest other picture of 40, some of which have no other."""
    rng, n = np.random.default_rng(0), 40
    z, product = on_sphere(rng, n, 3), rng.integers(0, 20, n)
    evaluator = Retrieval("image", "image", right=("product",), at=(1, 3), exclude_self=True)
    found = dict(evaluator.run(embedder(z, z, devices), records(n, product=product)))
    table = z @ z.T - 10 * np.eye(n)
    order = np.argsort(-table, axis=1)
    expected = [np.mean([(product[o[:k]] == p).any() for o, p in zip(order, product)]) for k in (1, 3)]
    assert found == {"image_to_image/R@1": expected[0], "image_to_image/R@3": expected[1]}
    alone = evaluator.find(embedder(z, z), records(1, product=[1]), "image", "image", 3)
    assert alone.nearest.tolist() == [[-1]]
    assert not alone.right.any()


def faces(embeddings, devices=1):
    function = lambda record: embeddings[record["record"]]  # noqa: E731
    views = {"a": Glyph(member=0), "b": Glyph(member=1)}
    return KnownEmbeddings(views, {"a": function, "b": function}, devices)


def test_groups_give_one_query_and_one_answer_each():
    """The members of a character need not stand together; the character with one face is left out."""
    source = records(6, character=[9, 5, 7, 5, 7, 5])
    z = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0]])
    evaluator = Retrieval(rows="a", columns="b", right=("character",), group="character", at=(1,))
    found = evaluator.find(faces(z), source, "a", "b", 1)
    np.testing.assert_array_equal(found.queries, [1, 2])
    # Answers are records 3 (of character 5) and 4 (of character 7), and record 1 is as near to either.
    assert found.nearest[1, 0] == 4
    assert set(found.nearest[:, 0]) <= {3, 4}
    np.testing.assert_array_equal(found.right[:, 0], found.nearest[:, 0] == [3, 4])


def test_no_group_with_two_members_is_refused():
    evaluator = Retrieval(rows="a", columns="b", right=("character",), group="character")
    with pytest.raises(InputError, match="no character in made up has 2 records"):
        dict(evaluator.run(faces(np.eye(3)), records(3, character=[1, 2, 3])))


def test_groups_by_name_are_those_by_number():
    z = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0]])
    evaluator = Retrieval(rows="a", columns="b", right=("character",), group="character", at=(1, 2))
    numbers, names = [9, 5, 7, 5, 7, 5], ["nine", "five", "seven", "five", "seven", "five"]
    found = [dict(evaluator.run(faces(z), records(6, character=values))) for values in (numbers, names)]
    assert found[0] == found[1]


@pytest.mark.parametrize("absent", ["", None])
def test_what_is_absent_equals_nothing(absent):
    """Texts 0 and 1 find each other's picture; neither says which picture it is."""
    source = records(3, picture=[absent, absent, "c"])
    evaluator = Retrieval(rows="text", columns="image", right=("picture",), at=(1,))
    found = dict(evaluator.run(embedder(np.eye(3), np.eye(3)[[1, 0, 2]]), source))
    assert list(found.values()) == [1 / 3, 1 / 3]
    for settings in (dict(once=("image",)), dict(group="picture")):
        evaluator = Retrieval(rows="text", columns="image", right=("picture",), **settings)
        with pytest.raises(InputError, match=r"record 0: it has no 'picture'; \?keep=picture leaves"):
            dict(evaluator.run(embedder(np.eye(3), np.eye(3)), source))


def test_a_list_is_no_value_to_compare():
    source = records(2, tags=[["a"], ["a", "b"]])
    with pytest.raises(InputError, match="record 0: 'tags' is a list"):
        dict(Retrieval("text", "image", right=("tags",)).run(embedder(np.eye(2), np.eye(2)), source))


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match=r"at=\(0, 1\)"):
        Retrieval(rows="a", columns="b", right=("record",), at=(0, 1))
    with pytest.raises(InputError, match=r"right=\(\)"):
        Retrieval(rows="a", columns="b", right=())
    for settings, message in (
        (dict(several="c"), "several='c': known: a, b"),
        (dict(once=("c",)), "once='c'"),
        (dict(group="character", once=("a",)), "leave out several and once"),
    ):
        with pytest.raises(InputError, match=message):
            Retrieval(rows="a", columns="b", right=("record",), **settings)
    evaluator = Retrieval(rows="text", columns="image", right=("pictur",))
    with pytest.raises(InputError, match="no field 'pictur'"):
        dict(evaluator.run(embedder(np.eye(2), np.eye(2)), records(2)))


@given(n=st.integers(1, 40), m=st.integers(1, 40), devices=st.sampled_from([1, 8]), seed=st.integers(0, 99))
def test_nearest_neighbours_are_those_of_a_sort(n, m, devices, seed):
    rng = np.random.default_rng(seed)
    queries, corpus = (rng.normal(size=(size, 4)).astype(np.float32) for size in (n, m))
    k, mesh = min(m, 5), embedder(queries, corpus, devices).mesh
    expected = np.argsort(-(queries.astype(float) @ corpus.T.astype(float)), axis=1)[:, :k]
    np.testing.assert_array_equal(nearest_neighbours(queries, corpus, k, mesh), expected)


@pytest.mark.parametrize("devices", [1, 8])
def test_nothing_of_queries_times_corpus_is_built(devices):
    n = 20_000
    side = {"z": jax.ShapeDtypeStruct((n, 8), jnp.float32), "within": jax.ShapeDtypeStruct((n,), jnp.int32)}
    with jax.set_mesh(embedder(None, None, devices).mesh):
        compiled = nearest._search.lower(side, side, 10).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n * 4 / devices / 10


def test_products_are_formed_in_full_precision():
    """A GPU's or TPU's own choice rounds the factors to 10 or 7 bits; the CPU's does not, so it is read."""
    side = {"z": jnp.ones((2, 3)), "square": jnp.ones(2), "position": jnp.arange(2)}
    for tile in (nearest._scores, geometry._distances, geometry._penalties):
        equations = jax.make_jaxpr(
            lambda rows, columns, tile=tile: tile(rows, columns, {"temperature": 1.0})
        )(side, side).eqns
        (product,) = [equation for equation in equations if equation.primitive.name == "dot_general"]
        assert set(product.params["precision"]) == {jax.lax.Precision.HIGHEST}
