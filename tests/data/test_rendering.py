import unicodedata

import numpy as np
import pytest

from contrastive_jax.data import rendering


@pytest.fixture(scope="module")
def table():
    return rendering.render()


def test_all_named_characters_of_the_twelve_faces_are_there(table):
    assert 45_000 < len(table["character"]) < 46_500
    assert 6_400 < len(np.unique(table["character"])) < 6_600
    assert len(np.unique(table["face"])) == len(rendering.FACES) == 12
    assert all(unicodedata.name(chr(codepoint)) for codepoint in np.unique(table["character"]))


def test_no_picture_is_empty_and_no_two_are_equal(table):
    assert table["pictures"].any(axis=(1, 2)).all()
    assert len({picture.tobytes() for picture in table["pictures"]}) == len(table["pictures"])
    assert np.array_equal(np.unique(table["picture"]), np.arange(len(table["pictures"])))


def test_rows_stand_by_character_and_face(table):
    key = table["character"].astype(np.int64) * len(rendering.FACES) + table["face"]
    assert (np.diff(key) > 0).all()


def test_rendering_again_gives_the_same_bytes(table):
    again = rendering.render()
    assert all(again[name].tobytes() == column.tobytes() for name, column in table.items())


def picture(table, letter, face="DejaVuSans"):
    at = (table["character"] == ord(letter)) & (table["face"] == rendering.FACES.index(face))
    return table["pictures"][table["picture"][at][0]]


def ink(image):
    rows, columns = np.nonzero(image)
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_sizes_and_places_tell_characters_apart(table):
    small, capital = ink(picture(table, "o")), ink(picture(table, "O"))
    assert small[0] > capital[0] + 3
    assert abs(small[1] - capital[1]) <= 1
    left, right = ink(picture(table, "\N{BRAILLE PATTERN DOTS-1}")), ink(picture(table, "\u2808"))
    assert left[3] < right[2]
    assert ink(picture(table, "-"))[0] < ink(picture(table, "_"))[0]


def test_letters_stand_in_the_middle(table):
    top, bottom, left, right = ink(picture(table, "M"))
    assert abs(left - (31 - right)) <= 2
    assert top >= 4
    assert bottom <= 27


def test_wide_characters_are_made_smaller_not_cut(table):
    # In the font it is as tall as the per cent sign, and wider than the picture.
    wide, narrow = (ink(picture(table, letter)) for letter in ("\N{PER TEN THOUSAND SIGN}", "%"))
    assert wide[3] - wide[2] >= 28
    assert (wide[1] - wide[0]) / (narrow[1] - narrow[0]) < 0.9
