"""Late interaction: the formula, padding, order, one token a side, and texts without any token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import draw, is_the_same, random_cases, same, table_cross_entropy, unit, value

from contrastive_jax import late_interaction, softmax_contrastive


def masks(seed: int, n: int, T: int, S: int):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.random((n, length)) < 0.7) for length in (T, S)]


@random_cases
def test_equals_the_definition(seed):
    either = [True, False]
    mesh, n, T, S, labelled, symmetric = draw(seed, "late", (2, 11), (1, 4), (1, 5), either, either)
    query_mask, document_mask = masks(seed, n, T, S)
    ids = np.random.default_rng(seed).integers(0, 4, n) if labelled else np.arange(n)

    def definition(queries, documents, scale):
        dots = jnp.einsum("itd,jsd->ijts", queries, documents)
        best = jnp.where(document_mask[None, :, None, :], dots, -1e9).max(3)
        score = scale * jnp.where(query_mask[:, None], best, 0).sum(2)
        there = query_mask.any(1)[:, None] & document_mask.any(1)[None, :]
        of_rows = table_cross_entropy(score, same(ids, ids), there)
        if not symmetric:
            return of_rows
        return (of_rows + table_cross_entropy(score.T, same(ids, ids), there.T)) / 2

    def loss(queries, documents, scale, engine):
        return late_interaction(
            queries,
            documents,
            scale=scale,
            query_mask=query_mask,
            document_mask=document_mask,
            positives=jnp.asarray(ids) if labelled else None,
            symmetric=symmetric,
            engine=engine,
        )

    is_the_same(loss, definition, (unit(seed, n, T, 4), unit(seed + 1, n, S, 4), 2.0), mesh)


def test_one_token_a_side_is_the_dot_product():
    queries, documents = jnp.asarray(unit(0, 2, 7, 4), jnp.float32)
    got = value(late_interaction, queries[:, None], documents[:, None], scale=6.0, symmetric=True)
    assert got == pytest.approx(value(softmax_contrastive, queries, documents, scale=6.0), rel=2e-6)


def test_order_and_padding_of_documents_change_nothing():
    queries, documents = jnp.asarray(unit(0, 6, 2, 4)), jnp.asarray(unit(1, 6, 3, 4))
    _, mask = masks(3, 6, 2, 3)
    mask = mask.at[:, 0].set(True)
    want = pytest.approx(value(late_interaction, queries, documents, document_mask=mask), rel=1e-6)
    order, more = jnp.array([2, 0, 1]), jnp.zeros((6, 2), bool)
    turned = documents[:, order]
    assert value(late_interaction, queries, turned, document_mask=mask[:, order]) == want
    longer = jnp.concatenate([documents, jnp.full((6, 2, 4), jnp.nan)], 1)
    assert value(late_interaction, queries, longer, document_mask=jnp.concatenate([mask, more], 1)) == want


def test_a_text_without_tokens_takes_no_part():
    queries, documents = jnp.asarray(unit(0, 5, 2, 4)), jnp.asarray(unit(1, 5, 3, 4))
    mask = jnp.ones((5, 3), bool).at[4].set(False)

    def loss(queries, documents, mask=None):
        return late_interaction(queries, documents, document_mask=mask).value

    got, gradient = jax.jit(jax.value_and_grad(loss, 1))(queries, documents, mask)
    assert float(got) == pytest.approx(float(jax.jit(loss)(queries[:4], documents[:4])), rel=1e-6)
    assert not gradient[4].any()
    assert value(late_interaction, queries, documents, document_mask=jnp.zeros((5, 3), bool)) == 0


def test_what_is_refused():
    z = jnp.ones((4, 2, 3))
    with pytest.raises(ValueError, match="give two of"):
        late_interaction(z, z[..., :2])
    with pytest.raises(ValueError, match="token mask"):
        late_interaction(z, z, query_mask=jnp.ones((4, 3), bool))
    with pytest.raises(ValueError, match="say which belong together"):
        late_interaction(z, z[:2])
