"""The tokenizer of a run: kept in its work directory, and fit for the encoders that read its ids."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers
from PIL import Image
from tokenizers import models, pre_tokenizers

from contrastive_jax.configuration import build, load
from contrastive_jax.errors import InputError
from contrastive_jax.training.evaluations import bind_tokenizer
from contrastive_jax.training.experiment import Config, Experiment

CLIP = Path(__file__).parents[2] / "configs" / "clip.py"
CONFIG = """
import runpy

def get_config(arg):
    config = runpy.run_path("{clip}")["get_config"]("small,source=jsonl:{folder}/pairs.jsonl")
    config.data.tokenizer = dict(kind="file", path="{path}")
    config.encoders.text.update(end=None, padding=0)
    return config
"""
TEXTS = ["a small red square", "a large blue square"]


@pytest.fixture
def words(tmp_path):
    """A file of ten tokens: padding is 3, end is 4."""
    known = ["a", "small", "red", "[PAD]", "[SEP]", "[CLS]", "[UNK]", "large", "blue", "square"]
    tokenizer = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "words.json"))
    return tmp_path / "words.json"


@pytest.fixture
def experiment(tmp_path):
    lines = [json.dumps({"image": f"{i}.png", "text": text}) for i, text in enumerate(TEXTS)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    for number in range(len(TEXTS)):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")

    def make(path, *overrides):
        (tmp_path / "config.py").write_text(CONFIG.format(clip=CLIP, folder=tmp_path, path=path))
        config = load(str(tmp_path / "config.py"), [(key, str(value)) for key, value in overrides], Config)
        return Experiment(build(config, Config), training=False)

    return make


def test_a_file_is_copied_and_the_copy_is_used(words, experiment, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    run = experiment(words, ("encoders.text.padding", 3))
    before = bind_tokenizer(run, workdir, train=True)["text"]
    words.unlink()
    after = bind_tokenizer(run, workdir)["text"]
    wanted = [5, 0, 1, 2, 9, 4] + [3] * 10
    for view in (before, after):
        assert view({"text": TEXTS[0]}, np.random.default_rng(0), False).tolist() == wanted


def test_another_tokenizer_than_the_runs_is_refused_by_name(words, experiment, tmp_path):
    """Of the same size, so that nothing but its content tells."""
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "data.json").write_text('{"format": 1, "sources": {}}')
    run, kept = experiment(words, ("encoders.text.padding", 3)), workdir / "tokenizer.json"
    bind_tokenizer(run, workdir, train=True)
    assert json.loads((workdir / "data.json").read_text())["sources"] == {}
    content = kept.read_text()
    kept.write_text(content.replace('"small"', '"smell"'))
    for train in (True, False):
        with pytest.raises(
            InputError, match=r"run/tokenizer.json is not the one that the run began with: put"
        ):
            bind_tokenizer(run, workdir, train=train)
    kept.write_text(content)
    bind_tokenizer(run, workdir, train=True)


def test_a_run_of_an_earlier_version_notes_its_tokenizer(words, experiment, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    run, kept = experiment(words, ("encoders.text.padding", 3)), workdir / "tokenizer.json"
    bind_tokenizer(run, workdir, train=True)  # which had no data.json
    kept.write_text(kept.read_text().replace('"small"', '"smell"'))
    bind_tokenizer(run, workdir)
    (workdir / "data.json").write_text('{"format": 1, "sources": {}}')
    bind_tokenizer(run, workdir)
    assert "tokenizer" not in json.loads((workdir / "data.json").read_text())
    bind_tokenizer(run, workdir, train=True)
    assert "tokenizer" in json.loads((workdir / "data.json").read_text())


def test_a_sentencepiece_model_is_copied(experiment, tmp_path):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 9), model_writer=model, vocab_size=40, pad_id=3, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    run = experiment(tmp_path / "spiece.model", ("encoders.text.padding", 3))
    view = bind_tokenizer(run, tmp_path, train=True)["text"]
    (tmp_path / "spiece.model").unlink()
    ids = view({"text": TEXTS[0]}, np.random.default_rng(0), False)
    again = bind_tokenizer(run, tmp_path)["text"]({"text": TEXTS[0]}, np.random.default_rng(0), False)
    assert np.array_equal(ids, again)
    assert ids[0] == 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "encoders.text.padding=0 is not the id 3 .* set config.encoders.text.padding=3"),
        ([("data.tokenizer.padding", "small")], "encoders.text.padding=0 is not the id 1"),
        ([("encoders.text.vocabulary", 9)], "encoders.text.vocabulary=9 is smaller than the 10 ids"),
        ([("encoders.text.end", 9)], r"encoders.text.end=9 is not what .* 4 \(config.data.tokenizer.end\)"),
        (
            [("data.tokenizer.end", ""), ("encoders.text.end", 4)],
            "encoders.text.end=4 is not what .* nothing",
        ),
        ([("data.tokenizer.begin", "<s>")], "data.tokenizer.begin='<s>' is no token of .*words.json"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(words, experiment, tmp_path, overrides, said):
    with pytest.raises(InputError, match=said):
        bind_tokenizer(experiment(words, *overrides), tmp_path, train=True)


def test_it_is_learnt_from_so_many_captions_as_the_config_says(tmp_path):
    """Of more records by the seed; of as many or fewer from all."""
    lines = [json.dumps({"image": "0.png", "text": f"{number} {'ab' * number}"}) for number in range(40)]
    (tmp_path / "many.jsonl").write_text("\n".join(lines))
    learnt = {}
    for captions, seed in ((10, 0), (10, 0), (10, 1), (39, 0), (40, 0), (10**6, 1)):
        given = [("data.tokenizer.vocabulary", "60"), ("data.tokenizer.captions", str(captions))]
        spec = f"{CLIP}:small,source=jsonl:{tmp_path}/many.jsonl"
        run = Experiment(build(load(spec, [*given, ("seed", str(seed))], Config), Config), training=False)
        workdir = tmp_path / f"{captions} {seed} {len(learnt)}"
        workdir.mkdir(exist_ok=True)
        bind_tokenizer(run, workdir, train=True)
        content = (workdir / "tokenizer.json").read_bytes()
        assert learnt.setdefault((captions, seed), content) == content
    assert learnt[40, 0] == learnt[10**6, 1]
    assert len({*learnt.values()}) == 4


def test_an_encoder_that_looks_for_the_end_minds_no_padding(words, experiment, tmp_path):
    for settings in ([("encoders.text.end", 4)], [("encoders.text.padding", None)]):
        assert (
            bind_tokenizer(experiment(words, *settings), tmp_path, train=True)["text"].tokenizer.padding == 3
        )


def test_further_fields_of_a_text_are_checked(words, experiment):
    with pytest.raises(InputError, match=r"data.views.text.also.*no field 'titel'"):
        experiment(words, ("data.views.text.also", "('titel',)"), ("batch_size", 2)).check_data()
