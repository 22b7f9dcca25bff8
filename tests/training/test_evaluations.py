"""Evaluators of a config: their sources, what is refused of them, and what a run of all of them gives."""

from pathlib import Path

import jax
import pytest

from contrastive_jax.configuration import build, complete, load
from contrastive_jax.errors import InputError
from contrastive_jax.training.evaluations import evaluate
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.report import shown

CONFIGS = Path(__file__).parents[2] / "configs"
TRAIN = dict(train="digits:train", train_limit=300)
DIGITS = {
    "knn": dict(kind="knn", branch="a.encoder", source="digits:held_out", pixels=True, k=5, **TRAIN),
    "linear": dict(kind="linear_probe", branch="a.encoder", strengths=(0.1,), **TRAIN),
    "few": dict(kind="few_shot", branch="a.encoder", episodes=20, queries=5),
    "geometry": dict(kind="geometry", rows="a", label="label"),
    "same_digit": dict(kind="retrieval", rows="a", columns="a", right=("label",), exclude_self=True, at=(1,)),
}


def experiment(source=None, **evaluators):
    config = load(f"{CONFIGS}/glyphs_faces.py:small", [], Config).unlock()
    config.evaluation = dict(evaluators=evaluators, **({"source": source} if source else {}))
    complete(config, Config)
    return Experiment(build(config, Config), jax.devices()[:1])


def test_probes_of_a_model_that_has_learned_nothing():
    """Digits, by an encoder of random weights: better than chance, and the pictures' figures beside it."""
    whole = experiment("digits:held_out", **DIGITS)
    whole.check_data()
    params = whole.graph.init(jax.random.key(0))
    batches = []
    found = evaluate(whole, whole.config.data.views, params, lambda: batches.append(None))
    assert {name.partition("/")[0] for name in found} == set(DIGITS)
    assert found["knn/pixels_l2"] > 0.85
    for name in ("knn/accuracy", "linear/accuracy", "few/accuracy", "same_digit/a_to_a/R@1"):
        assert 0.15 < found[name] < found["knn/pixels_l2"] + 0.05, name
    assert 1 <= found["geometry/effective_rank/a"] <= 32
    # The held-out digits by the encoder and by the branch, and the 300 of training: each once.
    assert len(batches) == 2 * -(-len(whole.evaluator_sources("few")[0]) // 512) + 1
    alone = evaluate(whole, whole.config.data.views, params, names=("few",))
    assert alone == {name: value for name, value in found.items() if name.startswith("few/")}


def test_evaluators_without_a_source_are_refused():
    knn = DIGITS["knn"]
    experiment(knn=knn)
    with pytest.raises(InputError, match=r"evaluators\.few\.source is None, and so is config\.evaluation"):
        experiment(few=DIGITS["few"])
    for settings, message in (
        (dict(branch="c"), r"config\.evaluation\.evaluators\.knn: branch 'c' is unknown"),
        (dict(branch="a.mlp"), r"evaluators\.knn: branch 'a' has no stage 'mlp'"),
    ):
        with pytest.raises(InputError, match=message):
            experiment(knn=knn | settings)
    for settings, message in (
        (dict(label="digit"), r"evaluators\.knn: digits:held_out has no field 'digit'"),
        (dict(train="digits:some"), r"config\.evaluation\.evaluators\.knn: source 'digits:some'"),
    ):
        with pytest.raises(InputError, match=message):
            experiment(knn=knn | settings).check_data()


def test_the_report_draws_what_says_how_good_a_model_is():
    """Not each language's figure, nor what has no best at 1."""
    names = ["loss", "search/nDCG@10", "search/bm25/MRR", "tatoeba/R@1", "tatoeba/R@1/deu", "sts/spearman",
             "knn/accuracy", "towers/uniformity/text", "linear/C"]  # fmt: skip
    assert shown(names) == [
        "search/nDCG@10",
        "search/bm25/MRR",
        "tatoeba/R@1",
        "sts/spearman",
        "knn/accuracy",
    ]
    assert len(shown(f"{language}/R@1" for language in range(99))) == 24
