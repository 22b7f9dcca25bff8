import numpy as np
import pytest
from known_embeddings import KnownEmbeddings, on_sphere

from contrastive_jax.data.views import Glyph
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import ConditionalRetrieval, Retrieval
from contrastive_jax.evaluation.conditional_retrieval import together
from contrastive_jax.evaluation.embedding import Listed


def embedder(**branches):
    functions = {name: lambda r, z=z: z[r["record"]] for name, z in branches.items()}
    return KnownEmbeddings(dict.fromkeys(branches, Glyph()), functions)


def records(n, **columns):
    return Listed("made up", [{"record": i} | {k: v[i] for k, v in columns.items()} for i in range(n)])


def test_scores_are_the_multilinear_product_and_the_pairwise_sum():
    """Ranks from the whole table of all candidates, with every pairwise dot product in it."""
    rng, n = np.random.default_rng(0), 40
    a, b, c, x = (on_sphere(rng, n, 5) for _ in range(4))
    product = np.einsum("id,id,id,jd->ij", a, b, c, x)
    pairwise = sum(p @ x.T + np.sum(p * q, axis=1)[:, None] for p, q in ((a, b), (b, c), (c, a)))
    evaluator = ConditionalRetrieval(("a", "b", "c"), "x", at=(1, 3))
    found = dict(evaluator.run(embedder(a=a, b=b, c=c, x=x), records(n)))
    for name, table in (("product", product), ("sum", pairwise)):
        rank = 1 + np.sum(table > np.diag(table)[:, None], axis=1)
        assert found[f"{name}/R@1"] == pytest.approx(np.mean(rank <= 1))
        assert found[f"{name}/R@3"] == pytest.approx(np.mean(rank <= 3))
        assert found[f"{name}/MRR"] == pytest.approx(np.mean(1 / rank))
    assert found["product/MRR"] != found["sum/MRR"]
    assert (found["chance"], found["answers"]) == (1 / n, n)
    assert evaluator.branches == ("a", "x", "b", "c")


def test_one_modality_is_retrieval():
    rng, n = np.random.default_rng(1), 25
    a, x = on_sphere(rng, n, 4), on_sphere(rng, n, 4)
    embed, source = embedder(a=a, x=x), records(n)
    found = dict(ConditionalRetrieval(("a",), "x").run(embed, source))
    plain = dict(Retrieval("a", "x", right=("record",), at=(1, 5)).run(embed, source))
    for k in (1, 5):
        assert found[f"product/R@{k}"] == found[f"sum/R@{k}"] == pytest.approx(plain[f"a_to_x/R@{k}"])


def test_only_both_together_tell():
    """Signs of bits: the third is the product of the other two, so that neither alone says anything, and
    their sum is 0 where they differ. The multilinear product finds all; answers that are equal are one."""
    rng, n = np.random.default_rng(2), 64
    a, b = (rng.choice([-1.0, 1], (n, 3)) for _ in range(2))
    value = ((a * b > 0) @ [1, 2, 4]).tolist()
    embed = embedder(a=a, b=b, x=a * b)
    found = dict(ConditionalRetrieval(("a", "b"), "x", right="value").run(embed, records(n, value=value)))
    assert found["answers"] == 8
    assert found["product/R@1"] == 1.0
    assert found["sum/R@1"] < 0.3
    alone = dict(ConditionalRetrieval(("a",), "x", right="value").run(embed, records(n, value=value)))
    assert alone["product/R@1"] < 0.3


def test_what_stands_for_a_missing_modality():
    """A branch of ones says nothing to the product, and one of zeros nothing to the sum."""
    rng, n = np.random.default_rng(3), 20
    a, x = on_sphere(rng, n, 4), on_sphere(rng, n, 4)
    embed, source = embedder(a=a, x=x, ones=np.ones((n, 4)), zeros=np.zeros((n, 4))), records(n)
    alone = dict(ConditionalRetrieval(("a",), "x").run(embed, source))
    for name, branch in (("product", "ones"), ("sum", "zeros")):
        found = dict(ConditionalRetrieval(("a", branch), "x", scores=(name,)).run(embed, source))
        assert found[f"{name}/MRR"] == alone[f"{name}/MRR"]
    lost = dict(ConditionalRetrieval(("a", "zeros"), "x", scores=("product",)).run(embed, source))
    assert lost["product/R@1"] == 0


def test_a_product_of_many_is_not_lost_to_rounding():
    z = [1e-20 * np.ones((2, 3), np.float32)] * 3
    assert together(z, "product") == pytest.approx(1e-60)


def test_wrong_settings_are_refused():
    for settings, message in (
        (dict(given=()), "given="),
        (dict(given=("a",), scores=("mean",)), "scores="),
        (dict(given=("a",), scores=()), "scores="),
        (dict(given=("a",), at=()), "at="),
    ):
        with pytest.raises(InputError, match=message):
            ConditionalRetrieval(answers="x", **settings)
