"""Our models of pictures, or pictures and texts, with every parameter drawn at random."""

import json

import jax
import numpy as np

from contrastive_jax.branches import Branch, Graph
from contrastive_jax.data.tokenizers import END, BytePairs
from contrastive_jax.encoders import TextTransformer, VisionTransformer
from contrastive_jax.encoders.heads import Linear
from contrastive_jax.interop import Model, Vocabulary

TEXTS = ["a red square", "two blue circles on white paper", "the end", "a black bar and a yellow cross"]
LENGTH = 12
SMALL = dict(width=32, depth=3, heads=4, mlp=80)
PAPER = dict(SMALL, activation="quick_gelu", epsilon=1e-5)


def tokenizer(folder):
    """One that learnt from the texts, and what it is for the formats."""
    made = BytePairs(vocabulary=60).train(TEXTS)
    made.save(folder / "learnt.json")
    text = (folder / "learnt.json").read_text()
    assert json.loads(text)["model"]["vocab"]["[EOS]"] == END
    specials = dict(begin="[BOS]", end="[EOS]", padding="[PAD]", unknown="[UNK]")
    return made, Vocabulary(text, LENGTH, **specials)


def image_encoder(**fields):
    return VisionTransformer(**{**PAPER, "patch": 8, "pooling": "cls", **fields})


def text_encoder(**fields):
    settings = dict(PAPER, vocabulary=60, length=LENGTH, causal=True, pooling="last", end=END)
    return TextTransformer(**{**settings, **fields})


def model(image=None, text=None, heads=(), shape=(24, 24, 3), dtype=np.uint8, **fields):
    """A model of these encoders; heads: {part: a linear head}."""
    encoders = {part: made for part, made in (("image", image), ("text", text)) if made is not None}
    heads = dict(heads)
    views = {
        "image": jax.ShapeDtypeStruct(shape, dtype),
        "text": jax.ShapeDtypeStruct((LENGTH,), np.int32),
    }
    branches = {p: Branch(p, p, (p,) if p in heads else (), normalize=len(encoders) > 1) for p in encoders}
    graph = Graph(branches, encoders, heads, {part: views[part] for part in encoders})
    draw = np.random.default_rng(3)

    def drawn(path, leaf):
        fan = leaf.shape[-2] if len(leaf.shape) > 1 else 25
        centre = "scale" in str(path[-1])  # of a norm: about 1
        return (centre + draw.normal(size=leaf.shape) * fan**-0.5).astype(np.float32)

    params = jax.tree_util.tree_map_with_path(drawn, jax.eval_shape(graph.init, jax.random.key(0)))

    def embed(params, branch, view):
        encoded = graph.encode(params, branch, view, train=False, key=None)
        return graph.finish(params, branch, encoded, train=False, key=None)

    return Model(encoders, heads, branches, params, graph.views, embed, **fields)


def projections(size=24, bias=False):
    return {"image": Linear(features=size), "text": Linear(features=size, bias=bias)}
