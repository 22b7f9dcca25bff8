"""`contrastive-jax data balance`: which captions stay, and keys that cannot say so."""

import json

import pytest
from refusals import refused

from contrastive_jax.data.sources import open_source


def balanced(in_process, folder, *more, seed=0, code=0):
    line = ["data", "balance", "--source", f"jsonl:{folder}/c.jsonl", "--metadata", str(folder / "m.txt")]
    line += ["--output", str(folder / "keys"), "--seed", str(seed), "--json", *more]
    returned, out, err = in_process(*line)
    assert returned == code, err
    return json.loads(out)


@pytest.fixture
def captions(tmp_path):
    """200 captions of dogs, 5 of newts, one of both, 10 of neither; entries for them, and one for nothing."""
    texts = ["a dog."] * 200 + ["a Newt, wet"] * 5 + ["a dog and a Newt"] + ["nothing here"] * 10
    lines = [json.dumps({"key": f"k{i}", "text": text, "more": ["x", text]}) for i, text in enumerate(texts)]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    (tmp_path / "m.txt").write_text("dog\n\n Newt \ndog\nwet\nunicorn\n")
    return tmp_path


def test_balance_keeps_the_tail_and_thins_the_head(in_process, captions):
    found = balanced(in_process, captions, "--cap", "20")
    assert {name: found[name] for name in ("records", "matched", "entries", "entries_matched")} == {
        **{"records": 216, "matched": 206, "entries": 4, "entries_matched": 3}
    }
    assert found["entries_over_cap"] == 1
    assert found["expected"] == round(200 * 20 / 201 + 6, 2)
    assert found["entropy_before"] < found["entropy_after"]
    assert found["commonest"] == ["dog", "Newt", "wet"]
    source = open_source(found["balanced"])
    assert len(source) == found["kept"]
    kept = {int(key[1:]) for key in source.column("key")}
    assert set(range(200, 206)) <= kept <= set(range(206))
    assert 8 < len(kept) - 6 < 35
    before = (captions / "keys").read_bytes()
    assert balanced(in_process, captions, "--cap", "20") == found
    assert (captions / "keys").read_bytes() == before
    balanced(in_process, captions, "--cap", "20", seed=1)
    assert (captions / "keys").read_bytes() != before
    whole = balanced(in_process, captions, "--cap", "inf", "--field", "more")
    assert (whole["kept"], whole["entropy_before"]) == (206, whole["entropy_after"])


def test_balancing_what_is_selected_already(in_process, captions):
    line = ["data", "balance", "--metadata", str(captions / "m.txt"), "--cap", "3", "--json"]
    line += ["--output", str(captions / "second"), "--source"]
    first = balanced(in_process, captions, "--cap", "20")
    code, out, err = in_process(*line, first["balanced"] + "&tail=text:0.5&keep=text")
    assert code == 0, err
    second = json.loads(out)
    assert second["balanced"] == f"jsonl:{captions}/c.jsonl?keep=text&keys={captions}/second"
    kept = set(open_source(second["balanced"]).column("key"))
    assert len(kept) == second["kept"] < first["kept"]
    assert kept < set(open_source(first["balanced"]).column("key"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["a", "b", "a"], "key 'a' stands there twice"),
        (["a", "b", " a"], "key ' a' cannot stand in a line"),
        (["a", "b", "c\n"], "key 'c\\n' cannot stand in a line"),
        (["a", "b", "\ud83d"], "key '\\ud83d' cannot stand in a line"),
    ],
)
def test_keys_that_name_no_record(in_process, tmp_path, keys, words):
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"key": key, "text": "dog"}) for key in keys))
    (tmp_path / "m.txt").write_text("dog")
    line = ["data", "balance", "--source", f"jsonl:{tmp_path}/c.jsonl", "--metadata", str(tmp_path / "m.txt")]
    refused(in_process(*line, "--cap", "1", "--output", str(tmp_path / "keys")), words)
    assert not (tmp_path / "keys").exists()
