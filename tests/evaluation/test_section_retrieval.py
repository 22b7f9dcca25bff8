import numpy as np
import pytest
from known_embeddings import KnownEmbeddings, hashed

from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import SectionRetrieval
from contrastive_jax.evaluation.embedding import Listed


def embedder(read=hashed):
    views = {"query": Text(field="question"), "document": Text(field="page")}
    return KnownEmbeddings(
        views, {"query": lambda r: read(r["question"]), "document": lambda r: read(r["page"])}
    )


def page(number, lengths=(4, 4, 4)):
    """Sections whose words tell the page and the section."""
    return {
        "title": f"title{number}",
        "sections": [
            {"heading": "h", "paragraphs": [f"p{number}s{s}w{w} p{number}" for w in range(length // 2)]}
            for s, length in enumerate(lengths)
        ],
    }


def test_a_section_is_no_part_of_its_document():
    """Drawn among the long ones; every page with two of them, once a round; cut to so many words."""
    pages = [page(0), page(1, (4, 4, 2)), page(2, (4, 2, 2)), {"title": "empty", "sections": None}]
    evaluator = SectionRetrieval("query", "document", least=4, rounds=6)
    records = evaluator.cut(Listed("pages", pages)).records
    assert [record["round"] for record in records] == np.repeat(range(6), 2).tolist()
    drawn = set()
    for record in records:
        own = {word for word in record["query"].split() if "s" in word}
        assert not own & set(record["document"].split())
        assert record["document"].startswith("title")
        number, section = record["query"][1], record["query"][3]
        assert len(record["document"].split()) == 1 + (8 if number == "0" else 6)
        drawn.add((number, section))
    assert drawn == {("0", "0"), ("0", "1"), ("0", "2"), ("1", "0"), ("1", "1")}
    short = SectionRetrieval("query", "document", least=4, query_words=3, document_words=5, title=None)
    (first, *_) = short.cut(Listed("pages", pages)).records
    assert [len(first[name].split()) for name in ("query", "document")] == [3, 5]
    assert "title" not in first["document"]
    assert short.fields == ("sections",)


def test_figures_are_those_of_the_right_pages():
    """An embedder that reads which page it is finds all, as BM25 does; one that reads nothing, by chance."""
    source = Listed("pages", [page(number) for number in range(30)])
    evaluator = SectionRetrieval("query", "document", least=4, rounds=3)
    seeing = embedder(lambda text: hashed(next(w for w in text.split() if w[0] == "p" and "s" not in w)))
    found = dict(evaluator.run(seeing, source))
    assert found["R@1"] == found["MRR"] == found["bm25/R@1"] == 1.0
    assert found["pool"] == 30
    blind = dict(evaluator.run(embedder(), source))
    assert blind["R@1"] < 0.15
    assert blind["R@10"] == pytest.approx(1 / 3, abs=0.2)
    assert blind["bm25/R@1"] == 1.0
    assert dict(evaluator.run(embedder(), source)) == blind


def test_wrong_settings_are_refused():
    for settings, message in (
        (dict(least=0), "least=0"),
        (dict(query_words=0), "query_words=0"),
        (dict(rounds=0), "rounds=0"),
        (dict(at=()), "at="),
        (dict(baselines=("bm26",)), "baselines='bm26'"),
    ):
        with pytest.raises(InputError, match=message):
            SectionRetrieval("query", "document", **settings)
    with pytest.raises(InputError, match="1 pages have two sections of 4 words"):
        SectionRetrieval("query", "document", least=4).cut(Listed("one", [page(0)]))
    for sections in (7, "one text", [7], [{"paragraphs": "one text"}]):
        source = Listed("one", [page(0), {"record": 1, "title": 3, "sections": sections}])
        with pytest.raises(InputError, match="one: record 1 has no list of texts"):
            SectionRetrieval("query", "document", least=4).cut(source)


def test_running_text(data_folder):
    """Held-out pages: BM25 finds most, which a learned model has to stand beside."""
    folder = data_folder / "running_text"
    source = open_source(f"jsonl:{folder}/wikitext2_test.jsonl.gz + jsonl:{folder}/factbook_test.jsonl.gz")
    evaluator = SectionRetrieval("query", "document", rounds=1, query_words=20)
    found = dict(evaluator.run(embedder(), source))
    assert found["pool"] > 80
    assert found["R@1"] < 0.1
    assert 0.5 < found["bm25/R@1"] < found["bm25/R@10"]
