"""What a run refuses of the fields that its losses and memories read, before anything is trained."""

import json

import jax
import pytest
from ml_collections import ConfigDict

from contrastive_jax.configuration import build, complete
from contrastive_jax.errors import InputError
from contrastive_jax.training.experiment import Config, Experiment


def experiment(path, values, queue=None, **loss):
    """Of texts with a field `label`, which a loss reads; queue: what a memory is told by."""
    path.write_text(
        "".join(json.dumps({"text": f"text {n}", "label": v}) + "\n" for n, v in enumerate(values))
    )
    config = ConfigDict(dict(steps=1, batch_size=2, optimizer=dict(kind="adamw", learning_rate=1e-3)))
    config.data = dict(
        source=f"jsonl:{path}",
        sampler=dict(kind="permutation"),
        tokenizer=dict(kind="bpe", vocabulary=300),
        views={"a": dict(kind="text", length=8)},
    )
    tower = dict(vocabulary=300, length=8, depth=1, size="micro", width=8, pooling="mean")
    config.encoders = dict(t=dict(kind="text_transformer", **tower))
    config.branches = dict(a=dict(view="a", encoder="t"))
    config.losses = dict(near=dict(kind="softmax", rows="a", columns="a", positives="label", **loss))
    if queue:
        config.memory = dict(q=dict(kind="queue", branch="a", size=4, number=2, labels=queue))
        config.losses.near.memory = "q"
    complete(config, Config)
    return Experiment(build(config, Config), jax.devices()[:1])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2], ""),
        (["1", "x"], ""),
        ([0.83, 1.0], "record 0: batch field 'label' is 0.83, not a whole number"),
        ([1.0, 2.0, 3.7], "record 2: batch field 'label' is 3.7, not a whole number"),
        (["1", "2", "1e-3"], "record 2: batch field 'label' is '1e-3', not a whole number"),
        ([["a"], ["b"]], "record 0: batch field 'label' is ['a'], a list"),
    ],
)
def test_a_field_that_is_no_label_is_named_with_its_key(tmp_path, values, said):
    run = experiment(tmp_path / "x.jsonl", values)
    if not said:
        run.check_data()
        assert run.numberings["label"].ids == (values[-1] == "x")
        return
    with pytest.raises(InputError) as error:
        run.check_data()
    assert str(error.value).startswith("config.losses.near: jsonl:")
    assert said in str(error.value)


@pytest.mark.parametrize("values", [["0", "1"], [0, 1], [0.0, 1.0]])
def test_queues_are_told_by_whole_numbers(tmp_path, values):
    experiment(tmp_path / "x.jsonl", values, "label", memory_labels="label").check_data()


@pytest.mark.parametrize("values", [["0", "deu"], ["0", str(2**40)], ["0", None, "1.0x"]])
def test_queues_that_texts_would_tell_are_refused(tmp_path, values):
    """They would be numbered by ids that are no queue's, and nothing would be kept."""
    with pytest.raises(InputError, match=r"config\.memory\.q\.labels=label: .* queues are numbered"):
        experiment(tmp_path / "x.jsonl", values, "label", memory_labels="label").check_data()
    with pytest.raises(
        InputError, match=r"config\.losses\.near\.memory_labels=label: .* queues are numbered"
    ):
        experiment(tmp_path / "x.jsonl", values, "record", memory_labels="label").check_data()


def test_members_that_are_not_drawn_are_named(tmp_path):
    with pytest.raises(InputError, match="batch field 'label:1': no member 1, for the sampler draws 1 a row"):
        experiment(tmp_path / "x.jsonl", [1, 2], ignore="label:1").check_data()
