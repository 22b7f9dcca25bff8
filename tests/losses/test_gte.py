"""GTE's and GISTEmbed's losses: the formula, which terms a guide leaves out, and InfoNCE inside of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import agree, draw, graded, is_the_same, random_cases, unit, value

from contrastive_jax import gte_contrastive, softmax_contrastive

Q, D = jnp.asarray(unit(0, 2, 6, 4), jnp.float32)


@pytest.mark.parametrize("guided", [True, pytest.param(False, marks=pytest.mark.slow)])
@random_cases
def test_equals_the_definition(guided, seed):
    mesh, n, third, further = draw(seed, f"gte {guided}", (1, 15), [True, False], [True, False])
    guide = unit(seed + 5, 2, n, 3)

    def definition(queries, documents, negatives, scale):
        (g, h), other = guide, ~np.eye(n, dtype=bool)
        parts = [(queries, documents, g, h, other | True)]
        parts += [(queries, queries, g, g, other), (documents, documents, h, h, other)]
        parts += [(documents, queries, h, g, other)] if third else []
        own = (g * h).sum(1)[:, None]
        terms = []
        for k, (a, b, of_a, of_b, mask) in enumerate(parts):
            if guided:
                mask = mask & ((of_a @ of_b.T <= own + 0.1) | ((k == 0) & ~other))
            terms.append(jnp.where(mask, jnp.exp(scale * a @ b.T), 0))
        if further:
            terms.append(jnp.exp(scale * queries @ negatives.reshape(-1, 4).T))
        return jnp.mean(jnp.log(sum(t.sum(1) for t in terms)) - scale * (queries * documents).sum(1))

    def loss(queries, documents, negatives, scale, engine):
        return gte_contrastive(
            queries,
            documents,
            scale=scale,
            negatives=negatives if further else None,
            guide=tuple(guide) if guided else None,
            guide_margin=0.1,
            documents_to_queries=third,
            engine=engine,
        )

    arguments = unit(seed, n, 4), unit(seed + 1, n, 4), unit(seed + 2, n, 2, 4), 3.0
    is_the_same(loss, definition, arguments, mesh)


def test_what_a_guide_leaves_out_of_every_block_leaves_infonce():
    """Its vectors say that queries are alike, documents are alike, and the two are far apart."""
    ones = jnp.ones((6, 1))
    got = graded(gte_contrastive, Q, D, scale=5.0, guide=(ones, -ones), documents_to_queries=False)
    agree(got, graded(softmax_contrastive, Q, D, scale=5.0, symmetric=False))


def test_a_text_is_never_its_own_negative():
    """Where query and document are one text, its guide similarity to itself is the threshold, not over it."""
    others = jnp.exp(5.0 * Q @ Q.T) * (1 - jnp.eye(6))
    want = float(jnp.mean(jnp.log(jnp.exp(5.0) + 3 * others.sum(1)) - 5.0))
    for guide in ((jnp.eye(6), jnp.eye(6)), None):
        got = value(gte_contrastive, Q, Q, scale=5.0, guide=guide, documents_to_queries=False)
        assert got == pytest.approx(want, rel=2e-6)


def test_a_guide_gets_no_gradient():
    def loss(guide):
        return gte_contrastive(Q, D, scale=5.0, guide=tuple(guide)).value

    assert not jax.jit(jax.grad(loss))(jnp.asarray(unit(3, 2, 6, 3), jnp.float32)).any()
