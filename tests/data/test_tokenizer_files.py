"""Tokenizers made elsewhere: what surrounds a text is what their files say, and what they lack is named."""

import io
import json
import pickle
import sys

import numpy as np
import pytest
import sentencepiece
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from contrastive_jax.data.tokenizers import File, Tokenizer
from contrastive_jax.errors import InputError

WORDS = ["a", "small", "letter", "the", "of", "hook"]
TEXTS = [f"the {a} {b} of the {c}" for a in WORDS for b in WORDS for c in WORDS]


def words(folder, specials, processor=None, padding=None):
    """A word-level `tokenizers` file whose special tokens come first."""
    vocabulary = {token: number for number, token in enumerate([*specials, *WORDS, "[UNK]"])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(specials))
    if processor:
        tokenizer.post_processor = processor(vocabulary)
    if padding:
        tokenizer.enable_padding(pad_id=vocabulary[padding], pad_token=padding, length=12)
    tokenizer.enable_truncation(4)  # the view's length counts, not the file's
    tokenizer.save(str(folder / "words.json"))
    return folder / "words.json", vocabulary


def template(first, last):
    def make(vocabulary):
        known = [(token, vocabulary[token]) for token in {*first, *last}]
        return processors.TemplateProcessing(single=[*first, "$A", *last], special_tokens=known)

    return make


def roberta(vocabulary):
    return processors.RobertaProcessing(("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A sentencepiece model as XLNet and ALBERT have it, and one as T5 has: no begin, padding 0."""
    folder = tmp_path_factory.mktemp("pieces")
    for name, ids in {"begin": dict(pad_id=3), "t5": dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)}.items():
        made = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS),
            model_writer=made,
            vocab_size=60,
            hard_vocab_limit=False,
            minloglevel=2,
            **ids,
        )
        (folder / f"{name}.model").write_bytes(made.getvalue())
    return folder


@pytest.mark.parametrize(
    ("specials", "processor", "padding", "wanted"),
    [
        (["[PAD]", "[CLS]", "[SEP]"], None, None, "[CLS] * [SEP] [PAD]"),
        (["<s>", "<pad>", "</s>"], roberta, None, "<s> * </s> <pad>"),
        (["<pad>", "</s>"], template([], ["</s>"]), "<pad>", "* </s> <pad>"),
        (["<x>", "[PAD]", "<y>", "<z>"], template(["<x>", "<y>"], ["<z>"]), "<z>", "<x> <y> * <z> <z>"),
        (["<|startoftext|>", "<|endoftext|>"], None, None, "<|startoftext|> * <|endoftext|> <|endoftext|>"),
    ],
)
def test_begin_end_and_padding_of_the_file(tmp_path, specials, processor, padding, wanted):
    path, vocabulary = words(tmp_path, specials, processor, padding)
    tokenizer = File(str(path)).train()
    before, after = wanted.split("* ")
    before, (*end, fill) = before.split(), after.split()
    text = ["the", "small", "hook", "of", "the", "letter"]
    ids = [vocabulary[token] for token in [*before, *text, *end]]
    assert tokenizer.encode(" ".join(text), 12).tolist() == ids + [vocabulary[fill]] * (12 - len(ids))
    short = [vocabulary[token] for token in [*before, *text[: 5 - len(before) - len(end)], *end]]
    assert tokenizer.encode(" ".join(text), 5).tolist() == short
    assert tokenizer.padding == vocabulary[fill]
    assert len(tokenizer) == len(vocabulary)


def test_overrides_hold_and_are_kept(tmp_path):
    path, vocabulary = words(tmp_path, ["[PAD]", "[CLS]", "[SEP]", "<x>"], template(["[CLS]"], ["[SEP]"]))
    tokenizer = File(str(path), begin="", end="<x>", padding="[SEP]").train()
    wanted = [vocabulary[token] for token in ["a", "hook", "<x>", "[SEP]", "[SEP]"]]
    tokenizer.save(tmp_path / "kept.json")
    for each in (tokenizer, Tokenizer.load(tmp_path / "kept.json"), pickle.loads(pickle.dumps(tokenizer))):
        assert each.encode("a hook", 5).tolist() == wanted
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "kept.json"))
    assert library.encode("a hook").ids == wanted[:3]  # the library reads the same of it


@pytest.mark.parametrize(
    ("specials", "settings", "said"),
    [
        (["[PAD]", "[SEP]"], {}, r"no begin token \(none of .*\[CLS\].*config.data.tokenizer.begin, or ''"),
        (["[PAD]", "[CLS]"], {}, r"no end token \(none of .*\[SEP\].*config.data.tokenizer.end"),
        (["[CLS]", "[SEP]"], {}, r"no padding token \(none of .*\[PAD\].*config.data.tokenizer.padding"),
        (["[PAD]", "[CLS]", "[SEP]"], {"begin": "<x>"}, "config.data.tokenizer.begin='<x>' is no token"),
        (["[PAD]", "[CLS]", "[SEP]"], {"padding": ""}, "config.data.tokenizer.padding='' is no token"),
    ],
)
def test_what_a_file_lacks_is_named(tmp_path, specials, settings, said):
    path, _ = words(tmp_path, specials)
    with pytest.raises(InputError, match=said):
        File(str(path), **settings).train()


def test_sentencepiece_models(model, tmp_path):
    own = sentencepiece.SentencePieceProcessor(model_file=str(model / "begin.model"))
    tokenizer = File(str(model / "begin.model")).train()
    pieces = own.encode("the small letter of the hook")
    wanted = [1, *pieces, 2, 3, 3]
    tokenizer.save(tmp_path / "tokenizer.json")
    json.loads((tmp_path / "tokenizer.json").read_text())
    kept = Tokenizer.load(tmp_path / "tokenizer.json")
    for each in (tokenizer, kept, pickle.loads(pickle.dumps(tokenizer))):
        assert each.encode("the small letter of the hook", len(wanted)).tolist() == wanted
        assert each.encode("the small letter of the hook", 5).tolist() == [1, *pieces[:3], 2]
        assert (len(each), each.padding) == (own.get_piece_size(), 3)


def test_a_sentencepiece_model_without_a_begin_token(model, tmp_path):
    with pytest.raises(InputError, match=r"no begin token .* or '' to go without"):
        File(str(model / "t5.model")).train()
    tokenizer = File(str(model / "t5.model"), begin="").train()
    tokenizer.save(tmp_path / "tokenizer.json")
    encoded = Tokenizer.load(tmp_path / "tokenizer.json").encode("the hook", 12).tolist()
    assert encoded[encoded.index(1) :] == [1] + [0] * (11 - encoded.index(1))


def test_a_folder_and_what_is_no_tokenizer(model, tmp_path, monkeypatch):
    words(tmp_path, ["[PAD]", "[CLS]", "[SEP]"])[0].rename(tmp_path / "tokenizer.json")
    assert len(File(str(tmp_path)).train()) == 10
    with pytest.raises(InputError, match=r"none/tokenizer.json: cannot be read|none: cannot be read"):
        File(str(tmp_path / "none")).train()
    for content in (b"", b"\x80\x04 a pickle", (model / "t5.model").read_bytes()[:100], b'{"no": 1}'):
        (tmp_path / "other.model").write_bytes(content)
        with pytest.raises(InputError, match=r"other.model: damaged or of another kind") as error:
            File(str(tmp_path / "other.model")).train()
        assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(InputError, match=r"pip install 'contrastive-jax\[text\]'"):
        File(str(model / "t5.model")).train()


def test_ids_are_those_of_the_library(tmp_path):
    path, _ = words(tmp_path, ["[PAD]", "[CLS]", "[SEP]"], template(["[CLS]"], ["[SEP]"]), "[PAD]")
    library = tokenizers.Tokenizer.from_file(str(path))
    library.enable_truncation(7)
    library.enable_padding(pad_id=0, pad_token="[PAD]", length=7)
    tokenizer = File(str(path)).train()
    for text in ("", "a", "the small", "a b c d e f g h", " ".join(WORDS * 3)):
        np.testing.assert_array_equal(tokenizer.encode(text, 7), library.encode(text).ids)


def bombs():
    plain = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    nested = {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [double] * 20}] * 2}
    yield "a normalizer that doubles 40 times", plain, nested, "more than 65,536 times as long"
    long = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 100_000}
    yield "a long text for a letter", plain, long, "more than 65,536 times as long"
    yield "a large id", plain | {"vocab": {"a": 0, "b": 4_000_000_000}}, None, "it has the id 4000000000"


@pytest.mark.parametrize(("model", "normalizer", "words"), [pytest.param(*b[1:], id=b[0]) for b in bombs()])
def test_files_that_would_exhaust_the_memory(tmp_path, model, normalizer, words):
    content = {"version": "1.0", "added_tokens": [], "normalizer": normalizer, "model": model}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        File(str(tmp_path / "tokenizer.json"), begin="", end="", padding="a").train()


def folder_of(folder, tokenizer=None, model=None, **beside):
    """A folder of another library: a tokenizer and JSON beside it, by name."""
    folder.mkdir(exist_ok=True)
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
    if model is not None:
        (folder / "spiece.model").write_bytes(model)
    for name, content in beside.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return str(folder)


def bert(lowercase=False):
    vocabulary = {
        token: n for n, token in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "A", "é", "e"])
    }
    made = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


@pytest.mark.parametrize(
    ("stated", "beside", "wanted"),
    [
        (False, {}, [5, 6]),
        (True, {}, [4, 6]),
        (False, {"tokenizer_config": {"do_lower_case": True}}, [4, 6]),
        (True, {"tokenizer_config": {"do_lower_case": False}}, [5, 6]),
        (False, {"tokenizer_config": {"do_lower_case": True, "strip_accents": True}}, [4, 7]),
        (False, {"sentence_bert_config": {"do_lower_case": True}}, [4, 6]),
        (False, {"sentence_bert_config": {"do_lower_case": False}}, [5, 6]),
    ],
)
def test_what_stands_beside_a_tokenizer_is_applied_and_kept(tmp_path, stated, beside, wanted):
    tokenizer = File(folder_of(tmp_path / "of", bert(stated), **beside)).train()
    tokenizer.save(tmp_path / "tokenizer.json")
    for each in (
        tokenizer,
        Tokenizer.load(tmp_path / "tokenizer.json"),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert each.own("A é", 9).tolist() == wanted


@pytest.mark.parametrize("space", [True, False])
def test_a_space_before_a_text_is_as_the_folder_says(tmp_path, space):
    vocabulary = {"<s>": 0, "</s>": 1, "<pad>": 2, "a": 3, "\u0120a": 4}
    made = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=not space)
    folder = folder_of(tmp_path / "of", made, tokenizer_config={"add_prefix_space": space})
    assert File(folder).train().own("a", 9).tolist() == [4 if space else 3]
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=False)])
    folder = folder_of(tmp_path / "of", made, tokenizer_config={"add_prefix_space": space})
    if space:
        with pytest.raises(InputError, match="puts no space before a text: write it anew"):
            File(folder).train()
    else:
        assert File(folder).train().own("a", 9).tolist() == [3]


def test_siglips_texts_lose_capitals_and_punctuation(model, tmp_path):
    own = sentencepiece.SentencePieceProcessor(model_file=str(model / "begin.model"))
    content = (model / "begin.model").read_bytes()
    siglip = {"tokenizer_class": "SiglipTokenizer", "do_lower_case": True}
    tokenizer = File(folder_of(tmp_path / "of", model=content, tokenizer_config=siglip)).train()
    tokenizer.save(tmp_path / "tokenizer.json")
    for each in (
        tokenizer,
        Tokenizer.load(tmp_path / "tokenizer.json"),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        got = each.own("The  SMALL, letter\tof (the) hook!", 40).tolist()
        assert got == own.encode("the small letter of the hook")
    plain = File(folder_of(tmp_path / "of", model=content, tokenizer_config={})).train()
    assert plain.own("The hook!", 40).tolist() == own.encode("The hook!")
    other = {"tokenizer_class": "AlbertTokenizer", "do_lower_case": True}
    with pytest.raises(InputError, match="do_lower_case=True of a AlbertTokenizer is not known here"):
        File(folder_of(tmp_path / "of", model=content, tokenizer_config=other)).train()


@pytest.mark.parametrize(
    "there", [("vocab.txt",), ("vocab.json", "merges.txt"), ("sentencepiece.bpe.model",), ()]
)
def test_a_folder_without_a_tokenizers_file_says_what_to_do(tmp_path, there):
    for name in there:
        (tmp_path / name).write_bytes(b"x")
    has = f"it has {' and '.join(there)} alone" if there else "it has no tokenizer"
    with pytest.raises(
        InputError, match=rf"{has}, and tokenizer.json is read: write it once .*save_pretrained"
    ):
        File(str(tmp_path)).train()
