import numpy as np
import pytest
from known_embeddings import KnownEmbeddings, hashed, on_sphere

from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Glyph, Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import RankVariance, Retrieval
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.rank_variance import rank_variances


def embedder(**branches):
    views = {name: Glyph() if name == "image" else Text() for name in branches}
    return KnownEmbeddings(views, {name: lambda r, z=z: z[r["record"]] for name, z in branches.items()})


def records(n, **columns):
    return Listed("made up", [{"record": i} | {k: v[i] for k, v in columns.items()} for i in range(n)])


def test_by_hand():
    """Two languages of three pictures: ranks (1, 1), (1, 2) and (1, 3) one way."""
    images = np.array([[1.0, 0], [0, 1], [-1, 0]])
    german = np.array([[1.0, 0.1], [1, 0.9], [1, 0.9]])
    found = dict(
        RankVariance(("en", "de"), "image").run(embedder(en=images, de=german, image=images), records(3))
    )
    assert found["en_to_image/R@1"] == 1.0
    assert found["de_to_image/R@1"] == pytest.approx(1 / 3)
    assert found["to_image/R@1"] == pytest.approx(2 / 3)
    assert found["to_image/R@5"] == 1.0
    assert found["to_image/MRV"] == pytest.approx((0 + 1 / 4 + 1) / 3)
    assert found["to_image/median_variance"] == pytest.approx(1 / 4)
    assert len(found) == 16


def test_languages_that_rank_alike_have_no_variance():
    """The same embeddings, or ones that differ in length alone: 0 to the last bit, at any recall."""
    rng, n = np.random.default_rng(0), 40
    z, images = on_sphere(rng, n, 3), on_sphere(rng, n, 3)
    embed = embedder(en=z, de=3 * z, fr=z, image=images)
    found = dict(RankVariance(("en", "fr"), "image").run(embed, records(n)))
    assert found["to_image/MRV"] == found["from_image/MRV"] == 0
    assert found["to_image/R@1"] < 0.5
    assert dict(RankVariance(("en", "de"), "image").run(embed, records(n)))["to_image/MRV"] == 0
    noisy = embedder(en=z, de=on_sphere(rng, n, 3), image=images)
    assert dict(RankVariance(("en", "de"), "image").run(noisy, records(n)))["to_image/MRV"] > 10


def test_recalls_are_those_of_retrieval_and_the_variance_numpys():
    rng, n = np.random.default_rng(1), 30
    branches = {name: on_sphere(rng, n, 4) for name in ("en", "de", "zh", "image")}
    source, embed = records(n, picture=rng.integers(0, 25, n).tolist()), embedder(**branches)
    found = dict(RankVariance(("en", "de", "zh"), "image", right="picture").run(embed, source))
    for name in ("en", "de", "zh"):
        plain = Retrieval(name, "image", right=("picture",), at=(1, 5)).run(embed, source)
        assert {title: found[title] for title, _ in plain} == {
            title: pytest.approx(value) for title, value in Retrieval(
                name, "image", right=("picture",), at=(1, 5)
            ).run(embed, source)
        }  # fmt: skip
    assert found["from_image/R@1"] == pytest.approx(
        np.mean([found[f"image_to_{name}/R@1"] for name in ("en", "de", "zh")])
    )
    table = rng.integers(1, 30, (20, 3)).astype(float)
    np.testing.assert_allclose(rank_variances(table), table.var(axis=1))


def test_a_collapsed_model_ranks_alike_and_finds_nothing():
    same = np.ones((5, 3))
    found = dict(RankVariance(("en", "de"), "image").run(embedder(en=same, de=same, image=same), records(5)))
    assert found["to_image/R@1"] == found["to_image/MRV"] == 0


def test_wrong_settings_are_refused():
    for languages in ((), ("en",), ("en", "en")):
        with pytest.raises(InputError, match="languages="):
            RankVariance(languages, "image")


def test_emoji_in_three_languages(data_folder):
    """Names that say nothing of their pictures: no recall, and much variance."""
    source = open_source(f"webdataset:{data_folder}/emoji_noto_multilingual/test-*.tar?where=skin_tone:false")
    names = ("en", "zh", "sw")
    embed = KnownEmbeddings(
        {name: Text(field=f"tts.{name}") for name in names} | {"image": Glyph()},
        {name: lambda r, name=name: hashed(r[f"tts.{name}"]) for name in names}
        | {"image": lambda r: hashed(r["key"])},
    )
    found = dict(RankVariance(names, "image").run(embed, source))
    assert found["to_image/R@1"] < 0.05
    assert 0.5 < found["to_image/MRV"] / (len(source) ** 2 / 12 * 2 / 3) < 1.5
