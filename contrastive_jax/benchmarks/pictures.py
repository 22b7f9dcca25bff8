"""Captioned pictures made up for a benchmark, in tars as img2dataset writes them."""

from __future__ import annotations

import io
import tarfile
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

_A_TAR = 256
_DISTINCT = 256  # pictures: more take long to make, and fewer records would be shuffled unlike a real set
_GRAIN = 12.0  # noise of a camera, in levels: with it the files are as large as photographs of this size


def write_tars(folder: Path, count: int, size: tuple[int, int] = (500, 375), quality: int = 90) -> str:
    """`count` JPEG files with captions, the pictures of 256 kinds; the pattern of the tars, to be opened as
    `webdataset:`.

    A picture is a sum of smooth random fields of five scales, with grain; a caption is Unicode names.

    Args:
        folder: where the tars go.
        size: width and height; the mean of ImageNet's pictures.
        quality: of the JPEG files.
    """
    rng = np.random.default_rng(0)
    names = [unicodedata.name(chr(code), "") for code in range(0x100, 0x2000)]
    names = [name.lower() for name in names if name]
    pictures = [_picture(rng, size, quality) for _ in range(min(count, _DISTINCT))]
    for start in range(0, count, _A_TAR):
        with tarfile.open(folder / f"{start // _A_TAR:05d}.tar", "w") as tar:
            for number in range(start, min(start + _A_TAR, count)):
                chosen = [names[i] for i in rng.integers(len(names), size=3)]
                _add(tar, f"{number:09d}.jpg", pictures[number % _DISTINCT])
                _add(tar, f"{number:09d}.txt", ", ".join(chosen).encode())
    return str(folder / "*.tar")


def _picture(rng: np.random.Generator, size: tuple[int, int], quality: int) -> bytes:
    total = rng.normal(0, _GRAIN, (size[1], size[0], 1)).astype(np.float32)
    for power in range(5):
        coarse = rng.integers(0, 256, (3 * 2**power, 4 * 2**power, 3), np.uint8)
        field = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        total = total + np.asarray(field, np.float32) / 2 ** (power + 1)
    content = io.BytesIO()
    Image.fromarray(np.clip(total, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=quality)
    return content.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
