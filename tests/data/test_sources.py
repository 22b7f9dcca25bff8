import pytest

from contrastive_jax.data.glyphs import Glyphs
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError


def test_glyphs_by_name():
    assert len(open_source("glyphs")) == len(open_source("glyphs:train")) == len(Glyphs("train"))
    assert len(open_source("glyphs:held_out")) == len(Glyphs("held_out"))
    assert len(open_source("glyphs:held_out_characters")) == len(Glyphs("held_out", one_per_character=True))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("glyps", "did you mean glyphs?"),
        ("glyphs:heldout", "did you mean held_out?"),
        ("glyphs:held_out_character", "did you mean held_out_characters?"),
        ("parquet:x", "known: glyphs, jsonl"),
        ("jsonl", "jsonl:path"),
        ("jsonl:nowhere/at/all.jsonl", "nowhere/at/all.jsonl"),
    ],
)
def test_a_wrong_name_says_what_is_right(spec, words):
    with pytest.raises(InputError) as error:
        open_source(spec)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
