"""Folders of sentence-transformers: what is read of them, what is written, what is refused."""

import json
import types

import numpy as np
import pytest
import tokenizers
from image_text_models import LENGTH, TEXTS, model, text_encoder, tokenizer
from safetensors.numpy import load_file, save_file

from contrastive_jax import interop
from contrastive_jax.branches import Branch
from contrastive_jax.data.views import Text
from contrastive_jax.encoders import Bert
from contrastive_jax.encoders.heads import MLP, Linear
from contrastive_jax.errors import InputError
from contrastive_jax.interop.sentence_transformers import IDENTITY, Modules, default_prompt, modules
from contrastive_jax.training.origins import Library
from contrastive_jax.training.starting import Start, check_views

TINY = dict(width=16, depth=1, heads=2, mlp=40, vocabulary=60, length=LENGTH)
KINDS = ("Transformer", "Pooling", "Dense", "Normalize")


@pytest.fixture
def folder(tmp_path):
    """A saved model with a projection; `branch` normalises nothing."""
    learnt, vocabulary = tokenizer(tmp_path)
    made = model(
        text=Bert(**TINY, pooling="cls"), heads={"text": Linear(8, bias=True)}, vocabulary=vocabulary
    )
    interop.save("sentence-transformers", made, tmp_path / "out")
    return tmp_path / "out", made, learnt


def listed(folder, *kinds, prefix="sentence_transformers.models."):
    """Writes modules.json."""
    found = [{"type": f"{prefix}{kind}", "path": f"{i}_{kind}" if i else ""} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(found))


def write(folder, name, **content):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def test_what_is_written_is_read_again(folder):
    folder, made, _ = folder
    assert modules(interop.read(folder)) == Modules("cls", folder / "2_Dense", False, LENGTH)
    assert interop.architecture(folder, "text")["pooling"] == "cls"
    head = interop.head(folder, "text")
    for name, array in made.params["heads"]["text"]["out"].items():
        np.testing.assert_array_equal(head.pop(name), array)
    assert not head
    assert load_file(folder / "2_Dense" / "model.safetensors")["linear.weight"].shape == (8, 16)


def test_the_tokenizer_that_is_written_gives_our_tokens(folder):
    folder, _, learnt = folder
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.enable_truncation(LENGTH)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    theirs.enable_padding(pad_id=theirs.token_to_id(settings["pad_token"]), length=LENGTH)
    for text in [*TEXTS, "", "ünknown 42", "a " * 30]:
        np.testing.assert_array_equal(theirs.encode(text).ids, learnt.encode(text, LENGTH))
    specials = json.loads((folder / "special_tokens_map.json").read_text())
    assert (specials["cls_token"], specials["sep_token"], specials["unk_token"]) == (
        "[BOS]",
        "[EOS]",
        "[UNK]",
    )
    assert settings["model_max_length"] == LENGTH


def test_both_ways_to_say_the_pooling_and_the_length(folder):
    folder = folder[0]
    listed(folder, "Transformer", "Pooling", "Normalize", prefix="sentence_transformers.base.modules.x.")
    write(folder, "1_Pooling/config.json", embedding_dimension=16, pooling_mode="mean", include_prompt=True)
    write(folder, "sentence_bert_config.json", transformer_task="feature-extraction")
    write(folder, "tokenizer_config.json", model_max_length=7)
    assert modules(interop.read(folder)) == Modules("mean", None, True, 7)
    assert interop.head(folder, "text") is None
    write(folder, "tokenizer_config.json", model_max_length=10**30)
    write(folder, "1_Pooling/config.json", pooling_mode=["cls"])
    assert modules(interop.read(folder)) == Modules("cls", None, True, None)
    (folder / "modules.json").unlink()
    assert modules(interop.read(folder)) is None
    assert "pooling" not in interop.architecture(folder, "text")


def test_modules_that_are_not_here_are_refused(folder):
    folder = folder[0]
    weights = interop.read(folder)

    def refused(words):
        with pytest.raises(InputError, match=words):
            interop.architecture(weights, "text")

    listed(folder, "Transformer", "Pooling", "LayerNorm")
    refused("modules.json: a module LayerNorm here is not supported")
    listed(folder, "Transformer", "Pooling", "Normalize", "Dense")
    refused("modules Transformer, Pooling, Normalize, Dense: only the order")
    listed(folder, "Transformer")
    refused("only the order Transformer, Pooling, Dense, Normalize is supported")
    (folder / "modules.json").write_text('[{"type": "x.Transformer", "path": "../elsewhere"}]')
    refused("the path '../elsewhere' leaves the folder")
    (folder / "modules.json").write_text('[{"type": "x.Transformer"}]')
    refused("is no module with a type and a path")
    (folder / "modules.json").write_text("{}")
    refused("modules.json: holds no JSON list")
    listed(folder, *KINDS[:3])
    write(folder, "2_Dense/config.json", activation_function="torch.nn.modules.activation.Tanh")
    refused("activation_function='torch.nn.modules.activation.Tanh' is not supported")
    write(folder, "2_Dense/config.json", activation_function=IDENTITY, use_residual=True)
    refused("use_residual=True is not supported")
    listed(folder, *KINDS[:2])
    write(folder, "1_Pooling/config.json", pooling_mode_mean_tokens=True, pooling_mode_max_tokens=True)
    refused("pooling mean, pooling_mode_max_tokens is not supported; one of cls, mean is")
    write(folder, "1_Pooling/config.json", pooling_mode=["cls", "mean"])
    refused("pooling cls, mean is not supported")


def test_weights_of_a_module_under_other_names_are_refused(folder):
    file = folder[0] / "2_Dense" / "model.safetensors"
    save_file({name.replace("linear", "dense"): x for name, x in load_file(file).items()}, file)
    with pytest.raises(InputError, match=r"2_Dense: linear.weight, linear.bias missing in its weights"):
        interop.head(folder[0], "text")


def test_pickled_weights_of_a_module_are_refused(folder):
    folder = folder[0]
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"2_Dense/pytorch_model.bin: pickled weights are refused"):
        interop.head(folder, "text")


def test_what_it_cannot_hold_is_refused_by_key(tmp_path):
    _, vocabulary = tokenizer(tmp_path)
    encoder, output = Bert(**TINY), tmp_path / "out"

    def refused(words, **fields):
        with pytest.raises(InputError, match=words):
            interop.save("sentence-transformers", model(**fields), output)
        assert not output.exists()

    other = "encoders.text.kind='text_transformer'; as text encoders it takes the kinds bert and modernbert"
    refused(other, text=text_encoder(), vocabulary=vocabulary)
    refused(r"branches.text.heads=\('text',\)", text=encoder, heads={"text": MLP(8)}, vocabulary=vocabulary)
    pooler = Bert(**TINY, pooling="pooler")
    refused(r"text.pooling='pooler' \(it wants 'cls' or 'mean'\)", text=pooler, vocabulary=vocabulary)
    refused("needs a tokenizer of the tokenizers library", text=encoder)
    refused("holds a text encoder, and this model has none")


@pytest.mark.parametrize(
    ("config", "prompt"),
    [
        ({}, ""),
        ({"prompts": {"query": "query: "}, "default_prompt_name": None}, ""),
        ({"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}, "query: "),
        ({"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "document"}, ""),
    ],
)
def test_a_default_prompt_is_put_before_texts_or_refused(tmp_path, config, prompt):
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(config))
    assert default_prompt(tmp_path) == prompt
    library = object.__new__(Library)
    library._weights, library.title = types.SimpleNamespace(folder=tmp_path), "there"
    graph = types.SimpleNamespace(
        branches={"a": Branch(view="text", encoder="text"), "b": Branch(view="other", encoder="else")}
    )
    start = Start("text", library, ("encoders/text/x",), ())
    for prompts in ((), ("query: {}",), ("{}",)):
        views = {"text": Text(prompts=prompts), "other": Text()}
        if prompt and not prompts:
            told = r"config.init_from.text.path=there: its library puts 'query: ' before every text .*: set "
            told += r"config.data.views.text.prompts=\('query: {}',\), or \('{}',\) for texts as they are"
            with pytest.raises(InputError, match=told):
                check_views([start], graph, views)
        else:
            check_views([start], graph, views)


def test_a_default_prompt_that_is_none_is_refused(tmp_path):
    content = {"prompts": {"query": "query: "}, "default_prompt_name": "quary"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="default_prompt_name='quary' names none of its prompts"):
        default_prompt(tmp_path)
