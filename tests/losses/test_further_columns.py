"""Memories and hard negatives of the softmax loss: what a row sees of them, on every mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import (
    agree,
    both_ways,
    draw,
    graded,
    is_the_same,
    make_mesh,
    random_cases,
    table_cross_entropy,
    unit,
    value,
)
from jax.sharding import NamedSharding, PartitionSpec

from contrastive_jax import Memory, softmax_contrastive

Z, W = jnp.asarray(unit(0, 2, 6, 4), jnp.float32)


@random_cases
def test_what_a_row_sees_of_a_memory(seed):
    """Only what is filled, and only its own label's, beside hard negatives that all see."""
    either = [True, False]
    mesh, n, N, filled, labelled, symmetric, smooth = draw(
        seed, "memory", (2, 21), (1, 30), either, either, either, [0.0, 0.2]
    )
    rng = np.random.default_rng(seed)
    there, of_memory, of_rows = rng.random(N) < 0.7, rng.integers(0, 3, N), rng.integers(0, 3, n)
    seen = np.ones((n, N), bool)
    if filled:
        seen &= there[None]
    if labelled:
        seen &= of_rows[:, None] == of_memory[None]

    def definition(rows, columns, one, other, memory, scale):
        own = jnp.where(np.repeat(np.eye(n, dtype=bool), 2, axis=1), 0.7, 0)
        dots, eye = scale * rows @ columns.T, np.eye(n)
        further = [own + scale * rows @ one.reshape(-1, 4).T, scale * rows @ other.T]
        logits = [dots, *further, scale * rows @ jax.lax.stop_gradient(memory).T]
        valid = np.concatenate([np.ones((n, 4 * n), bool), seen], 1)
        targets = np.concatenate([eye, np.zeros((n, 3 * n + N))], 1)
        of_rows = table_cross_entropy(jnp.concatenate(logits, 1), targets, valid, smoothing=smooth)
        return (of_rows + table_cross_entropy(dots.T, eye, smoothing=smooth)) / 2 if symmetric else of_rows

    def loss(rows, columns, one, other, memory, scale, engine):
        if filled:
            memory = jnp.where(there[:, None], memory, jnp.nan)
        return softmax_contrastive(
            rows,
            columns,
            scale=scale,
            negatives=(one, other),
            own_negatives=0.7,
            memory=Memory(memory, jnp.asarray(there) if filled else None, jnp.asarray(of_memory)),
            memory_labels=jnp.asarray(of_rows) if labelled else None,
            label_smoothing=smooth,
            symmetric=symmetric,
            engine=engine,
        )

    shapes = (n, 4), (n, 4), (n, 2, 4), (n, 4), (N, 4)
    arguments = [unit(seed + i, *shape) for i, shape in enumerate(shapes)]
    is_the_same(loss, definition, (*arguments, 4.0), mesh, rtol=1e-8)


# The older ones (see conftest) take a minute over the fusions of this ring.
NEWER_EMITTERS = {"xla_cpu_use_fusion_emitters": True} if jax.__version_info__ < (0, 11) else None


@pytest.mark.parametrize(("communication", "N"), [("ring", 16), ("gather", 11)])
def test_a_memory_may_lie_anywhere(communication, N):
    """Replicated, or sharded as the batch is where it divides; the numbers are those of one device."""
    with jax.enable_x64(True):
        z, w = jnp.asarray(unit(0, 2, 16, 4))
        memory = Memory(jnp.asarray(unit(2, N, 4)), jnp.arange(N) != 3, jnp.arange(N) % 2)

        def loss(z, w, memory, engine):
            return softmax_contrastive(
                z, w, scale=4.0, memory=memory, memory_labels=jnp.arange(16) % 2, engine=engine
            ).value

        run = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=3, compiler_options=NEWER_EMITTERS)
        want, mesh = run(z, w, memory, None), make_mesh((4, 2))
        keywords = Engine({"communication": communication})
        rows, everywhere = (NamedSharding(mesh, PartitionSpec(*p)) for p in ((("data", "fsdp"),), ()))
        with jax.set_mesh(mesh):
            z, w = jax.device_put((z, w), rows)
            for place in (everywhere, rows) if N == 16 else (everywhere,):
                got = run(z, w, jax.device_put(memory, place), keywords)
                for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
                    np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-13)


class Engine(dict):
    """Keywords that jit takes as static."""

    def __hash__(self):
        return hash(tuple(self.items()))


def test_a_memory_without_places_or_labels_is_an_array():
    queue = jnp.asarray(unit(2, 9, 4), jnp.float32)
    want = value(softmax_contrastive, Z, W, scale=5.0, memory=queue)
    for memory in (
        Memory(queue),
        Memory(queue, jnp.ones(9, bool)),
        Memory(queue, labels=jnp.arange(9)),  # nobody asks for the labels
    ):
        assert value(softmax_contrastive, Z, W, scale=5.0, memory=memory) == pytest.approx(want, rel=1e-6)


class TestNegCLIP:
    """2B pictures, 2B captions and as many captions with swapped words, which are columns alone."""

    def definition(self, images, captions, swapped, scale):
        logits = scale * images @ jnp.concatenate([captions, swapped]).T
        eye = jnp.eye(len(images))
        of_images = table_cross_entropy(logits, jnp.concatenate([eye, 0 * eye], 1))
        return (of_images + table_cross_entropy(logits[:, : len(images)].T, eye)) / 2

    def test_equals_the_definition(self):
        def loss(*z, engine):
            return softmax_contrastive(*z[:2], negatives=z[2], scale=z[3], engine=engine)

        is_the_same(loss, self.definition, (*unit(0, 3, 16, 4), 5.0), (2, 4))

    def test_without_negatives_it_is_clip(self):
        images, captions, far = jnp.asarray(unit(0, 3, 8, 4), jnp.float32)
        got = graded(softmax_contrastive, images, captions, scale=5.0, negatives=())
        agree(got, graded(softmax_contrastive, images, captions, scale=5.0))
        clip = jax.value_and_grad(lambda z: both_ways(5.0 * z[0] @ z[1].T, np.eye(8)))
        agree(got, clip((images, captions)))
        assert value(softmax_contrastive, images, captions, scale=5.0, negatives=far) > got[0]

    def test_swapped_captions_are_no_queries(self):
        """Half of the value, the captions' direction, does not know them: no gradient but by the pictures."""
        images, captions, swapped = jnp.asarray(unit(0, 3, 8, 4), jnp.float32)

        def loss(swapped, symmetric):
            return softmax_contrastive(
                images, captions, negatives=swapped, scale=5.0, symmetric=symmetric
            ).value

        run = jax.jit(jax.grad(loss), static_argnums=1)
        both, one = (run(swapped, symmetric) for symmetric in (True, False))
        np.testing.assert_allclose(both, one / 2, rtol=1e-5, atol=1e-7)


def test_a_weight_of_the_own_negative_counts_it_so_often():
    """The log of 3 as often as three copies that the other rows do not see."""
    own = jnp.asarray(unit(3, 6, 4), jnp.float32)
    got = value(
        softmax_contrastive,
        Z,
        W,
        negatives=own[:, None],
        own_negatives=float(np.log(3.0)),
        scale=5.0,
        symmetric=False,
    )
    logits = 5.0 * Z @ jnp.concatenate([W, own]).T
    logits = logits.at[:, 6:].add(np.log(3.0) * jnp.eye(6))
    want = table_cross_entropy(logits, np.eye(6, 12))
    assert got == pytest.approx(float(want), rel=1e-5)


def test_what_is_refused():
    memory = Memory(jnp.ones((5, 4)), labels=jnp.zeros(5, int))
    for wrong, message in (
        ({"memory": jnp.ones((5, 4)), "memory_labels": jnp.zeros(6, int)}, "memory with labels"),
        ({"memory_labels": jnp.zeros(6, int)}, "memory with labels"),
        ({"memory": memory, "memory_labels": jnp.zeros(5, int)}, "beside 6 rows"),
        ({"memory": Memory(jnp.ones((5, 4)), jnp.ones(4, bool))}, "memory.filled"),
        ({"memory": Memory(jnp.ones((5, 4)), labels=jnp.ones(4, int))}, "memory.labels"),
        ({"negatives": (Z, Z[:, :2])}, "negatives"),
    ):
        with pytest.raises(ValueError, match=message):
            softmax_contrastive(Z, W, scale=1.0, **wrong)
