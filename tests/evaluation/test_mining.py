"""Hard negatives: every rule against a plain loop; what is never a negative."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_jax.commands.mine import _identifiers
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.mining import Pairs, Rule, mine
from contrastive_jax.evaluation.texts import seen_text


def negatives_of(scores, answers, positive, rule):
    """One query's negatives, as the words of `Rule` say it; scores by document."""
    order = [d for d in np.argsort(-scores, kind="stable") if d not in answers][rule.first : rule.stop]
    kept = []
    for document in order:
        near = rule.below is not None and scores[document] > positive - rule.below
        near |= rule.share is not None and scores[document] > positive - (1 - rule.share) * abs(positive)
        if not near and len(kept) < rule.negatives:
            kept.append(int(document))
    return kept


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 12),
    st.sampled_from([None, 0.0, 0.1]),
    st.sampled_from([None, 0.8, 1.0]),
)
def test_mined_is_what_a_loop_finds(seed, negatives, first, width, below, share):
    rng = np.random.default_rng(seed)
    rule = Rule(negatives, first, first + width, below, share)
    pairs = Pairs()
    for record in range(12):
        # Three questions have several answers each, and some documents answer several questions.
        pairs.add(record, f"q{rng.integers(6)}", f"d{rng.integers(9)}", str(rng.integers(20)))
    pairs.documents.add("D3  ", "x")
    pairs.documents.add("q1", "y")
    z = rng.normal(size=(len(pairs.queries) + len(pairs.documents.texts), 5)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    queries, documents = z[: len(pairs.queries)], z[len(pairs.queries) :]
    scores = queries @ documents.T
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    found = list(mine(pairs, queries, documents, rule, mesh))
    assert [one.record for one in found] == list(range(12))
    for one in found:
        answers = pairs.answers(one.query)
        wanted = negatives_of(scores[one.query], answers, scores[one.query, one.document], rule)
        assert one.negatives == wanted
        np.testing.assert_allclose(one.scores, scores[one.query, wanted], atol=1e-6)
        assert not answers & set(one.negatives)


def test_what_is_never_a_negative():
    """Answers of the same question in other records, the same identifier, the same text, the question."""
    pairs = Pairs()
    pairs.add(0, "What is up?", "the sky", "1")
    pairs.add(1, "what  is up?", "a film", "2")
    pairs.add(2, "what is down?", "the floor", "3")
    pairs.add(3, " ", "nothing", "4")
    sky = pairs.documents.add("The  Sky")
    edition = pairs.documents.add("the sky, second edition", "1")
    echo = pairs.documents.add("WHAT IS UP?")
    other = pairs.documents.add("the sea", "9")
    assert pairs.answers(0) == {0, 1, edition, echo}
    assert sky == 0
    assert pairs.left_out == 1
    assert other not in pairs.answers(0) | pairs.answers(1)


@pytest.mark.parametrize(
    ("margin", "below", "share"),
    [(None, None, 0.95), ("0.05", 0.05, None), ("90%", None, 0.9), ("0.1,95%", 0.1, 0.95), ("0", 0.0, None)],
)
def test_margins_of_the_command_line(margin, below, share):
    rule = Rule.of(3, "2:9", margin)
    assert (rule.first, rule.stop, rule.below, rule.share) == (2, 9, below, share)


@pytest.mark.parametrize("margin", ["", "x", "-1", "101%", "0%", "0.1,0.2", "nan", "inf", "%"])
def test_margins_that_mean_nothing(margin):
    with pytest.raises(InputError, match="--margin"):
        Rule.of(3, "0:9", margin)


def test_a_text_is_what_the_view_makes_of_its_fields():
    assert seen_text(Text(), ["a"]) == "a"
    assert seen_text(Text(), [["a", "b"]]) == "a"
    assert seen_text(Text(join=True), [["a", "b"]]) == "a b"
    assert seen_text(Text(also=("t",)), ["a", ""]) == "a"
    assert seen_text(Text(also=("t",)), ["a", "b"]) == "a b"
    assert seen_text(Text(), [None]) == ""


def test_a_document_that_goes_by_the_querys_id_is_no_negative_of_it():
    """Its text may say more than the query does, as in collections whose queries are documents."""
    pairs = Pairs()
    pairs.add(0, "should dogs fly", "no they should not", "a1", own="a0")
    pairs.documents.add("should dogs fly and if so where to", "a0")
    pairs.documents.add("cats", "a2")
    assert pairs.answers(0) == {0, 1}
    pairs = Pairs()
    pairs.add(0, "should dogs fly", "no they should not", "a1")
    pairs.documents.add("should dogs fly and if so where to", "a0")
    assert pairs.answers(0) == {0}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"_id": "d{}"}, ["d0", "d1"]),
        ({"_id": "{}"}, ["0", "1"]),  # which are its own, though they look like numbers of lines
        ({"key": "k{}"}, ["k0", "k1"]),
        ({"docid": "d{}"}, [None, None]),
    ],
)
def test_a_corpus_without_identifiers_has_no_numbers_of_lines_for_them(tmp_path, names, found):
    lines = [json.dumps({"text": "a", **{k: v.format(n) for k, v in names.items()}}) for n in range(2)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    assert list(_identifiers(open_source(f"jsonl:{tmp_path}/corpus.jsonl"))) == found
