"""A linear classifier on frozen embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.labelled import chosen, same_classes
from contrastive_jax.evaluation.libraries import library
from contrastive_jax.evaluation.opening import opened

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class LinearProbe:
    """Accuracy on the source of scikit-learn's logistic regression, fitted to `train`'s embeddings.

    branch: `name`, or `name.encoder` for what its encoder gives before any head. Each feature is brought to
    mean 0 and deviation 1 as in `train`. The regularisation C is the one of `strengths` with the highest
    accuracy on the share `held_out` of `train`, drawn by `seed` with the classes in proportion; the smaller
    of equal ones; the classifier is then fitted to all of `train`. label, train_limit: as for neighbours.
    iterations: of the solver, for each fit.

    Sources: Alain and Bengio 2016, arXiv 1610.01644; with L-BFGS and a sweep of C on held-out records,
    Radford et al. 2021, arXiv 2103.00020, A.3.
    """

    branch: str
    train: str
    label: str = "label"
    source: str | None = None
    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    held_out: float = 0.2
    train_limit: int | None = None
    seed: int = 0
    iterations: int = 200

    def __post_init__(self):
        if not self.strengths or min(self.strengths) <= 0:
            raise InputError(f"strengths={self.strengths}: give positive numbers")
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out={self.held_out}: give a share between 0 and 1")
        if self.iterations < 1 or (self.train_limit is not None and self.train_limit < 2):
            raise InputError(f"iterations={self.iterations}, train_limit={self.train_limit}: give more")

    @property
    def branches(self) -> tuple[str, ...]:
        return (self.branch,)

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.label,)

    @property
    def sources(self) -> tuple[str | None, ...]:
        return self.source, self.train

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        train = chosen(opened(self.train), self.label, self.train_limit, self.seed)
        test = same_classes(train, chosen(source, self.label))
        fitted, strength = self.fit(embed(self.branch, train.source, train.records), train.classes)
        right = fitted.predict(embed(self.branch, test.source, test.records)) == test.classes
        yield "accuracy", float(right.mean())
        yield (
            "balanced_accuracy",
            float(np.mean([right[test.classes == c].mean() for c in np.unique(test.classes)])),
        )
        yield "C", strength

    def fit(self, z: Float[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> tuple[Any, float]:
        """The classifier, which standardises by itself, and its C."""
        selection = library("sklearn.model_selection")
        try:
            fit, check = selection.train_test_split(
                np.arange(len(z)), test_size=self.held_out, random_state=self.seed, stratify=classes
            )
        except ValueError as error:
            raise InputError(f"held_out={self.held_out} of {len(z)} labelled records: {error}") from error
        strengths = sorted(self.strengths)
        accuracy = [self._fitted(c, z[fit], classes[fit]).score(z[check], classes[check]) for c in strengths]
        best = strengths[int(np.argmax(accuracy))]
        return self._fitted(best, z, classes), best

    def _fitted(self, strength: float, z: Float[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> Any:
        linear, pipeline = library("sklearn.linear_model"), library("sklearn.pipeline")
        scaling = library("sklearn.preprocessing").StandardScaler()
        model = pipeline.make_pipeline(
            scaling, linear.LogisticRegression(C=strength, max_iter=self.iterations, random_state=0)
        )
        with warnings.catch_warnings():  # a solver may stop at its last iteration
            warnings.simplefilter("ignore", library("sklearn.exceptions").ConvergenceWarning)
            return model.fit(z, classes)
