"""A device's sweep for each reduction, by the backend of its job: (carry, rows, found of the rows, columns,
found of the columns, kept) -> the same found afterwards, and what is kept; see `scan.sweep`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from contrastive_jax.similarity import scan, steps
from contrastive_jax.similarity.scores import Needs, Problem, add

if TYPE_CHECKING:
    from contrastive_jax.similarity.travel import Ring


class Job(NamedTuple):
    """What is fixed of a reduction on each device; travels: whether each group of columns does."""

    problem: Problem
    ring: Ring
    travels: tuple[bool, ...]
    backend: str = "scan"

    def by_steps(self, step: Callable) -> Callable:
        return partial(scan.sweep, self.problem.block, step)


def shifted_sums(job: Job, shared, shift, keeps: bool) -> Callable:
    if job.backend == "scan":
        return job.by_steps(steps.shifted_sums(job.problem, shared, shift, keeps))
    from contrastive_jax.similarity import pallas

    def terms(rows, columns, column_found):
        of_columns = column_found is not None
        return None, *pallas.shifted_sums(
            job.problem, shared, shift, rows[0], columns[0], of_columns=of_columns
        )

    return job.by_steps(_adding(terms))


def statistics_gradient(job: Job, needs: Needs, shared, shift) -> Callable:
    if job.backend == "scan" or shift is None:
        return job.by_steps(steps.statistics_gradient(job.problem, needs, shared, shift))
    from contrastive_jax.similarity import pallas

    def terms(rows, columns, column_found):
        return pallas.statistics_gradient(job.problem, needs, shared, shift, rows, columns)

    return job.by_steps(_adding(terms))


def total(job: Job, shared) -> Callable:
    if job.backend == "scan":
        return job.by_steps(steps.total(job.problem, shared))
    from contrastive_jax.similarity import pallas

    def terms(rows, columns, _):
        return pallas.total(job.problem, shared, rows[0], columns[0]), (), ()

    return job.by_steps(_adding(terms))


def total_with_gradient(job: Job, needs: Needs, shared) -> Callable:
    if job.backend == "scan":
        return job.by_steps(steps.total_with_gradient(job.problem, needs, shared))
    from contrastive_jax.similarity import pallas

    def terms(rows, columns, _):
        value, of_shared, *of_sides = pallas.total_with_gradient(
            job.problem, needs, shared, rows[0], columns[0]
        )
        return (value, of_shared), *of_sides

    return job.by_steps(_adding(terms))


def _adding(terms: Callable) -> Callable:
    """A step whose tile is as large as a kernel can sweep."""

    def step(carry, rows, row_found, columns, column_found, _):
        return *add((carry, row_found, column_found), tuple(terms(rows, columns, column_found))), None

    return step
