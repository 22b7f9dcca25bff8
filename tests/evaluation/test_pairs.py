import numpy as np
import pyarrow.parquet as parquet
import pytest
import pytrec_eval
from known_embeddings import KnownEmbeddings, hashed
from sklearn.feature_extraction.text import TfidfVectorizer

from contrastive_jax.data.views import Glyph, Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import Pairs
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.lexical import identifier_words, rank
from contrastive_jax.evaluation.scripts import script_of

EMBED = KnownEmbeddings(
    {"a": Text(), "b": Text()}, {"a": lambda r: hashed(r["text"]), "b": lambda r: hashed(r["text"][::-1])}
)


def pairs(n, name="pairs", **columns):
    records = [{"doc": f"doc number {i}", "code": f"code of {i}"} for i in range(n)]
    return Listed(name, [record | {k: v[i] for k, v in columns.items()} for i, record in enumerate(records)])


def evaluator(**settings):
    return Pairs("a", "b", query_text="doc", answer_text="code", **settings)


def scores(source):
    a = np.stack([hashed(r["doc"]) for r in source.records])
    return a @ np.stack([hashed(r["code"][::-1]) for r in source.records]).T


def test_ranks_are_those_of_the_whole_matrix():
    source = pairs(30)
    found = dict(evaluator(at=(1, 5), both_ways=True).run(EMBED, source))
    table = scores(source)
    for way, matrix in (("", table), ("backwards/", table.T)):
        ranks = np.array([1 + np.sum(row > row[i]) for i, row in enumerate(matrix)])
        assert found[f"{way}MRR"] == pytest.approx(np.mean(1 / ranks))
        assert found[f"{way}R@1"] == pytest.approx(np.mean(ranks <= 1))
        assert found[f"{way}R@5"] == pytest.approx(np.mean(ranks <= 5))
    run = {str(i): {str(j): float(s) for j, s in enumerate(row)} for i, row in enumerate(table)}
    qrels = {str(i): {str(i): 1} for i in range(30)}
    expected = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(run)
    assert found["MRR"] == pytest.approx(np.mean([v["recip_rank"] for v in expected.values()]))
    assert found["pool"] == 30


def test_groups_are_searched_apart_and_count_alike():
    """A language of 4 and one of 12; each alone gives the figures that it has among the others."""
    language = ["deu"] * 4 + ["rus"] * 12
    source = pairs(16, lang=language)
    found = dict(evaluator(group="lang", by_group=True, at=(1, 2)).run(EMBED, source))
    for name, part in (("deu", slice(0, 4)), ("rus", slice(4, 16))):
        alone = dict(evaluator(at=(1, 2)).run(EMBED, Listed("part", source.records[part])))
        assert {m: found[f"{m}/{name}"] for m in ("MRR", "R@1", "R@2")} == {
            m: pytest.approx(alone[m]) for m in ("MRR", "R@1", "R@2")
        }
    assert found["MRR"] == pytest.approx((found["MRR/deu"] + found["MRR/rus"]) / 2)


def test_pools_of_so_many_candidates():
    source = pairs(25)
    drawn = evaluator(candidates=10, seed=4)
    pools = drawn._pools(source)
    assert [len(pool.records) for pool in pools] == [10, 10]
    assert len(np.unique(np.concatenate([pool.records for pool in pools]))) == 20
    table = scores(source)
    ranks = [
        1 + np.sum(table[i, pool.records] > table[i, i]) for pool in pools for i in pool.records.tolist()
    ]
    found = dict(drawn.run(EMBED, source))
    assert found["MRR"] == pytest.approx(np.mean(1 / np.array(ranks)))
    assert found["pool"] == 10
    assert dict(evaluator(candidates=10, depth=1, at=(1,)).run(EMBED, source))["MRR"] == pytest.approx(
        dict(evaluator(candidates=10).run(EMBED, source))["R@1"]
    )


def test_the_very_same_text_is_right():
    source = Listed(
        "twins", [{"doc": f"{i}", "code": "the same" if i < 3 else f"code {i}"} for i in range(6)]
    )
    same = KnownEmbeddings(
        {"a": Text(), "b": Text()},
        {
            "a": lambda r: np.eye(2)[int(int(r["text"]) >= 3)],
            "b": lambda r: np.eye(2)[int(r["text"] != "the same")],
        },
    )
    found = dict(evaluator(at=(1,)).run(same, source))
    assert found["R@1"] == pytest.approx((3 + 1) / 6)


def test_baselines_and_fusion():
    """Words decide: the lexical ones find everything, the hashes little, and fused by score all again."""
    records = [{"doc": f"reads the {word} file", "code": f"def read_{word}File(): open()"} for word in
               ("json", "yaml", "xml", "toml", "csv", "ini", "tar", "zip")]  # fmt: skip
    names = ("bm25", "bm25_identifiers", "tfidf", "tfidf_characters")
    settings = dict(baselines=names, fusion="min_max", weight=0.1, at=(1,))
    found = dict(evaluator(**settings).run(EMBED, Listed("files", records)))
    assert found["bm25/MRR"] < 0.5  # read_jsonFile is one word
    for name in names[1:]:
        if name != "tfidf":
            assert found[f"{name}/R@1"] == 1.0
            assert found[f"fused_with_{name}/R@1"] == 1.0
    assert found["R@1"] < 0.5


def test_pictures_have_no_text():
    embed = KnownEmbeddings(
        {"a": Text(), "image": Glyph()},
        {"a": lambda r: np.eye(4)[int(r["text"])], "image": lambda r: np.eye(4)[r["image"][0, 0]]},
    )
    source = Listed("pictures", [{"text": str(i), "image": np.full((2, 2), i, np.uint8)} for i in range(4)])
    assert dict(Pairs("a", "image").run(embed, source))["R@1"] == 1.0
    for settings, message in (
        (dict(baselines=("bm25",)), r"baselines=\('bm25',\)"),
        (dict(by_script=True), "by_"),
    ):
        with pytest.raises(InputError, match=f"{message}.*'image' reads none"):
            dict(Pairs("a", "image", **settings).run(embed, source))


def test_a_view_of_several_fields_reads_them_all():
    """Documents of one title are not the same text, to the measure and to the baselines."""
    records = [{"title": "Notes", "body": f"on {word}", "doc": word} for word in ("wings", "engines", "rain")]
    embed = KnownEmbeddings(
        {"a": Text(), "b": Text(field="title", also=("body",))},
        {"a": lambda r: hashed(r["text"]), "b": lambda r: hashed(f"{r['body']} otherwise")},
    )
    evaluator = Pairs("a", "b", query_text="doc", at=(1,), baselines=("bm25",))
    found = dict(evaluator.run(embed, Listed("notes", records)))
    table = np.array(
        [[hashed(q["doc"]) @ hashed(f"{d['body']} otherwise") for d in records] for q in records]
    )
    assert found["R@1"] == pytest.approx(np.mean(table.argmax(axis=1) == np.arange(3))) != 1
    assert found["bm25/R@1"] == 1.0


def test_tfidf_is_scikit_learns_cosine():
    corpus, queries = ["a cat sat", "the dog", "cats and dogs", "..."], ["cats", "dog food", "zebra"]
    vectors = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 4))
    known = vectors.fit_transform(corpus).toarray()
    table = vectors.transform(queries).toarray() @ known.T
    found = rank("tfidf_characters", queries, corpus, 3)
    for row, line in enumerate(table):
        order = [j for j in np.argsort(-line, kind="stable")[:3] if line[j] > 0]
        assert found.answers[row][: len(order)].tolist() == order
        assert (found.answers[row][len(order) :] == -1).all()
    for name in ("bm25", "tfidf"):
        assert (rank(name, ["x"], ["", "..."], 5).answers == -1).all()


def test_identifiers_in_their_words():
    assert identifier_words("readHTTPBody_now = __init__2X") == "read HTTP Body now =  init 2 X"


def test_scripts():
    assert script_of(["Grüße", "Ωmega"]) == "LATIN"
    assert script_of(["Привет, world and"]) == "LATIN"
    assert script_of(["こんにちは世界"]) == script_of(["漢字"]) == "CJK"
    assert script_of(["नमस्ते"]) == "DEVANAGARI"
    assert script_of(["123 ..."]) == ""


def test_the_tatoeba_test(data_folder):
    """German and Russian against English, by letters: the one shares them, the other does not."""
    table = parquet.read_table(data_folder / "parallel" / "tatoeba" / "test.parquet").to_pylist()
    records = [r for r in table if r["lang"] in ("deu", "rus") and int(r["idx"]) < 200]
    evaluator = Pairs(
        "a", "b", query_text="text", answer_text="english", group="lang", both_ways=True, at=(1,),
        by_group=True, by_script=True, baselines=("tfidf_characters",),
    )  # fmt: skip
    found = dict(evaluator.run(EMBED, Listed("tatoeba", records)))
    assert found["tfidf_characters/R@1/deu"] > 0.15
    assert found["tfidf_characters/R@1/rus"] < 0.05
    assert found["tfidf_characters/same_script/R@1"] == found["tfidf_characters/R@1/deu"]
    assert found["tfidf_characters/cross_script/R@1"] == found["tfidf_characters/R@1/rus"]
    assert {name for name in found if name.startswith("backwards/R@1")} == {
        "backwards/R@1", "backwards/R@1/deu", "backwards/R@1/rus"
    }  # fmt: skip


def test_wrong_settings_are_refused():
    for settings, message in (
        (dict(baselines=("bm",)), "baselines='bm'"),
        (dict(fusion="sum"), "fusion='sum'"),
        (dict(weight=-1.0), "weight"),
        (dict(at=(0,)), "at="),
        (dict(at=(1, 10), depth=5), r"at=\(1, 10\), depth=5"),
        (dict(fusion="min_max"), "fusion='min_max': with what"),
        (dict(candidates=1), "candidates=1"),
    ):
        with pytest.raises(InputError, match=message):
            evaluator(**settings)
    with pytest.raises(InputError, match="no field 'lang'"):
        dict(evaluator(group="lang").run(EMBED, pairs(3)))
