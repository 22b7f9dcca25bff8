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
    """What is fixed of a reduction on each device.

    travels: whether each group of columns does. kernel_block: rows and columns that a kernel sweeps at a
    time, None where there are no kernels.
    """

    problem: Problem
    ring: Ring
    travels: tuple[bool, ...]
    kernel_block: tuple[int, int] | None = None

    def by_steps(self, step: Callable) -> Callable:
        return partial(scan.sweep, self.problem.block, step)

    def by_kernels(self, terms: Callable) -> Callable:
        """Steps whose tiles are as large as a kernel can sweep; terms: what such a tile adds."""

        def step(carry, rows, row_found, columns, column_found, _):
            found = carry, row_found, column_found
            return *add(found, tuple(terms(rows, columns, column_found))), None

        return partial(scan.sweep, self.kernel_block, step)


def shifted_sums(job: Job, shared, shift, keeps: bool) -> Callable:
    if job.kernel_block is None:
        return job.by_steps(steps.shifted_sums(job.problem, shared, shift, keeps))
    from contrastive_jax.similarity import pallas

    def terms(rows, columns, column_found):
        of_columns = column_found is not None
        return None, *pallas.shifted_sums(
            job.problem, shared, shift, rows[0], columns[0], of_columns=of_columns
        )

    return job.by_kernels(terms)


def statistics_gradient(job: Job, needs: Needs, shared, shift) -> Callable:
    if job.kernel_block is None or shift is None:
        return job.by_steps(steps.statistics_gradient(job.problem, needs, shared, shift))
    from contrastive_jax.similarity import pallas

    def terms(rows, columns, column_found):
        return pallas.statistics_gradient(job.problem, needs, shared, shift, rows, columns)

    return job.by_kernels(terms)


def total(job: Job, shared) -> Callable:
    if job.kernel_block is None:
        return job.by_steps(steps.total(job.problem, shared))
    from contrastive_jax.similarity import pallas

    def terms(rows, columns, _):
        return pallas.total(job.problem, shared, rows[0], columns[0]), (), ()

    return job.by_kernels(terms)


def total_with_gradient(job: Job, needs: Needs, shared) -> Callable:
    if job.kernel_block is None:
        return job.by_steps(steps.total_with_gradient(job.problem, needs, shared))
    from contrastive_jax.similarity import pallas

    def terms(rows, columns, _):
        value, of_shared, *of_sides = pallas.total_with_gradient(
            job.problem, needs, shared, rows[0], columns[0]
        )
        return (value, of_shared), *of_sides

    return job.by_kernels(terms)
