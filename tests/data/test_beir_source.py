import json
import pickle

import pytest

from contrastive_jax.data.beir import BEIR
from contrastive_jax.errors import InputError


@pytest.fixture
def folder(tmp_path):
    documents = [
        ("d1", "Title", "text one"),
        ("d2", "", "text two"),
        ("d3", "Only title", ""),
        ("d4", "", " "),
    ]
    lines = [json.dumps({"_id": name, "title": title, "text": text}) for name, title, text in documents]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    queries = [
        {"_id": "q1", "text": "query one"},
        {"_id": "q2", "text": "query two"},
        {"_id": "q3", "text": ""},
    ]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (tmp_path / "qrels").mkdir()
    judged = ["q2\td1\t2", "q1\td3\t1", "q1\td2\t0", "q1\td4\t1", "q3\td1\t1", "q9\td1\t1", "q2\td9\t1"]
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(judged) + "\n")
    return tmp_path


def test_pairs_of_a_query_and_what_answers_it(folder):
    source = pickle.loads(pickle.dumps(BEIR(f"{folder}/train")))
    assert list(source) == [
        {
            "key": "q2/d1",
            "record": 0,
            "query": "query two",
            "document": "Title text one",
            "title": "Title",
            "text": "text one",
            "query_id": "q2",
            "document_id": "d1",
            "query_number": 1,
            "document_number": 0,
            "grade": 2,
        },
        source[1],
    ]
    assert (source[1]["key"], source[1]["document"]) == ("q1/d3", "Only title")
    for field in source[0]:
        assert list(source.column(field)) == [record[field] for record in source]
    with pytest.raises(KeyError):
        source.column("colour")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("qrels/train.tsv", "q1\td1\t1\nq1\td2\n", "train.tsv, line 2: not a query, a document and a grade"),
        ("qrels/train.tsv", "q1\td1\tmuch\n", "no pair of a query and a document is left"),
        ("corpus.jsonl", "{\n", "line 1: not JSON"),
        ("queries.jsonl", "", "holds no line"),
        (
            "corpus.jsonl",
            '{"docid": "d1", "text": "a"}\n',
            "corpus.jsonl, record 1: has no _id, which the judgements name, but docid, text: call its id _id",
        ),
        ("corpus.jsonl", '{"_id": "a", "text": "a"}\n' * 2, "the _id 'a' occurs more than once"),
        ("queries.jsonl", '{"_id": "q1", "text": ["a"]}\n', "record 1: 'text' is ['a'], not a text"),
    ],
)
def test_damaged_files_are_named(folder, file, content, words):
    (folder / file).write_text(content)
    with pytest.raises(InputError) as error:
        BEIR(f"{folder}/train")
    assert words in str(error.value)


def test_a_key_beside_the_id_is_no_id(folder):
    lines = [{"_id": f"d{i}", "key": f"d{4 - i}", "text": f"text {i}"} for i in range(1, 4)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert BEIR(f"{folder}/train").column("document") == ["text 1", "text 3"]


def test_a_split_that_is_not_there(folder):
    with pytest.raises(InputError, match=r"cannot read .*qrels/test\.tsv"):
        BEIR(f"{folder}/test")


def test_real_sets(data_folder):
    assert len(BEIR(f"{data_folder}/retrieval/cranfield/train")) == 957
    cross = BEIR(f"{data_folder}/retrieval/xquad/train:en-de")
    assert len(cross) == 594
    same = BEIR(f"{data_folder}/retrieval/xquad/train:de")
    assert cross[0]["document"] == same[0]["document"]
    assert cross[0]["query"] != same[0]["query"]
