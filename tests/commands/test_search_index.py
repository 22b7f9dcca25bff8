"""What `search` makes of an index: one that is damaged, and one that is cut."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from answers import best, found
from refusals import refused

from contrastive_jax.evaluation import approximate
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.training.trained import open_trained

pytestmark = pytest.mark.usefixtures("opened_once")


def test_a_damaged_graph_is_built_anew_whatever_stands_beside_it(in_process, line, index):
    """usearch crashes, or takes all memory, on what it cannot read; and a digest can be damaged alike."""
    file = index("document")
    asked = [*line, "--index", file, "--query-branch", "text", "--json", "a red bar", "--approximate"]
    good = found(in_process(*asked))
    graph = Path(f"{file}.usearch")
    says = graph.with_name(f"{graph.name}.json")
    whole, told = graph.read_bytes(), json.loads(says.read_text())
    rng = np.random.default_rng(0)
    damaged = [whole[: len(whole) // 2], b"", bytes(len(whole)), b"usearch" + b"\xff" * (len(whole) - 7)]
    for start in (0, 8, 64, len(whole) // 2, len(whole) - 200):
        noise = rng.integers(0, 256, 64, dtype=np.uint8).tobytes()
        damaged.append(whole[:start] + noise + whole[start + 64 :])
    built = 0
    for content in damaged:
        graph.write_bytes(content)
        says.write_text(json.dumps(told | {"sha256": approximate._digest(graph, told["of"])}))
        code, out, err = in_process(*asked)
        assert code == 0, err
        built += "built" in err
        if "built" in err:
            assert json.loads(out) == good
    assert built >= 6  # some noise changes no more than a vector


def test_a_query_is_cut_as_the_index_is(in_process, line, index, embedded):
    """To the first numbers that the index holds, and to unit length again."""
    asked = [*line, "--index", index("document@8"), "--json", "a red bar"]
    answer = found(in_process(*asked))
    assert (answer["query_branch"], answer["branch"]) == ("text@8", "document@8")
    assert answer == found(in_process(*asked, "--query-branch", "text"))
    trained = open_trained(line[2])
    with jax.set_mesh(trained.experiment.mesh):
        query = trained.embedder(8)("text@8", Listed("query", [{"text": "a red bar"}]))[0]
    z = embedded["document"][:, :8]
    scores = z / np.linalg.norm(z, axis=1, keepdims=True) @ query
    assert [one["record"] for one in answer["results"]] == best(scores, 10)
    np.testing.assert_allclose(
        [one["score"] for one in answer["results"]], np.sort(scores)[::-1][:10], atol=1e-5
    )
    told = "--query-branch text@4 has 4 numbers and --branch document@8 has 8", "as in document@4"
    refused(in_process(*asked, "--query-branch", "text@4"), *told)
    refused(in_process(*line, "--query-branch", "text@99", "x"), "text has 16 numbers; write text@N")
    refused(in_process(*line, "--query-branch", "text@4", "--branch", "image", "x"), "image has 16: give two")
