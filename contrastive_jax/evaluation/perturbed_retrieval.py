"""Retrieval by texts whose words stand in another order: what a model loses that reads them as a bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contrastive_jax.data.records import Source
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.retrieval import Retrieval
from contrastive_jax.evaluation.word_order import Perturbation, Reordered, check_perturbations

if TYPE_CHECKING:
    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class PerturbedRetrieval(Retrieval):
    """Recall at k as `Retrieval` has it, and the same with the words of all texts in another order
    (`trigrams/text_to_image/R@1`): where that is as high, the task does not ask for the order.

    perturbations, kinds, order_seed: as for the choice of captions, see `CaptionChoice`; a text that has no
    such order stays as it is.

    Source: Yuksekgonul et al. 2023, arXiv 2210.01936, section 3.
    """

    perturbations: tuple[str, ...] = ("words", "within_trigrams", "trigrams")
    kinds: tuple[tuple[str, ...], ...] = ()
    order_seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        check_perturbations(self.perturbations, self.kinds)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        views = [embed.view(branch) for branch in self.branches]
        fields = {view.field for view in views if isinstance(view, Text)}
        if not fields:
            raise InputError(f"perturbations: neither {self.rows!r} nor {self.columns!r} reads texts")
        yield from super().run(embed, source)
        for how in self.perturbations:
            changed = source
            for field in sorted(fields):
                changed = Reordered(changed, field, Perturbation(how, self.kinds, self.order_seed))
            yield from ((f"{how}/{name}", value) for name, value in super().run(embed, changed))
