"""What evaluators take for a label."""

import numpy as np
import pytest

from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import labels, numbered, there


class Column:
    name = "column"

    def __init__(self, values):
        self._values = values

    def column(self, name):
        return self._values


@pytest.mark.parametrize("absent", [None, "", float("nan"), np.float32("nan")])
def test_an_absent_label_is_named(absent):
    values = [1.0, absent, 2.0]
    assert there(values).tolist() == [True, False, True]
    with pytest.raises(InputError, match=r"column, record 1: it has no 'y'; \?keep=y leaves such"):
        labels(Column(values), "y")


def test_an_array_with_an_absent_label_is_named_too():
    """As pandas writes a column of classes in which one is missing."""
    with pytest.raises(InputError, match="record 1: it has no 'y'"):
        labels(Column(np.array([1.0, np.nan, 2.0])), "y")
    assert numbered(labels(Column(np.array([1.0, 3.0, 1.0])), "y"))[1].tolist() == [0, 1, 0]
