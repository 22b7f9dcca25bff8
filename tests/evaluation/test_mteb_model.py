"""mteb's own tasks on a model of ours and local data. It needs mteb, which brings torch:

python -m venv mteb-environment
mteb-environment/bin/pip install mteb pytest pytest-xdist hypothesis -e ".[eval]"
mteb-environment/bin/python -m pytest -n 0 tests/evaluation/test_mteb_model.py
"""

import jax
import pyarrow.parquet as parquet
import pytest
from known_embeddings import KnownEmbeddings, hashed

from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import Beir, SentenceSimilarity
from contrastive_jax.evaluation.collection import judged, read_qrels, read_texts
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.mteb_model import MTEBModel

EMBED = KnownEmbeddings(
    {"query": Text(), "document": Text()},
    {"query": lambda r: hashed(r["text"][:40]), "document": lambda r: hashed(r["text"].strip()[:40])},
)
ABOUT = dict(
    description="A local set.",
    dataset={"path": "local", "revision": "local"},
    eval_splits=["test"],
    eval_langs=["eng-Latn"],
    modalities=["text"],
    category="t2t",
)


@pytest.fixture(scope="module")
def mteb():
    return pytest.importorskip("mteb", reason="mteb is not installed: see the head of this file")


def evaluated(mteb, model, task):
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    return result.task_results[0].scores["test"][0]


def sts_task(records):
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.sts import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    class LocalSTS(AbsTaskSTS):
        metadata = TaskMetadata(type="STS", name="LocalSTS", main_score="cosine_spearman", **ABOUT)

        def load_data(self, **keywords):
            self.dataset, self.data_loaded = DatasetDict({"test": Dataset.from_list(records)}), True

    return LocalSTS()


def retrieval_task(queries, documents, qrels):
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata

    class LocalRetrieval(AbsTaskRetrieval):
        metadata = TaskMetadata(type="Retrieval", name="LocalRetrieval", main_score="ndcg_at_10", **ABOUT)

        def load_data(self, **keywords):
            split = RetrievalSplitData(
                queries=Dataset.from_list([{"id": i, "text": text} for i, text in zip(*queries)]),
                corpus=Dataset.from_list(
                    [{"id": i, "title": "", "text": text} for i, text in zip(*documents) if text]
                ),
                relevant_docs=qrels,
                top_ranked=None,
            )
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    return LocalRetrieval()


def test_sentence_similarity_is_ours(mteb, data_folder):
    records = parquet.read_table(data_folder / "sts" / "stsb_en" / "test.parquet").to_pylist()
    found = evaluated(mteb, MTEBModel(EMBED, "query"), sts_task(records))
    ours = dict(SentenceSimilarity("query").run(EMBED, Listed("stsb", records)))
    assert found["cosine_spearman"] == pytest.approx(ours["spearman"], abs=1e-4)
    assert found["spearman"] == pytest.approx(ours["spearman"], abs=1e-4)
    assert found["cosine_pearson"] == pytest.approx(ours["pearson"], abs=1e-4)


def test_retrieval_is_ours(mteb, data_folder):
    """Queries go through one branch and documents through the other."""
    folder = data_folder / "retrieval" / "cranfield"
    qrels = read_qrels(f"{folder}/qrels/test.tsv")
    queries = judged(read_texts(f"{folder}/queries.jsonl", ("text",)), qrels, "queries")
    documents = read_texts(f"{folder}/corpus.jsonl", ("title", "text"))
    model = MTEBModel(EMBED, "query", documents="document")
    found = evaluated(mteb, model, retrieval_task(queries, documents, qrels))
    measures = {"nDCG@10": "ndcg_at_10", "R@100": "recall_at_100", "MAP@100": "map_at_100"}
    settings = dict(measures=tuple(measures), baselines=())
    ours = dict(Beir("query", "document", str(folder), **settings).run(EMBED))
    for name, theirs in measures.items():
        assert found[theirs] == pytest.approx(ours[name], abs=1e-4), name
    assert ours["nDCG@10"] > 0


def test_a_trained_model(mteb, data_folder, tmp_path):
    """From a work directory to mteb's figure, with ours of the same checkpoint beside it."""
    from pathlib import Path

    from contrastive_jax import cli
    from contrastive_jax.training.trained import open_trained

    config = Path(__file__).parents[2] / "configs" / "glyphs.py"
    train = ["train", "--config", f"{config}:small", "--config.steps=4"]
    assert cli.main([*train, "--workdir", str(tmp_path / "run")]) == 0
    embed = open_trained(tmp_path / "run").embedder()
    records = parquet.read_table(data_folder / "sts" / "stsb_en" / "test.parquet").to_pylist()[:300]
    found = evaluated(mteb, MTEBModel(embed, "text"), sts_task(records))
    with jax.set_mesh(embed.mesh):
        ours = dict(SentenceSimilarity("text").run(embed, Listed("stsb", records)))
    assert found["cosine_spearman"] == pytest.approx(ours["spearman"], abs=1e-4)


def test_pictures_are_refused(mteb):
    with pytest.raises(InputError, match="mteb gives image and no text"):
        MTEBModel(EMBED, "query").encode([{"image": [None]}])
    both = MTEBModel(EMBED, "query").similarity(hashed("a"), [hashed("a"), -hashed("a")])
    assert both.tolist() == [[pytest.approx(1), pytest.approx(-1)]]


def test_without_mteb_it_says_what_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mteb", None)
    monkeypatch.setitem(sys.modules, "mteb.models.model_meta", None)
    with pytest.raises(InputError, match="this evaluator needs mteb"):
        MTEBModel(EMBED, "query")
