import io
import json

import numpy as np
from known_embeddings import KnownEmbeddings
from matplotlib.colors import to_rgba
from PIL import Image

from contrastive_jax.data.lines import JSONLines
from contrastive_jax.data.views import Glyph, Photo, Text
from contrastive_jax.evaluation import Retrieval
from contrastive_jax.evaluation.contact_sheet import contact_sheet
from contrastive_jax.evaluation.embedding import Listed


def is_framed(axes):
    return axes.axison and axes.spines["left"].get_edgecolor() == to_rgba("tab:green")


def content(axes):
    """The text or the picture in a cell, or None."""
    if axes.images:
        return np.asarray(axes.images[0].get_array())
    return axes.texts[0].get_text() if axes.texts else None


def cells(figure, answers):
    """[panel, row][query, answers...] in the order of the queries, without the empty places."""
    grid = np.array(figure.axes).reshape(-1, 2, answers + 2).swapaxes(0, 1).reshape(-1, answers + 2)
    return [row for row in grid if content(row[0]) is not None]


def drawn(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return Image.open(buffer).size


def test_right_answers_and_no_others_are_framed():
    """Even texts find their picture second; odd ones find it nowhere among their two."""
    n = 6
    pictures = [np.full((32, 32), number, np.uint8) for number in range(n)]
    records = [{"record": i, "text": f"NAME {i}", "image": pictures[i], "picture": i} for i in range(n)]
    shown = np.eye(n)
    texts = np.stack([2 * shown[(i + 1) % n] + shown[i if i % 2 == 0 else (i + 2) % n] for i in range(n)])
    views = {"text": Text(), "image": Glyph()}
    functions = {"text": lambda r: texts[r["record"]], "image": lambda r: shown[r["record"]]}
    embed, retrieval = KnownEmbeddings(views, functions), Retrieval("text", "image", ("picture",))
    figure = contact_sheet(retrieval, embed, Listed("made up", records), queries=5, answers=2)
    rows = cells(figure, answers=2)
    assert [content(row[0]) for row in rows] == ["NAME 0", "NAME 1", "NAME 2", "NAME 3", "NAME 5"]
    for row, number in zip(rows, (0, 1, 2, 3, 5)):
        assert content(row[1])[0, 0] == 255 - (number + 1) % n  # ink on paper
        assert [is_framed(axes) for axes in row] == [False, False, number % 2 == 0, False]
    assert min(drawn(figure)) > 50


def test_captioned_pictures_in_files(tmp_path):
    with open(tmp_path / "captions.jsonl", "w") as file:
        for number in range(3):
            Image.new("RGB", (60, 40), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
            file.write(
                json.dumps({"image": f"{number}.png", "text": f"a long {'word ' * 40}{number}"}) + "\n"
            )
    views = {"text": Text(), "image": Photo()}
    functions = dict.fromkeys(views, lambda record: np.eye(3)[record["record"]])
    embed, retrieval = KnownEmbeddings(views, functions), Retrieval("text", "image", ("record",))
    source = JSONLines(str(tmp_path / "captions.jsonl"))
    rows = cells(contact_sheet(retrieval, embed, source), answers=3)
    assert len(rows) == 3
    for number, row in enumerate(rows):
        assert [is_framed(axes) for axes in row] == [False, True, False, False, False]
        assert content(row[0]).startswith("a long word")
        assert content(row[1])[0, 0, 0] == 80 * number
    images_first = Retrieval("image", "text", ("record",))
    figure = contact_sheet(images_first, embed, source)
    assert [content(row[0]).shape for row in cells(figure, answers=3)] == [(40, 60, 3)] * 3
    drawn(figure)


def test_a_picture_that_cannot_be_decoded_says_so(monkeypatch):
    """Records that a model has read may be drawn by another decoder, with limits of its own."""
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40)).save(buffer, format="png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    pictures = [buffer.getvalue(), buffer.getvalue()[:60]]
    records = [{"record": i, "text": f"{i}", "image": pictures[i]} for i in range(2)]
    views = {"text": Text(), "image": Photo()}
    functions = dict.fromkeys(views, lambda record: np.eye(2)[record["record"]])
    embed, retrieval = KnownEmbeddings(views, functions), Retrieval("text", "image", ("record",))
    rows = cells(contact_sheet(retrieval, embed, Listed("made up", records)), answers=2)
    assert [content(row[1]) for row in rows] == ["cannot be decoded"] * 2
    assert all(is_framed(row[1]) for row in rows)


def test_two_faces_of_a_character():
    pictures = np.random.default_rng(0).integers(0, 255, (8, 32, 32), np.uint8)
    records = [{"record": i, "image": pictures[i], "character": i // 2} for i in range(8)]
    views = {"a": Glyph(member=0), "b": Glyph(member=1)}
    functions = dict.fromkeys(views, lambda record: np.eye(4)[record["character"]])
    retrieval = Retrieval("a", "b", ("character",), group="character")
    figure = contact_sheet(
        retrieval, KnownEmbeddings(views, functions), Listed("made up", records), answers=1
    )
    rows = cells(figure, answers=1)
    for character, row in enumerate(rows):
        np.testing.assert_array_equal(content(row[0]), 255 - pictures[2 * character])
        np.testing.assert_array_equal(content(row[1]), 255 - pictures[2 * character + 1])
        assert is_framed(row[1])
    assert len(rows) == 4
    drawn(figure)
