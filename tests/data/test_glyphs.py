import os
import pickle
import signal
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.glyphs import Glyphs, look_alikes


@pytest.fixture(scope="module")
def train():
    return Glyphs("train")


@pytest.fixture(scope="module")
def held_out():
    return Glyphs("held_out")


def test_the_splits_part_all_pictures(train, held_out):
    assert len(train) + len(held_out) == len(Glyphs("all"))
    assert 0.07 < len(held_out) / len(Glyphs("all")) < 0.13


def test_nothing_held_out_is_trained_on(train, held_out):
    for name in ("character", "picture", "look_alike", "text"):
        assert set(train.column(name)).isdisjoint(held_out.column(name))
    # The bytes themselves, as the records give them.
    trained = {train[index]["image"].tobytes() for index in range(len(train))}
    assert not any(held_out[index]["image"].tobytes() in trained for index in range(len(held_out)))


def test_equal_bytes_are_the_same_picture(held_out):
    by_bytes = {}
    for index in range(len(held_out)):
        record = held_out[index]
        assert by_bytes.setdefault(record["image"].tobytes(), record["picture"]) == record["picture"]
    assert len(by_bytes) == len(set(by_bytes.values()))


def test_a_record():
    glyphs = Glyphs("all")
    record = glyphs[glyphs.column("text").index("LATIN SMALL LETTER A WITH BREVE AND GRAVE")]
    assert record["image"].shape == (32, 32)
    assert record["image"].dtype == np.uint8
    assert chr(record["character"]) == "\N{LATIN SMALL LETTER A WITH BREVE AND GRAVE}"
    assert (record["script"], record["face"]) == ("Latin", "DejaVuSans")
    assert record["key"] == "1EB1-DejaVuSans"
    assert glyphs[record["record"]]["key"] == record["key"]
    assert len(set(glyphs.column("key"))) == len(glyphs)
    assert record["picture"].dtype == record["character"].dtype == record["look_alike"].dtype == np.int32


def test_columns_agree_with_records(held_out):
    for name in ("key", "record", "text", "script", "face", "character", "picture", "look_alike"):
        column = held_out.column(name)
        assert len(column) == len(held_out)
        for index in range(0, len(held_out), 97):
            assert column[index] == held_out[index][name]
    with pytest.raises(KeyError):
        held_out.column("colour")


def test_letters_that_look_alike_stand_together():
    glyphs = Glyphs("all", one_per_character=True)
    group = dict(zip(glyphs.column("text"), glyphs.column("look_alike").tolist()))
    one = group["LATIN CAPITAL LETTER A"]
    assert group["GREEK CAPITAL LETTER ALPHA"] == group["CYRILLIC CAPITAL LETTER A"] == one == ord("A")
    assert group["LATIN SMALL LETTER A"] != one


def test_one_picture_a_character(held_out):
    characters = Glyphs("held_out", one_per_character=True)
    assert 550 < len(characters) < 750
    assert characters.column("character").tolist() == sorted(set(held_out.column("character").tolist()))
    with_sans = {
        character
        for character, face in zip(held_out.column("character"), held_out.column("face"))
        if face == "DejaVuSans"
    }
    for character, face in zip(characters.column("character"), characters.column("face")):
        assert (face == "DejaVuSans") == (character in with_sans)
    assert len(set(characters.column("script"))) >= 10


def test_names_are_those_of_unicodedata(held_out):
    for character, text in zip(held_out.column("character").tolist(), held_out.column("text")):
        assert unicodedata.name(chr(character)) == text


def test_pickles_small_and_comes_back(held_out):
    parcel = pickle.dumps(held_out)
    assert len(parcel) < 1000
    again = pickle.loads(parcel)
    assert np.array_equal(again[11]["image"], held_out[11]["image"])
    assert len(again) == len(held_out)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=25))
def test_look_alikes_are_the_connected_components(pairs):
    character, picture = np.array(pairs, np.int32).T
    group = look_alikes(character, picture)
    reach = {one: {one} for one in character.tolist()}
    for _ in pairs:
        for one, shown in pairs:
            for other, also_shown in pairs:
                if shown == also_shown:
                    reach[one] |= reach[other]
    assert group.tolist() == [min(reach[one]) for one in character.tolist()]


def test_a_kill_while_rendering_loads_well_after(tmp_path):
    environment = os.environ | {"CONTRASTIVE_JAX_CACHE": str(tmp_path)}
    load = "from contrastive_jax.data.glyphs import Glyphs; print(len(Glyphs('all')), flush=True)"
    process = subprocess.Popen([sys.executable, "-c", load], env=environment)
    time.sleep(1.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run([sys.executable, "-c", load], env=environment, capture_output=True, text=True)
    assert int(done.stdout) == len(Glyphs("all"))
