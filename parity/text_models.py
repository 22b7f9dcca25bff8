"""A text model of ours with random weights and its own tokenizer, as an export takes it."""

import functools

import jax
import numpy as np

from contrastive_jax.branches import Branch, Graph
from contrastive_jax.data.tokenizers import BytePairs
from contrastive_jax.interop import Model, Vocabulary

LENGTH = 12
TEXTS = [
    "A man is playing a guitar.",
    "Ein Mann spielt Gitarre; l'été, 42 times!",
    "",
    "the",
    "unknown letters: \u4f60\u597d \U0001f600",
    "  a very long sentence that does not fit into so few tokens, however it is cut into pieces  ",
]
SMALL = dict(size="micro", width=32, heads=4, depth=4, vocabulary=400, length=32)


@functools.cache
def tokenizer():
    return BytePairs(vocabulary=300).train(TEXTS[:2])


def vocabulary(tmp_path):
    """As the work directory's file has it."""
    tokenizer().save(tmp_path / "own.json")
    content = (tmp_path / "own.json").read_text()
    return Vocabulary(content, LENGTH, "[BOS]", "[EOS]", "[PAD]", "[UNK]")


def model(encoder, head, normalize, tmp_path):
    heads = {} if head is None else {"out": head}
    branch = Branch("text", "text", tuple(heads), normalize)
    views = {"text": jax.ShapeDtypeStruct((LENGTH,), np.int32)}
    graph = Graph({"text": branch}, {"text": encoder}, heads, views)
    keys = iter(jax.random.split(jax.random.key(7), 99))
    params = jax.tree.map(lambda x: x + 0.2 * jax.random.normal(next(keys), x.shape), graph.init(next(keys)))

    def embed(params, name, view):
        encoded = graph.encode(params, name, view, train=False, key=None)
        return graph.finish(params, name, encoded, train=False, key=None)

    return Model(graph.encoders, heads, graph.branches, params, views, embed, vocabulary=vocabulary(tmp_path))
