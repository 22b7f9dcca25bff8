import json

import bm25s
import numpy as np
import pytest
import pytrec_eval
from known_embeddings import KnownEmbeddings, hashed

from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import Beir
from contrastive_jax.evaluation.collection import judged, read_qrels, read_texts
from contrastive_jax.evaluation.rankings import Ranking, without_identical

EMBED = KnownEmbeddings({"text": Text()}, {"text": lambda record: hashed(record["text"])})
PLANES = ["wings of a plane", "a wing in the wind", "the weather", "", "jet engine noise"]


def write(folder, corpus, queries, qrels, split="test"):
    for name, records in (("corpus", corpus), ("queries", queries)):
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "qrels").mkdir(exist_ok=True)
    lines = [f"{q}\t{d}\t{grade}\n" for q, d, grade in qrels]
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return str(folder)


@pytest.fixture
def planes(tmp_path):
    corpus = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(PLANES)]
    queries = [
        {"_id": "q0", "text": "wing"},
        {"_id": "q1", "text": "noise"},
        {"_id": "q2", "text": "unjudged"},
    ]
    return write(
        tmp_path, corpus, queries, [("q0", "d0", 1), ("q0", "d1", 2), ("q1", "d4", 1), ("q1", "d2", 0)]
    )


@pytest.mark.parametrize(("ignored", "right"), [(True, 1), (False, 0)])
def test_a_query_that_is_a_document_does_not_find_itself(tmp_path, ignored, right):
    """As in ArguAna: the answer to a text is the second nearest, after the text itself."""
    words = ["red", "blue", "green", "again"]
    corpus = [{"_id": word, "text": word} for word in words[:3]]
    corpus += [{"_id": f"to {word}", "text": f"{word} again"} for word in words[:3]]
    folder = write(tmp_path, corpus, corpus[:3], [(word, f"to {word}", 1) for word in words[:3]])
    directions = {each["text"]: np.isin(words, each["text"].split()) for each in corpus}
    embed = KnownEmbeddings(
        {"text": Text()},
        {"text": lambda record: directions[record["text"]] / np.sum(directions[record["text"]]) ** 0.5},
    )
    evaluator = Beir(
        "text",
        "text",
        folder,
        measures=("R@1",),
        depth=1,
        fusion="reciprocal_rank",
        ignore_identical_ids=ignored,
    )
    assert dict(evaluator.run(embed)) == dict.fromkeys(("R@1", "bm25/R@1", "fused_with_bm25/R@1"), right)


@pytest.mark.parametrize(("text", "told"), [("a wing", 0), ("of something else", 1)])
def test_equal_ids_of_other_texts_are_told_of(tmp_path, caplog, text, told):
    """Queries and documents numbered apart; a document that says more than the query is the query."""
    corpus = [{"_id": "1", "text": f"{text} of a bird"}, {"_id": "2", "text": "a wing"}]
    write(tmp_path, corpus, [{"_id": "1", "text": "a wing"}], [("1", "2", 1)])
    for ignored in (True, False):
        caplog.clear()
        list(Beir("text", "text", str(tmp_path), baselines=(), ignore_identical_ids=ignored).run(EMBED))
        said = [r for r in caplog.records if "set ignore_identical_ids=False" in r.getMessage()]
        assert len(said) == (told if ignored else 0)


def test_own_answers_are_left_out_and_the_others_move_up():
    ranking = Ranking(np.array([[1, 0, 2], [0, 2, -1]]), np.array([[3.0, 2.0, 1.0], [2.0, 1.0, -np.inf]]))
    found = without_identical(ranking, ["a", None], ["a", "b", "c"])
    assert found.answers.tolist() == [[1, 2, -1], [0, 2, -1]]
    assert found.scores.tolist() == [[3, 1, -np.inf], [2, 1, -np.inf]]


def test_an_embedding_is_measured_beside_bm25_and_fused_with_it(planes, tmp_path):
    """The nearest by hashes, ranked here by a sort and measured by trec_eval's binding."""
    run_file = tmp_path / "runs" / "ours.txt"
    evaluator = Beir(
        "text",
        "text",
        planes,
        measures=("nDCG@10", "MRR@10"),
        fusion="min_max",
        weight=0.0,
        run_file=str(run_file),
    )
    found = dict(evaluator.run(EMBED))
    filled = [i for i, text in enumerate(PLANES) if text]
    run = {
        q: {f"d{i}": float(hashed(text) @ hashed(PLANES[i])) for i in filled}
        for q, text in (("q0", "wing"), ("q1", "noise"))
    }
    qrels = read_qrels(f"{planes}/qrels/test.tsv")
    expected = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
    assert found["nDCG@10"] == np.mean([values["ndcg_cut_10"] for values in expected.values()])
    assert found["bm25/MRR@10"] == 1.0
    assert found["bm25/nDCG@10"] < 1.0  # "wings" is another word to BM25
    assert found["fused_with_bm25/MRR@10"] == 1.0  # of weight 0 for the embedding
    written = pytrec_eval.parse_run(run_file.read_text().splitlines())
    assert {q: list(answers) for q, answers in written.items()} == {
        q: sorted(answers, key=answers.get, reverse=True) for q, answers in run.items()
    }


@pytest.mark.parametrize(("name", "most"), [("cranfield", 0.33), ("cacm", 0.34)])
def test_real_collections_measure_as_the_libraries_do(data_folder, tmp_path, name, most):
    """The run file, measured by the binding alone, gives our figures exactly; BM25 is the library's own."""
    folder, run_file = data_folder / "retrieval" / name, tmp_path / "run.txt"
    measures = ("nDCG@10", "R@10", "R@100", "MAP")
    found = dict(Beir("text", "text", str(folder), measures=measures, run_file=str(run_file)).run(EMBED))
    with open(folder / "qrels" / "test.tsv") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    qrels = {}
    for query, document, grade in rows:
        qrels.setdefault(query, {})[document] = int(grade)
    keys = dict(zip(measures, ("ndcg_cut_10", "recall_10", "recall_100", "map")))
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.10", "recall.100", "map"})
    with open(run_file) as file:
        expected = evaluator.evaluate(pytrec_eval.parse_run(file))
    for measure, key in keys.items():
        assert found[measure] == sum(values[key] for values in expected.values()) / len(qrels)
    own = evaluator.evaluate(bm25_run(folder, list(qrels)))
    ndcg = np.mean([values["ndcg_cut_10"] for values in own.values()])
    assert found["bm25/nDCG@10"] == pytest.approx(ndcg, abs=0.001)
    assert 0.3 < found["bm25/nDCG@10"] < most


def bm25_run(folder, queries):
    """The library's own run, of the files themselves."""
    with open(folder / "corpus.jsonl") as file:
        corpus = [json.loads(line) for line in file]
    with open(folder / "queries.jsonl") as file:
        texts = {record["_id"]: record["text"] for record in map(json.loads, file)}
    index = bm25s.BM25(corpus=[record["_id"] for record in corpus])
    words = [f"{record['title']} {record['text']}" for record in corpus]
    index.index(bm25s.tokenize(words, show_progress=False), show_progress=False)
    asked = bm25s.tokenize([texts[query] for query in queries], show_progress=False)
    found, scores = index.retrieve(asked, k=1000, show_progress=False)
    return {q: dict(zip(map(str, ids), s.tolist())) for q, ids, s in zip(queries, found, scores)}


def test_every_pair_of_languages_and_their_means(tmp_path):
    texts = {"en": ["one", "two", "three"], "de": ["eins", "zwei", "drei"], "ru": ["раз", "два", "три"]}
    for folder in ("corpus", "queries"):
        (tmp_path / folder).mkdir()
        for language, words in texts.items():
            lines = [json.dumps({"_id": str(i), "text": word}) + "\n" for i, word in enumerate(words)]
            (tmp_path / folder / f"{language}.jsonl").write_text("".join(lines))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("".join(f"{i}\t{i}\t1\n" for i in range(3)))
    directions = {word: np.eye(3)[i] for words in texts.values() for i, word in enumerate(words)}
    directions["раз"] = directions["два"]  # wrong for one of the three
    embed = KnownEmbeddings({"text": Text()}, {"text": lambda record: directions[record["text"]]})
    evaluator = Beir(
        "text",
        "text",
        str(tmp_path),
        document_text=("text",),
        query_languages=("en", "ru"),
        corpus_languages=("en", "de"),
        measures=("R@1",),
        baselines=("tfidf_characters",),
    )
    found = dict(evaluator.run(embed))
    dense = {name: value for name, value in found.items() if "tfidf" not in name}
    assert dense == {
        "en_to_en/R@1": 1.0,
        "en_to_de/R@1": 1.0,
        "ru_to_en/R@1": pytest.approx(2 / 3),
        "ru_to_de/R@1": pytest.approx(2 / 3),
        "monolingual/R@1": 1.0,
        "cross_lingual/R@1": pytest.approx(7 / 9),
        "cross_script/R@1": pytest.approx(2 / 3),
    }
    assert found["en_to_en/tfidf_characters/R@1"] == 1.0
    assert found["cross_script/tfidf_characters/R@1"] == 0.0


def test_reading(planes, tmp_path):
    qrels = read_qrels(f"{planes}/qrels/test.tsv")
    assert qrels == {"q0": {"d0": 1, "d1": 2}, "q1": {"d4": 1, "d2": 0}}
    assert judged(read_texts(f"{planes}/queries.jsonl", ("text",)), qrels, "q").ids == ["q0", "q1"]
    nested = tmp_path / "nested.jsonl"
    nested.write_text(
        '{"_id": 7, "title": " a ", "metadata": {"code": "b\\n"}}\n\n{"_id": "8", "title": null}\n'
    )
    assert read_texts(str(nested), ("title", "metadata.code")) == (["7", "8"], ["a b", ""])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", '{"_id": "d0", "text": "a"}\nnot json\n', "corpus.jsonl: line 2: not JSON"),
        ("corpus.jsonl", '{"text": "a"}\n', "corpus.jsonl, record 1: has no _id"),
        ("corpus.jsonl", '{"_id": "a", "text": "a"}\n' * 2, "the _id 'a' occurs more than once"),
        ("corpus.jsonl", '{"_id": "a", "text": 3}\n', "'text' is 3, not a text"),
        ("corpus.jsonl", '{"_id": "a", "body": "a"}\n', "no record has any of the fields title, text"),
        ("corpus.jsonl", '{"_id": "a", "text": ""}\n', "every document is empty"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "holds no judgement"),
        ("qrels/test.tsv", "q0\td0\t1\nq0 d1 1\n", "test.tsv, line 2: not query, document"),
        ("qrels/test.tsv", "q9\td0\t1\n", "judges the query 'q9', which is not among the queries"),
    ],
)  # fmt: skip
def test_a_spoilt_collection_is_refused_by_file_and_line(planes, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        dict(Beir("text", "text", planes).run(EMBED))


def test_wrong_settings_are_refused(planes):
    for settings, message in (
        (dict(measures=("nDCG",)), "measures='nDCG'"),
        (dict(baselines=("bm26",)), "did you mean bm25"),
        (dict(fusion="sum"), "fusion='sum'"),
        (dict(weight=2.0), "weight=2.0"),
        (dict(depth=0), "depth=0"),
        (dict(depth=5, measures=("R@10",)), "'R@10' looks deeper than the depth=5"),
        (dict(baselines=(), fusion="min_max"), "fusion='min_max': with what"),
        (dict(query_languages=("en",)), "give both, or neither"),
    ):
        with pytest.raises(InputError, match=message):
            Beir("text", "text", planes, **settings)
    with pytest.raises(InputError, match=r"dev\.tsv"):
        dict(Beir("text", "text", planes, split="dev").run(EMBED))
