"""What a refusal looks like, and the run that the tests of commands share."""

from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs"
GLYPHS = f"{CONFIGS}/glyphs.py:small"
TINY = [
    "--config.steps=4",
    "--config.batch_size=16",
    "--config.checkpoint.every=2",
    "--config.logging.every=1",
    "--config.encoders.text.depth=1",
    "--config.encoders.image.depth=1",
]


def refused(result, *words, code=2):
    returned, out, err = result
    assert returned == code, err
    assert out == ""
    assert err.startswith("contrastive-jax: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err
