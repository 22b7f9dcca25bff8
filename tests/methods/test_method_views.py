"""Views of texts, as methods use them together."""

import numpy as np
import pytest
from method_run import method

from contrastive_jax.data.examples import Steps
from contrastive_jax.data.streams import Streams


@pytest.fixture(autouse=True)
def _data(data_folder, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_DATA", str(data_folder))


class Numbers:
    """A tokenizer of numbers from 1 up."""

    def own(self, text, length, keep=True):
        return np.array([int(word) for word in text.split()[:length]])

    def framed(self, own, length):
        return np.pad(own, (0, length - len(own)))


class OneRecord:
    """A source that has but one."""

    name = "one"

    def __getitem__(self, index):
        return {"passage": " ".join(map(str, range(1, 101)))}


def test_contriever_crops_a_text_twice_and_neither_crop_tells_of_the_other():
    views = {name: view.bind(Numbers()) for name, view in method("contriever").config.data.views.items()}

    def draw(step, rows):
        return np.zeros((400, 1), int)

    batch = Steps(OneRecord(), draw, views, {}, 0, 1, [slice(0, 400)], 1)[0]["views"]
    query, key = batch["query"], batch["key"]
    assert (query != key).any(1).all()
    lengths = [(crops > 0).sum(1) for crops in (query, key)]
    firsts = [crops[:, 0] for crops in (query, key)]
    for of_queries, of_keys in (lengths, firsts):
        assert min(of_queries.std(), of_keys.std()) > 5
        assert abs(np.corrcoef(of_queries, of_keys)[0, 1]) < 0.2
    for crops, length in zip((query, key), lengths):  # runs of 5 to 50 words, of which a tenth is left out
        words = crops.max(1) - crops[:, 0] + 1
        assert 40 < words.max() <= 50
        assert np.mean(length / words) == pytest.approx(0.9, abs=0.05)


def test_an_answer_of_the_inverse_cloze_task_lacks_its_question():
    run = method("passage_pairs", "ablation=ict")
    streams, found = Streams(0, "together task"), 0
    for index in range(0, len(run.source), 40):
        record = run.source[index]
        query, document = (run.config.data.views[name] for name in ("query", "document"))
        asked = query._string(record["asked"], "asked", streams.at(0, index), True)
        answer = document._string(record["answer"], "answer", streams.at(0, index), True)
        assert asked in record["sentences"]
        assert asked not in answer
        found += 1
    assert found > 50
