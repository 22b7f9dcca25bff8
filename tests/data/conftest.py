import os

import pytest
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def glyph_cache(tmp_path_factory):
    """One rendering for all tests here, away from the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("CONTRASTIVE_JAX_CACHE")
    os.environ["CONTRASTIVE_JAX_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["CONTRASTIVE_JAX_CACHE"]
    else:
        os.environ["CONTRASTIVE_JAX_CACHE"] = before


@pytest.fixture
def captions(tmp_path):
    """Forty pictures of plain colours with captions; picture 7 is no picture and line 30 is no JSON."""
    lines = []
    for number in range(40):
        Image.new("RGB", (40, 30), (number, 2 * number, 3 * number)).save(tmp_path / f"{number}.png")
        lines.append(f'{{"image": "{number}.png", "text": "shade {number}"}}\n')
    (tmp_path / "7.png").write_bytes(b"no picture")
    lines[30] = '{"image": \n'
    (tmp_path / "captions.jsonl").write_text("".join(lines))
    return tmp_path / "captions.jsonl"
