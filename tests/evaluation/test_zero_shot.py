import numpy as np
import pytest
from known_embeddings import KnownEmbeddings

from contrastive_jax.data.views import Glyph, Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import ZeroShot
from contrastive_jax.evaluation.embedding import Listed

DIRECTIONS = {"Greek": [1.0, 0], "Latin": [0, 1.0]}
SCRIPTS = ["Latin", "Greek", "Common", "Latin", "Runic", "Latin", "Greek", "Common"]
SHOWN = [[0, 1], [1, 0], [1, 0], [1, 0.1], [1, 0], [0.1, 1], [0.1, 1], [1, 0]]
SOURCE = Listed("made up", [{"z": z, "script": script} for z, script in zip(SHOWN, SCRIPTS)])
SETTINGS = dict(examples="image", prompts="text", label="script", ignore=("Common",), at_least=2)


def embedder(prompt=lambda text: DIRECTIONS[text.split()[1]], devices=1, field="text"):
    views = {"image": Glyph(), "text": Text(field=field)}
    functions = {"image": lambda r: np.array(r["z"]), "text": lambda r: np.array(prompt(r[field]))}
    return KnownEmbeddings(views, functions, devices)


@pytest.mark.parametrize("devices", [1, 8])
def test_accuracy_by_hand(devices):
    """Left are three Latin, of which two are right, and two Greek, of which one is."""
    found = dict(
        ZeroShot(**SETTINGS, templates=("a {}", "the {} letter")).run(embedder(devices=devices), SOURCE)
    )
    assert found == {
        "accuracy": pytest.approx(3 / 5),
        "balanced_accuracy": pytest.approx((2 / 3 + 1 / 2) / 2),
        "majority": pytest.approx(3 / 5),
        "classes": 2,
    }


def test_a_class_is_the_direction_of_the_mean_of_its_prompts():
    """One Greek prompt alone would take the last example; the mean of both does not."""
    prompts = {"a Greek": [0.0, 1.0], "b Greek": [3.0, 0.0], "a Latin": [0.0, 2.0], "b Latin": [0.0, 2.0]}
    found = dict(ZeroShot(**SETTINGS, templates=("a {}", "b {}")).run(embedder(prompts.get), SOURCE))
    assert found["accuracy"] == pytest.approx(3 / 5)


def test_every_prompt_counts_alike_however_long_its_embedding():
    prompts = {"a Greek": [9.0, 0.0], "b Greek": [0.0, 1.0], "a Latin": [0.0, 3.0], "b Latin": [0.0, 1.0]}
    found = dict(ZeroShot(**SETTINGS, templates=("a {}", "b {}")).run(embedder(prompts.get), SOURCE))
    assert found["accuracy"] == pytest.approx(3 / 5)  # of the longer Greek prompt alone, other ones
    lengthy = {name: np.multiply(5, z) for name, z in prompts.items()}
    assert dict(ZeroShot(**SETTINGS, templates=("a {}", "b {}")).run(embedder(lengthy.get), SOURCE)) == found


def test_a_record_without_a_label_is_no_class_of_its_own():
    records = [record | {"script": script} for record, script in zip(SOURCE.records, ["", *SCRIPTS[1:]])]
    source = Listed("made up", records)
    with pytest.raises(InputError, match="made up, record 0: it has no 'script'"):
        dict(ZeroShot(**SETTINGS, templates=("a {}",)).run(embedder(), source))
    ignoring = ZeroShot(**SETTINGS | {"ignore": ("Common", "")}, templates=("a {}",))
    assert dict(ignoring.run(embedder(), source))["classes"] == 2


def test_prompts_stand_in_the_field_that_their_view_reads():
    evaluator = ZeroShot(**SETTINGS, templates=("a {} of {{brackets}}",))
    assert dict(evaluator.run(embedder(field="caption"), SOURCE))["accuracy"] == pytest.approx(3 / 5)


def test_prompts_call_a_class_by_a_field_of_its_own():
    """Numbers for labels, and names that are a text or a list of which the first is taken."""
    words = {"cat": [1.0, 0], "dog": [0, 1.0]}
    embed = embedder(lambda text: words[text.removeprefix("a ")])
    for names in (("cat", "dog"), (["cat", "puss"], ["dog"])):
        source = Listed(
            "made up", [{"z": np.eye(2)[i % 2], "label": i % 2, "word": names[i % 2]} for i in range(6)]
        )
        evaluator = ZeroShot("image", "text", "label", templates=("a {}",), names="word", ignore=("7",))
        assert dict(evaluator.run(embed, source))["accuracy"] == 1.0
        assert evaluator.fields == ("label", "word")


def test_small_and_ignored_classes_come_in_when_they_are_asked_for():
    everywhere = lambda text: DIRECTIONS.get(text, [0.5, -1])  # noqa: E731
    evaluator = ZeroShot(examples="image", prompts="text", label="script")
    found = dict(evaluator.run(embedder(everywhere), SOURCE))
    assert found["classes"] == 4
    assert found["majority"] == pytest.approx(3 / 8)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match="made up has 1 classes of script with 3 records"):
        dict(ZeroShot(**SETTINGS | {"at_least": 3}).run(embedder(), SOURCE))
    with pytest.raises(InputError, match="no field 'scrpt'"):
        dict(ZeroShot(**SETTINGS | {"label": "scrpt"}).run(embedder(), SOURCE))
    for templates in ((), ("letter",)):
        with pytest.raises(InputError, match="templates="):
            ZeroShot(**SETTINGS, templates=templates)
