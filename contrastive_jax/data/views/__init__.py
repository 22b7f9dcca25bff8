"""What a model sees of a record: arrays of a declared shape."""

from contrastive_jax.data.views.glyph import Glyph
from contrastive_jax.data.views.photo import Photo
from contrastive_jax.data.views.text import Text

KINDS = {"glyph": Glyph, "photo": Photo, "text": Text}

__all__ = ["KINDS", "Glyph", "Photo", "Text"]
