"""Passages of documents, and the pairs that views draw from them: ICT, BFS and WLP."""

import gzip
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from contrastive_jax.data.examples import Steps
from contrastive_jax.data.samplers import Groups, Identities, Mixture, Permutation
from contrastive_jax.data.sentences import sentences
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError

DATA = Path(os.environ.get("CONTRASTIVE_JAX_DATA", "../shared/data")) / "running_text"
DOCUMENTS = [
    {
        "id": "d0",
        "title": "Chad",
        "region": "africa",
        "sections": [
            {"heading": "", "level": 1, "paragraphs": []},
            {"heading": "Start", "level": 2, "paragraphs": ["Chad is one. It is dry.", "It is large."]},
            {"heading": "More", "level": 2, "paragraphs": ["A b c. D e f. G h i. J k l. M n o."]},
            {"heading": "Short", "level": 2, "paragraphs": ["Only this."]},
        ],
    },
    {
        "id": "d1",
        "title": "Lake Chad",
        "sections": [
            {"heading": "", "level": 1, "paragraphs": ["A lake. It lies in Chad, and in others."]},
            {"heading": "World", "level": 2, "paragraphs": ["The world is wide. So it is."]},
        ],
    },
    {"id": "d2", "title": "World", "text": "See Lake Chad. Or Chad itself.\nThe word lake is none."},
    {"id": "d3", "title": "lake", "text": "No one. Names it."},
    {"id": "d4", "title": "Twice", "text": "Here is Twice. And Twice."},
    {"id": "d5", "title": "Twice", "text": "Which is Twice? The World asks."},
]


@pytest.fixture
def documents(tmp_path):
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(one) + "\n" for one in DOCUMENTS))
    return f"jsonl:{tmp_path}/d.jsonl"


def test_passages_are_whole_sentences_of_one_section(documents):
    source = open_source(f"{documents}?passages=6")
    rows = [(r["document_number"], r["section"], r["sentences"]) for r in source]
    assert rows[:4] == [
        (0, 1, ["Chad is one.", "It is dry.", "It is large."]),  # two at least, and one goes to those before
        (0, 2, ["A b c.", "D e f."]),
        (0, 2, ["G h i.", "J k l.", "M n o."]),
        (1, 0, ["A lake.", "It lies in Chad, and in others."]),
    ]
    assert source[1]["passage"] == "A b c. D e f."
    assert [len(open_source(f"{documents}?passages={n}")) for n in (6, 9, 100)] == [len(source)] * 2 + [
        len(source) - 1
    ]
    record = source[2]
    assert {name: record[name] for name in ("key", "record", "title", "heading", "region", "id")} == {
        **{"key": "0/2", "record": 2, "title": "Chad", "heading": "More", "region": "africa", "id": "d0"}
    }
    assert record["lead"] == ["Chad is one.", "It is dry.", "It is large."]
    assert "sections" not in record


def test_a_document_names_another_by_its_title(documents):
    source = open_source(f"{documents}?passages=100")
    links = {record["document_number"]: record["links"] for record in source}
    assert links == {0: [], 1: ["Chad"], 2: ["Chad", "Lake Chad"], 3: [], 4: [], 5: ["World"]}
    of = {record["document_number"]: record["linked"] for record in source}
    assert of[2] == [*source[0]["lead"], "A lake.", "It lies in Chad, and in others."]
    linked = open_source(f"{documents}?passages=100&keep=linked")
    assert set(linked.column("document_number")) == {1, 2, 5}


def test_columns_are_those_of_the_records_and_the_index_travels(documents):
    source = open_source(f"{documents}?passages=6")
    again = pickle.loads(pickle.dumps(source))
    for field in ("key", "record", "document", "document_number", "linked", "sentences", "region", "id"):
        assert list(source.column(field)) == [r.get(field, "") for r in again]
    for field in ("sections", "text", "gone"):
        with pytest.raises(KeyError):
            source.column(field)
    with pytest.raises(IndexError):
        source[len(source)]


def test_options_hold_for_passages(documents):
    source = open_source(f"{documents}?passages=6&where=heading:More&rename=passage:text")
    assert [record["text"] for record in source] == ["A b c. D e f.", "G h i. J k l. M n o."]
    assert "?passages=6?where=heading:More" in source.name


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("?passages=some", "option passages='some': give the words of a passage"),
        ("?passages=0", "passages=0 must be a number of words, 1 or more"),
    ],
)
def test_bad_options(documents, spec, words):
    with pytest.raises(InputError) as error:
        open_source(documents + spec)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"title": "a"}, "record 0 is no document with 'sections'"),
        ({"sections": [{"heading": "a"}]}, "record 0 is no document with 'sections'"),
        ({"sections": [{"paragraphs": "One two. Three."}]}, "record 0 is no document with 'sections'"),
        ({"sections": "text"}, "record 0 is no document with 'sections'"),
        ({"text": "One sentence."}, "no section of 1 documents has two sentences"),
    ],
)
def test_records_that_are_no_documents(tmp_path, line, words):
    (tmp_path / "d.jsonl").write_text(json.dumps(line))
    with pytest.raises(InputError) as error:
        open_source(f"jsonl:{tmp_path}/d.jsonl?passages=9")
    assert words in str(error.value)


def test_a_broken_document_has_no_passages(tmp_path):
    lines = ['{"text": "A b. C d."}', '{"text": ', '{"text": "E f. G h."}']
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    source = open_source(f"jsonl:{tmp_path}/d.jsonl?passages=9")
    assert list(source.column("document_number")) == [0, 2]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two! Three? Four… Five", ["One.", "Two!", "Three?", "Four…", "Five"]),
        ("Mr. Smith met J. R. Hale. They e.g. left.", ["Mr. Smith met J. R. Hale.", "They e.g. left."]),
        ("It grew 3.5 per cent. in May. Yes.", ["It grew 3.5 per cent. in May.", "Yes."]),
        ('He said "Go." (She went.) "Oh!" All left.', ['He said "Go."', "(She went.)", '"Oh!"', "All left."]),
        ("A heading\nA line. 20 more.", ["A heading", "A line.", "20 more."]),
        ("他来了。她走了！好", ["他来了。", "她走了！", "好"]),  # noqa: RUF001
        ('End.\n"\nNext.', ['End. "', "Next."]),
        ("", []),
        ("  \n . ", []),
    ],
)
def test_sentences(text, found):
    assert sentences(text) == found


def test_rows_of_one_document(documents):
    source = open_source(f"{documents}?passages=6")
    number = np.asarray(source.column("document_number"))
    pairs = Groups("document", members=2).bind(source, 4, 0)
    rows = Identities("document", members=3).bind(source, 6, 0)
    for step in range(5):
        drawn = number[pairs(step)]
        assert (drawn[:, 0] == drawn[:, 1]).all()
        assert len(set(drawn[:, 0])) == 4
        side_by_side = number[rows(step)[:, 0]].reshape(2, 3)
        assert (side_by_side == side_by_side[:, :1]).all()
        assert side_by_side[0, 0] != side_by_side[1, 0]


class Texts:
    """A tokenizer that gives the places of texts in a list."""

    def __init__(self):
        self.seen = []

    def encode(self, text, length, keep=True):
        self.seen.append(text)
        return np.full(3, len(self.seen) - 1, np.int32)


@pytest.mark.skipif(not DATA.exists(), reason=f"no {DATA}")
@pytest.mark.parametrize("stays", [0.0, 0.2])
def test_the_three_pairs_of_real_articles(stays):
    source = open_source(f"jsonl:{DATA}/wikitext2_train.jsonl.gz?passages=128&keep=linked")
    texts = Texts()
    views = {
        "ict": Text(field="sentences", together="ict"),
        "rest": Text(field="title", also=("sentences",), rest=True, stays=stays, together="ict"),
        "bfs": Text(field="lead"),
        "wlp": Text(field="linked"),
        "passage": Text(field="passage"),
    }
    views = {name: view.bind(texts) for name, view in views.items()}
    draw = Permutation(repeat=True).bind(source, 600, 0)
    batch = Steps(source, draw, views, {}, 0, 1, [slice(None)], 1)[0]
    seen = {name: [texts.seen[n] for n in batch["views"][name][:, 0]] for name in views}
    records = [source[int(i)] for i in draw(0)[:, 0]]
    kept = sum(query in rest for query, rest in zip(seen["ict"], seen["rest"]))
    assert kept == 0 if stays == 0 else abs(kept / 600 - stays) < 0.06
    for record, ict, rest, bfs, wlp, passage in zip(records, *seen.values()):
        assert ict in record["sentences"]
        assert rest.startswith(record["title"])
        assert bfs in record["lead"]
        assert wlp in record["linked"]
        assert all(title in " ".join(_whole(record["document_number"])) for title in record["links"])
        assert passage == record["passage"]
        assert stays or set(rest) <= set(record["title"] + " " + passage)


def test_all_three_from_one_source(documents):
    articles = f"{documents}?passages=6"
    parts = [
        f"{articles}&rename=sentences:asked,sentences:answer",
        f"{articles}&rename=lead:asked,passage:answer",
        f"{articles}&keep=linked&rename=linked:asked,passage:answer",
    ]
    source, texts = open_source(" + ".join(parts)), Texts()
    views = {
        "query": Text(field="asked", together="task").bind(texts),
        "document": Text(field="title", also=("answer",), rest=True, together="task").bind(texts),
    }
    draw = Mixture(alpha=0.0, repeat=True).bind(source, 60, 0)
    batch = Steps(source, draw, views, {}, 0, 1, [slice(None)], 1)[0]
    queries, found = ([texts.seen[n] for n in batch["views"][name][:, 0]] for name in views)
    for number, query, document in zip(draw(0)[:, 0].tolist(), queries, found):
        record = source[number]
        assert query in record[("sentences", "lead", "linked")[record["source"]]]
        if record["source"]:
            assert document == f"{record['title']} {record['passage']}"
        else:
            assert query not in document


def _whole(number, cache={}):  # noqa: B006
    if not cache:
        with gzip.open(DATA / "wikitext2_train.jsonl.gz", "rt") as file:
            cache |= dict(enumerate(map(json.loads, file)))
    return [p for section in cache[number]["sections"] for p in section["paragraphs"]]
