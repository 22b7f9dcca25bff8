"""Pictures looked at and made smaller before training."""

import io

import numpy as np
import pytest
from PIL import Image

from contrastive_jax.data.pictures import _tell_dark, as_array, is_picture, look, shrink
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views import Photo


def encoded(kind="PNG", size=(40, 30), mode="RGB", **options):
    levels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "RGBA", "P", "LA", "1")),
        *(("GIF", "P"), ("WEBP", "RGB")),
    ],
)
def test_a_picture_is_what_it_says_and_half_of_it_is_found_out(kind, mode):
    content = encoded(kind, mode=mode)
    seen = look(content)
    assert (seen.width, seen.height, seen.format) == (40, 30, kind)
    assert is_picture("any", content)
    for torn in (content[: len(content) // 2], content[:20], b""):
        with pytest.raises(BrokenRecord, match="cannot be decoded"):
            look(torn)
    with Image.open(io.BytesIO(shrink(content, 15))) as small:
        assert small.size == (20, 15)
        assert small.format == (kind if kind in ("JPEG", "WEBP") else "PNG")
    assert shrink(content, 30) == content
    assert as_array(content, 16).shape == (12, 16, 3)


def test_what_is_turned_by_exif_lies_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded("JPEG", exif=exif)
    with Image.open(io.BytesIO(shrink(content, 15))) as small:
        assert small.size == (15, 20)
        assert not small.getexif()


def test_a_bomb_is_refused_by_its_size_alone(monkeypatch):
    """Ten thousand squared pixels of one colour are 15 KB of PNG."""
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    for use in (look, lambda content: shrink(content, 8), lambda content: as_array(content, 8)):
        with pytest.raises(BrokenRecord, match=r"too large \(10000 x 10000\)"):
            use(buffer.getvalue())


def test_other_bytes_are_no_picture_unless_they_are_called_one():
    assert not is_picture("audio", b"RIFF....WAVE")
    assert not is_picture("audio", "text")
    assert is_picture("image", b"RIFF....WAVE")
    with pytest.raises(BrokenRecord, match="no format that is read"):
        look(b"RIFF....WAVE")


def test_sixteen_bits_become_the_upper_eight():
    levels = np.arange(64 * 64).reshape(64, 64).astype(np.uint16) * 16
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    with Image.open(io.BytesIO(shrink(buffer.getvalue(), 16))) as small:
        assert abs(np.asarray(small).mean() - (levels >> 8).mean()) < 1
    assert abs(as_array(buffer.getvalue(), 16).mean() - (levels >> 8).mean()) < 1


def test_floats_are_no_picture():
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64), 3000, np.float32)).save(buffer, "TIFF")
    for use in (lambda content: shrink(content, 16), lambda content: as_array(content, 16)):
        with pytest.raises(BrokenRecord, match="floats; give 8 or 16 bits"):
            use(buffer.getvalue())


def test_a_telephones_jpeg_stays_one():
    buffer, image = io.BytesIO(), Image.new("RGB", (64, 48))
    image.save(buffer, "MPO", save_all=True, append_images=[image])
    assert look(buffer.getvalue()).format == "MPO"
    assert look(shrink(buffer.getvalue(), 16)).format == "JPEG"


def test_postscript_is_never_executed(monkeypatch):
    content = encoded("EPS")
    monkeypatch.setattr(
        "PIL.EpsImagePlugin.Ghostscript", lambda *arguments: pytest.fail("it was executed"), raising=True
    )
    uses = [look, lambda content: shrink(content, 8), lambda content: as_array(content, 8)]
    uses.append(lambda content: Photo(resolution=8)({"image": content}, np.random.default_rng(0), True))
    for use in uses:
        with pytest.raises(BrokenRecord, match="PostScript"):
            use(content)
    assert not is_picture("drawing", content)


@pytest.mark.parametrize("kind", ["FITS", "WMF", "GRIB"])
def test_formats_of_other_trades_are_no_pictures(kind):
    starts = {"FITS": b"SIMPLE  =", "WMF": b"\xd7\xcd\xc6\x9a\0\0", "GRIB": b"GRIB\0\0\0\1"}
    with pytest.raises(BrokenRecord, match="no format that is read"):
        look(starts[kind].ljust(3000, b"\0" if kind != "FITS" else b" "))


@pytest.mark.parametrize("use", [look, lambda content: shrink(content, 8), lambda c: shrink(c, 99)])
def test_what_training_refuses_is_refused_by_all_that_look(use):
    content = io.BytesIO()
    Image.fromarray(np.ones((16, 16), np.float32)).save(content, "TIFF")
    with pytest.raises(BrokenRecord, match="numbers are floats"):
        use(content.getvalue())


@pytest.mark.parametrize(("factor", "told"), [(16, 1), (257, 0)])
def test_twelve_bits_in_sixteen_are_told_once(caplog, factor, told):
    _tell_dark.cache_clear()
    content = io.BytesIO()
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * factor
    Image.fromarray(grey).save(content, "TIFF")
    for _ in range(3):
        look(content.getvalue())
    said = [record.getMessage() for record in caplog.records]
    assert len([words for words in said if "no number over 4095" in words]) == told
