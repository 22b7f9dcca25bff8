"""Evaluators, one contract: `run(embed, source) -> Iterator[(metric name, value)]`.

Each names the `branches` that it embeds and compares with each other, so that they have one width, the
`sources` that it reads (specs; None is the config's evaluation.source; the first is the one that `run` is
given), and the `fields` that it reads of the records of each. `seen`, where it is not all `branches`: those
whose views read the records of its first source as they are.
"""

from contrastive_jax.evaluation.beir import Beir
from contrastive_jax.evaluation.compositional import CaptionChoice, PictureChoice, Winoground
from contrastive_jax.evaluation.conditional_retrieval import ConditionalRetrieval
from contrastive_jax.evaluation.few_shot import FewShot
from contrastive_jax.evaluation.geometry import Geometry
from contrastive_jax.evaluation.grouped_retrieval import GroupedRetrieval
from contrastive_jax.evaluation.length_bias import LengthBias
from contrastive_jax.evaluation.linear_probe import LinearProbe
from contrastive_jax.evaluation.neighbours import Neighbours
from contrastive_jax.evaluation.pairs import Pairs
from contrastive_jax.evaluation.perturbed_retrieval import PerturbedRetrieval
from contrastive_jax.evaluation.rank_variance import RankVariance
from contrastive_jax.evaluation.re_identification import ReIdentification
from contrastive_jax.evaluation.retrieval import Retrieval
from contrastive_jax.evaluation.section_retrieval import SectionRetrieval
from contrastive_jax.evaluation.sentence_similarity import SentenceSimilarity
from contrastive_jax.evaluation.verification import Verification
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
    "perturbed_retrieval": PerturbedRetrieval,
    "picture_choice": PictureChoice,
    "winoground": Winoground,
    "grouped_retrieval": GroupedRetrieval,
    "re_identification": ReIdentification,
    "conditional_retrieval": ConditionalRetrieval,
    "rank_variance": RankVariance,
    "verification": Verification,
    "length_bias": LengthBias,
    "section_retrieval": SectionRetrieval,
}

__all__ = ["KINDS", *sorted(kind.__name__ for kind in KINDS.values())]
