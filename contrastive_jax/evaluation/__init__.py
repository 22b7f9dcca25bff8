"""Evaluators, one contract: `run(embed, source) -> Iterator[(metric name, value)]`.

Each names the `branches` that it embeds, the `sources` that it reads (specs; None is the config's
evaluation.source; the first is the one that `run` is given), and the `fields` that it reads of the records
of each.
"""

from contrastive_jax.evaluation.beir import Beir
from contrastive_jax.evaluation.compositional import CaptionChoice, PictureChoice, Winoground
from contrastive_jax.evaluation.few_shot import FewShot
from contrastive_jax.evaluation.geometry import Geometry
from contrastive_jax.evaluation.linear_probe import LinearProbe
from contrastive_jax.evaluation.neighbours import Neighbours
from contrastive_jax.evaluation.pairs import Pairs
from contrastive_jax.evaluation.retrieval import Retrieval
from contrastive_jax.evaluation.sentence_similarity import SentenceSimilarity
from contrastive_jax.evaluation.zero_shot import ZeroShot

KINDS = {
    "retrieval": Retrieval,
    "zero_shot": ZeroShot,
    "geometry": Geometry,
    "sts": SentenceSimilarity,
    "knn": Neighbours,
    "linear_probe": LinearProbe,
    "beir": Beir,
    "pairs": Pairs,
    "few_shot": FewShot,
    "caption_choice": CaptionChoice,
    "picture_choice": PictureChoice,
    "winoground": Winoground,
}

__all__ = ["KINDS", *sorted(kind.__name__ for kind in KINDS.values())]
