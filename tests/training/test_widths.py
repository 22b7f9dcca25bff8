"""What is compared has one width, and something to be told apart from: of every loss and every evaluator."""

import copy
import dataclasses

import pytest
from small import of_file

from contrastive_jax import evaluation, losses
from contrastive_jax.data.samplers import Identities
from contrastive_jax.errors import InputError
from contrastive_jax.training.checks import check_loss
from contrastive_jax.training.comparisons import check_batch_norms, check_evaluator_widths, check_negatives

PAIR = dict(rows="a", columns="b")
VIEWS = dict(views=("a", "b"))
# The branches that each compares, all of 16 numbers in the graph; `a.encoder` has more.
LOSSES = {
    "softmax": PAIR | dict(negatives=("target_a", "target_b")),
    "sigmoid": PAIR,
    "nt_xent": VIEWS,
    "supervised": VIEWS | dict(labels="label"),
    "one_to_k": VIEWS | dict(image="target_a"),
    "attraction_repulsion": VIEWS,
    "gte": dict(queries="a", documents="b", negatives="target_a"),
    "symile": dict(views=("a", "b", "target_a")),
    "momentum_contrast": dict(queries="a", keys="target_b", memory="keys"),
    "hard_contrastive": PAIR | dict(fraction=0.5),
    "simple_contrastive": PAIR,
    "alignment_uniformity": dict(a="a", b="b"),
    "cosine_regression": dict(predictions="a", targets="target_b"),
    "cross_correlation": dict(a="a", b="b"),
    "mixed_barlow": dict(a="a", b="b", mixed="m.projector"),
}
ROLES = ("rows", "columns", "negatives", "views", "image", "queries", "documents", "keys", "a", "b")
ROLES += ("mixed", "predictions", "targets", "examples", "prompts", "frames", "answers", "branch")
ROLES += ("gallery_branch", "given", "languages", "others")
ALONE = {"softmax", "gte", "momentum_contrast", "cosine_regression"}  # as they are wired above
ONE_BRANCH = {"sts", "knn", "linear_probe", "few_shot", "verification", "length_bias"}
QUERIES = dict(queries="a", documents="b")
CHOICE = dict(examples="a", prompts="b")
EVALUATORS = {
    "retrieval": PAIR | dict(right=("record",)),
    "perturbed_retrieval": PAIR | dict(right=("record",)),
    "zero_shot": CHOICE | dict(label="label"),
    "caption_choice": CHOICE,
    "picture_choice": CHOICE,
    "winoground": CHOICE,
    "geometry": PAIR,
    "beir": QUERIES | dict(folder="."),
    "section_retrieval": QUERIES,
    "pairs": dict(queries="a", answers="b"),
    "grouped_retrieval": dict(queries="a", frames="b"),
    "re_identification": dict(branch="a", gallery_branch="b"),
    "conditional_retrieval": dict(given=("a", "b"), answers="target_a"),
    "rank_variance": dict(languages=("a", "b"), others="target_a"),
}
WIDE = "a.encoder"


@pytest.fixture(scope="module")
def graph():
    graph = of_file("graph_config.py:mix").graph
    assert graph.width("a") == 16 != graph.width(WIDE)
    return graph


def altered(settings, roles):
    """The settings with one branch after the other in place of which stands one of another width."""
    for role in roles:
        names = settings.get(role)
        if isinstance(names, str):
            yield settings | {role: WIDE}
        for place in range(len(names)) if isinstance(names, tuple) else ():
            yield settings | {role: (*names[:place], WIDE, *names[place + 1 :])}


def cut_to_16(names):
    if isinstance(names, tuple):
        return tuple(map(cut_to_16, names))
    return f"{WIDE}@16" if names == WIDE else names


def test_every_loss_is_here():
    assert LOSSES.keys() | {"matryoshka"} == losses.KINDS.keys()


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_of_two_widths_is_refused_by_both(graph, kind):
    settings = LOSSES[kind]
    check_loss("config.losses.x", losses.KINDS[kind](**settings), graph)
    cases = list(altered(settings, ROLES))
    assert len(cases) >= 2
    for case in cases:
        if kind == "mixed_barlow" and case["mixed"] == WIDE:
            continue  # a branch that does not mix
        with pytest.raises(
            InputError, match=r"config.losses.x compares branch .*which has \d+: bring both"
        ) as e:
            check_loss("config.losses.x", losses.KINDS[kind](**case), graph)
        assert f"'{WIDE}'" in str(e.value)


def test_heads_for_training_alone_count_in_losses_and_in_no_evaluator(graph):
    narrow = dataclasses.replace(graph.heads["predictor"], features=8, train_only=True)
    graph = copy.copy(graph)
    graph.__dict__.pop("_widths", None)
    object.__setattr__(graph, "heads", {**graph.heads, "predictor": narrow})
    assert (graph.width("a"), graph.width("a", train=False), graph.width("a.predictor")) == (8, 16, 8)
    kind = evaluation.KINDS["retrieval"]
    check_evaluator_widths({"x": kind(rows="a", columns="a.projector", right=("record",))}, graph)
    with pytest.raises(InputError, match=r"compares branch 'a', which has 16 numbers, with 'a\.predictor'"):
        check_evaluator_widths({"x": kind(rows="a", columns="a.predictor", right=("record",))}, graph)


def test_memories_and_guides_are_as_wide_as_what_they_are_compared_with(graph):
    kind = losses.KINDS["softmax"]
    wide = dict(rows=WIDE, columns="b.encoder")
    check_loss("x", kind(**wide, guide=("a", "b")), graph)
    check_loss("x", kind(**PAIR, memory="keys", guide=(WIDE, "b.encoder")), graph)
    with pytest.raises(InputError, match=r"compares branch 'a.encoder'.*with 'target_b', which has 16"):
        check_loss("x", kind(**wide, memory="keys"), graph)
    with pytest.raises(InputError, match=r"compares branch 'a.encoder'.*with 'b', which has 16"):
        check_loss("x", kind(**PAIR, guide=(WIDE, "b")), graph)
    # What is cut to its first numbers may be of any width.
    check_loss("x", losses.KINDS["matryoshka"](dims=(4, 16), loss=kind(rows=WIDE, columns="b")), graph)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_batch_of_one_is_refused_where_it_teaches_nothing(kind):
    run = of_file("graph_config.py:queue=False", batch_size=2)
    for loss in (losses.KINDS[kind](**LOSSES[kind]), None):
        loss = loss or losses.KINDS["matryoshka"](dims=(4,), loss=losses.KINDS[kind](**LOSSES[kind]))
        config = dataclasses.replace(run.config, batch_size=1, losses={"x": loss})
        if kind in ALONE:
            check_negatives(config)
        else:
            with pytest.raises(
                InputError, match=r"config.batch_size=1 leaves config.losses.x nothing to tell"
            ):
                check_negatives(config)


@pytest.mark.parametrize("kind", ["supervised", "softmax"])
def test_batches_of_one_identity_are_refused_where_labels_are_identities(kind):
    run = of_file("graph_config.py:queue=False", batch_size=8)
    data = dataclasses.replace(run.config.data, sampler=Identities("label", members=8))
    settings = VIEWS | dict(labels="label") if kind == "supervised" else PAIR | dict(positives="label")
    made = losses.KINDS[kind](**settings)
    for loss in (made, losses.KINDS["matryoshka"](dims=(4,), loss=made)):
        config = dataclasses.replace(run.config, data=data, losses={"x": loss})
        with pytest.raises(InputError, match=r"members=8 makes batches of one label, .*batch_size=16"):
            check_negatives(config)
        check_negatives(dataclasses.replace(config, batch_size=16))
    others = {"x": losses.KINDS["nt_xent"](**VIEWS)}
    check_negatives(dataclasses.replace(run.config, data=data, losses=others))


def test_a_batch_of_one_is_refused_where_a_head_norms_by_the_batch():
    run = of_file("graph_config.py:queue=False,crops=2", batch_size=2)
    config = dataclasses.replace(run.config, batch_size=1)
    with pytest.raises(InputError, match=r"config.batch_size=1: config.heads.projector.norm=batch"):
        check_batch_norms(config, run.graph)
    check_batch_norms(run.config, run.graph)
    own = dict(branches={"k": run.graph.branches["k"]}, heads={"projector": run.graph.heads["projector"]})
    crops = dataclasses.replace(run.graph, **own, teachers={})  # two of a record are not alone
    check_batch_norms(config, crops)


def test_every_evaluator_is_here():
    assert EVALUATORS.keys() | ONE_BRANCH == evaluation.KINDS.keys()


@pytest.mark.parametrize("kind", EVALUATORS)
def test_an_evaluator_of_two_widths_is_refused_by_both(graph, kind):
    def check(settings):
        check_evaluator_widths({"x": evaluation.KINDS[kind](**settings)}, graph)

    settings = EVALUATORS[kind]
    check(settings)
    cases = list(altered(settings, ROLES))
    assert len(cases) >= 2
    for case in cases:
        with pytest.raises(
            InputError, match=r"config.evaluation.evaluators.x compares branch .*bring both"
        ) as e:
            check(case)
        assert f"'{WIDE}'" in str(e.value)
        cut = {role: cut_to_16(case[role]) if role in ROLES else case[role] for role in case}
        check(cut)
