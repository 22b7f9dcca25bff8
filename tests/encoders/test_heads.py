import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.encoders.heads import KINDS, MLP, Linear
from contrastive_jax.errors import InputError

X = jax.random.normal(jax.random.key(1), (5, 8))


@pytest.mark.parametrize(
    "head",
    [
        Linear(features=4),
        Linear(features=4, bias=True, train_only=True),
        MLP(features=4, hidden=6, layers=3),
        MLP(features=4, hidden=6, norm="batch", last_norm=True),
        MLP(features=4, hidden=6, norm="layer", last_norm=True, activation="relu"),
        MLP(features=4, layers=1, bias=True, last_activation="tanh"),
    ],
)
def test_boundary(head):
    params, axes = head.init(jax.random.key(0), X), head.logical_axes(X)
    shapes = jax.tree.map(lambda p: p.ndim, params)
    assert shapes == jax.tree.map(len, axes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    z, statistics = head.apply(params, X, train=True, key=None)
    assert z.shape == (5, 4)
    assert jax.tree.map(jnp.shape, statistics) == jax.tree.map(jnp.shape, head.statistics(X))
    if getattr(head, "norm", "none") != "batch":
        assert statistics == {}


def test_linear_is_a_matrix():
    head = Linear(features=4)
    params = head.init(jax.random.key(0), jax.ShapeDtypeStruct((9, 8), jnp.float32))
    assert jax.tree.map(jnp.shape, params) == {"out": {"kernel": (8, 4)}}
    z, _ = head.apply(params, X, train=False, key=None)
    np.testing.assert_allclose(z, X @ params["out"]["kernel"], atol=1e-5)


def test_mlp_is_matrices_with_gelu_between():
    head = MLP(features=4, hidden=6, layers=3, bias=True)
    params = head.init(jax.random.key(0), X)
    y = X
    for name in ("hidden_0", "hidden_1"):
        y = jax.nn.gelu(y @ params[name]["kernel"] + params[name]["bias"])
    y = y @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(head.apply(params, X, train=False, key=None)[0], y, atol=1e-5)


def test_a_matrix_then_tanh():
    head = MLP(features=8, layers=1, bias=True, last_activation="tanh")
    params = head.init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, params) == {"out": {"kernel": (8, 8), "bias": (8,)}}
    want = jnp.tanh(X @ params["out"]["kernel"] + params["out"]["bias"])
    np.testing.assert_allclose(head.apply(params, X, train=True, key=None)[0], want, atol=1e-6)


def test_a_projector_with_layer_norms():
    head = MLP(features=4, hidden=6, norm="layer", last_norm=True, activation="relu")
    params = head.init(jax.random.key(0), X)
    assert set(params["hidden_0"]) == {"kernel"}  # the norm has the bias

    def norm(y):
        return (y - y.mean(1, keepdims=True)) / jnp.sqrt(y.var(1, keepdims=True) + 1e-5)

    y = jax.nn.relu(norm(X @ params["hidden_0"]["kernel"]))
    want = norm(y @ params["out"]["kernel"])
    np.testing.assert_allclose(head.apply(params, X, train=True, key=None)[0], want, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "keywords", "words"),
    [
        ("linear", {"features": 0}, "features: 0"),
        ("mlp", {"hidden": -1}, "hidden: -1"),
        ("mlp", {"layers": 0}, "layers: 0"),
        ("mlp", {"norm": "group"}, "norm: 'group'"),
        ("mlp", {"activation": "swish"}, "activation: 'swish'"),
        ("mlp", {"last_activation": "swish"}, "last_activation: 'swish'"),
        ("mlp", {"last_norm": True}, "last_norm=True"),
        ("mlp", {"momentum": 1.0}, "momentum: 1.0"),
        ("mlp", {"epsilon": 0.0}, "epsilon=0.0"),
        ("direct_predictor", {"rho": 1.0}, "rho: 1.0"),
        ("direct_predictor", {"eps": -0.1}, "eps=-0.1"),
        ("direct_predictor", {"floor": -0.1}, "floor=-0.1"),
    ],
)
def test_wrong_values_are_refused_by_name(kind, keywords, words):
    with pytest.raises(InputError) as raised:
        KINDS[kind](**keywords)
    assert words in str(raised.value)
