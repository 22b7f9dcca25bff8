"""What stands beside a tokenizer's file and changes what it does: applied, or refused by name.

`transformers` and sentence-transformers read a folder as a whole. Their classes set a tokenizer anew by what
`tokenizer_config.json` says, and lower-case texts where `sentence_bert_config.json` says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers, pre_tokenizers

from contrastive_jax.data.vocabularies import Pieces, SentencePieces, Vocabulary
from contrastive_jax.errors import InputError
from contrastive_jax.named_files import read_json

# The switches of BERT's normalizer: how tokenizer_config.json and how the tokenizer itself calls them.
_BERT = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_WITHOUT = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def file_of(folder: Path) -> Path:
    """The tokenizer's file in a folder: its `tokenizer.json`, or else a sentencepiece model.

    Raises:
      InputError: there is neither.
    """
    models = sorted(folder.glob("*.model"))
    if (folder / "tokenizer.json").exists():
        return folder / "tokenizer.json"
    if models and models[0].name != "sentencepiece.bpe.model":  # whose ids XLM-R moves by one
        return models[0]
    found = [name for name in _WITHOUT if (folder / name).exists()]
    has = f"it has {' and '.join(found)} alone" if found else "it has no tokenizer"
    raise InputError(
        f"tokenizer {folder}: {has}, and tokenizer.json is read: write it once with transformers, "
        f"AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
    )


def settled(vocabulary: Vocabulary, folder: Path) -> Vocabulary:
    """The vocabulary of a file in `folder` as the folder's other files have it.

    Raises:
      InputError: they say what is not known here.
    """
    config, sentences = (
        _beside(folder / name) for name in ("tokenizer_config.json", "sentence_bert_config.json")
    )
    lower = sentences.get("do_lower_case") is True
    if isinstance(vocabulary, SentencePieces):
        kind = str(config.get("tokenizer_class", "")).removesuffix("Fast")
        if kind == "SiglipTokenizer":
            return vocabulary.canonical()
        if lower or config.get("do_lower_case") is True:
            raise InputError(
                f"tokenizer {folder}: do_lower_case=True of a {kind or 'sentencepiece model'} is not known "
                "here; write its tokenizer.json with transformers, or set do_lower_case to false"
            )
    elif isinstance(vocabulary, Pieces):
        _settle(vocabulary.tokenizer, config, folder)
        if lower and _normalized(vocabulary.tokenizer, "A") == "A":
            own = vocabulary.tokenizer.normalizer
            steps = [normalizers.Lowercase(), *([own] if own is not None else [])]
            vocabulary.tokenizer.normalizer = normalizers.Sequence(steps)
    return vocabulary


def _settle(tokenizer: Tokenizer, config: dict[str, Any], folder: Path) -> None:
    """Sets the parts of a tokenizer as `transformers` does from `tokenizer_config.json`."""
    normalizer, before = tokenizer.normalizer, tokenizer.pre_tokenizer
    if isinstance(normalizer, normalizers.BertNormalizer):
        for name, own in _BERT.items():
            if name in config and isinstance(config[name], bool | None):
                setattr(normalizer, own, config[name])
        tokenizer.normalizer = normalizer
    wanted = config.get("add_prefix_space")
    if isinstance(before, pre_tokenizers.ByteLevel) and isinstance(wanted, bool):
        before.add_prefix_space = wanted
        tokenizer.pre_tokenizer = before
    elif wanted is True and "ByteLevel" in str(before) and not _begins_with_space(before):
        raise InputError(
            f"tokenizer {folder}: add_prefix_space=True in tokenizer_config.json, and tokenizer.json puts no "
            "space before a text: write it anew with transformers"
        )


def _begins_with_space(before: pre_tokenizers.PreTokenizer) -> bool:
    return before.pre_tokenize_str("a")[0][0] == "\u0120a"  # how ByteLevel writes a space


def _normalized(tokenizer: Tokenizer, text: str) -> str:
    return text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)


def _beside(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}
