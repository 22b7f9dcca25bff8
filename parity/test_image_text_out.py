"""Our models of pictures and texts, as transformers and open_clip load them by their ordinary calls."""

import jax
import numpy as np
import open_clip
import pytest
import torch
import transformers
from agreement import TOLERANCE, error
from image_text_models import LENGTH, TEXTS, image_encoder, model, projections, text_encoder, tokenizer
from PIL import Image

from contrastive_jax import interop
from contrastive_jax.encoders.heads import Linear

PICTURES = np.random.default_rng(2).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def normalized(pictures, mean=(0.5,), std=(0.5,)):
    """What the library's own preprocessing makes of the pictures."""
    values = (pictures / 255 - np.array(mean)) / np.array(std)
    return torch.tensor(np.moveaxis(values.astype(np.float32), -1, 1))


def ours_of(made, part, view):
    return jax.jit(lambda params, view: made.embed(params, part, view))(made.params, view)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def encoded(made_tokenizer):
    return np.stack([made_tokenizer.encode(text, LENGTH) for text in TEXTS])


PAIRS = {
    "the paper's": lambda: (image_encoder(first_norm=True, patch_bias=False), text_encoder(), projections()),
    "a bias of the patches": lambda: (
        image_encoder(first_norm=True, activation="gelu", mean=MEAN, std=STD),
        text_encoder(activation="gelu_tanh"),
        projections(),
    ),
    "no projections": lambda: (image_encoder(first_norm=True), text_encoder(), {}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_clip_model(tmp_path, name):
    image, text, heads = PAIRS[name]()
    words, vocabulary = tokenizer(tmp_path)
    made = model(image, text, heads, vocabulary=vocabulary, scale=20.0)
    interop.save("huggingface", made, tmp_path / "out")
    theirs = transformers.CLIPModel.from_pretrained(tmp_path / "out").eval()
    batch = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")(
        TEXTS, padding="max_length", return_tensors="pt"
    )
    ids = encoded(words)
    np.testing.assert_array_equal(batch["input_ids"], ids)
    pixels = normalized(PICTURES, image.mean, image.std)
    with torch.no_grad():
        found = theirs(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], pixel_values=pixels
        )
    assert error(ours_of(made, "image", PICTURES), found.image_embeds) < TOLERANCE
    assert error(ours_of(made, "text", ids), found.text_embeds) < TOLERANCE
    assert theirs.logit_scale.exp().item() == pytest.approx(20.0)


def test_the_processor_of_a_pair_does_what_our_views_do(tmp_path):
    image, text, heads = PAIRS["a bias of the patches"]()
    words, vocabulary = tokenizer(tmp_path)
    made = model(image, text, heads, vocabulary=vocabulary)
    interop.save("huggingface", made, tmp_path / "out")
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "out")
    batch = processor(
        text=TEXTS, images=[Image.fromarray(x) for x in PICTURES], padding="max_length", return_tensors="pt"
    )
    np.testing.assert_array_equal(batch["input_ids"], encoded(words))
    np.testing.assert_allclose(batch["pixel_values"], normalized(PICTURES, MEAN, STD), atol=1e-5)
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 60, 3), dtype=np.uint8))
    assert processor(images=wide, return_tensors="pt")["pixel_values"].shape == (1, 3, 24, 24)


def test_siglip_model(tmp_path):
    words, vocabulary = tokenizer(tmp_path)
    siglip = dict(activation="gelu_tanh", epsilon=1e-6)
    text = text_encoder(**siglip, causal=False, padding=None, end=None)
    heads = {"text": Linear(features=32, bias=True)}
    made = model(
        image_encoder(**siglip, pooling="map"), text, heads, scale=10.0, bias=-9.0, vocabulary=vocabulary
    )
    interop.save("huggingface", made, tmp_path / "out")
    theirs = transformers.SiglipModel.from_pretrained(tmp_path / "out").eval()
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "out")
    batch = processor(text=TEXTS, images=[Image.fromarray(x) for x in PICTURES], padding="max_length")
    np.testing.assert_array_equal(batch["input_ids"], encoded(words))
    np.testing.assert_allclose(np.stack(batch["pixel_values"]), normalized(PICTURES), atol=1e-5)
    ids = np.random.default_rng(0).integers(0, 60, (4, LENGTH)).astype(np.int32)
    with torch.no_grad():
        found = theirs(input_ids=torch.tensor(ids), pixel_values=normalized(PICTURES))
    ours = [ours_of(made, part, view) for part, view in (("image", PICTURES), ("text", ids))]
    assert error(ours[0], found.image_embeds) < TOLERANCE
    assert error(ours[1], found.text_embeds) < TOLERANCE
    assert error(10 * np.asarray(ours[1]) @ np.asarray(ours[0]).T - 9, found.logits_per_text) < TOLERANCE


DINO = dict(activation="gelu", layer_scale=0.5, mlp=128)
SWIGLU = dict(activation="swiglu", layer_scale=0.5, mlp=88)
LONE = {
    "ViTModel": image_encoder(activation="gelu"),
    "Dinov2Model": image_encoder(**DINO),
    "Dinov2Model with SwiGLU": image_encoder(**SWIGLU),
    "Dinov2WithRegistersModel": image_encoder(**DINO, registers=4),
    "SiglipVisionModel": image_encoder(activation="gelu_tanh", pooling="map"),
    "CLIPVisionModelWithProjection": image_encoder(first_norm=True),
}


@pytest.mark.parametrize("name", LONE)
def test_lone_image_encoders(tmp_path, name):
    head = {"image": Linear(features=24)} if "CLIP" in name else {}
    made = model(image=LONE[name], heads=head)
    assert interop.save("huggingface", made, tmp_path / "out")["model"] == name.partition(" ")[0]
    theirs = getattr(transformers, name.partition(" ")[0]).from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        found = theirs(pixel_values=normalized(PICTURES))
    if head:
        found = found.image_embeds
    else:
        found = found.pooler_output if "Siglip" in name else found.last_hidden_state[:, 0]
    assert error(ours_of(made, "image", PICTURES), found) < TOLERANCE
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out")
    batch = processor(images=[Image.fromarray(x) for x in PICTURES], return_tensors="pt")
    np.testing.assert_allclose(batch["pixel_values"], normalized(PICTURES), atol=1e-5)


def test_grey_pictures_become_coloured_ones(tmp_path):
    made = model(image=LONE["ViTModel"], shape=(24, 24, 1))
    interop.save("huggingface", made, tmp_path / "out")
    theirs = transformers.ViTModel.from_pretrained(tmp_path / "out").eval()
    grey = PICTURES[..., :1]
    with torch.no_grad():
        found = theirs(pixel_values=normalized(np.repeat(grey, 3, axis=-1))).last_hidden_state[:, 0]
    assert error(ours_of(made, "image", grey), found) < TOLERANCE


OPEN = {
    **PAIRS,
    "no norm first, layer scale, a bias": lambda: (
        image_encoder(activation="gelu", layer_scale=0.2, mean=MEAN, std=STD),
        text_encoder(activation="gelu_tanh", layer_scale=0.3),
        projections(bias=True),
    ),
}


@pytest.mark.parametrize("name", OPEN)
def test_open_clip(tmp_path, name):
    image, text, heads = OPEN[name]()
    words, vocabulary = tokenizer(tmp_path)
    if image.activation == "gelu" and name in PAIRS:
        text = text_encoder(activation="gelu")
    made = model(image, text, heads, vocabulary=vocabulary, scale=20.0, bias=-3.0)
    interop.save("open_clip", made, tmp_path / "out")
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}/out")
    theirs.eval()
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}/out")(TEXTS)
    np.testing.assert_array_equal(ids, encoded(words))
    pixels = torch.stack([preprocess(Image.fromarray(x)) for x in PICTURES])
    np.testing.assert_allclose(pixels, normalized(PICTURES, image.mean, image.std), atol=1e-5)
    with torch.no_grad():
        found = unit(theirs.encode_image(pixels)), unit(theirs.encode_text(ids))
    assert error(ours_of(made, "image", PICTURES), found[0]) < TOLERANCE
    assert error(ours_of(made, "text", encoded(words)), found[1]) < TOLERANCE
    assert theirs.logit_scale.exp().item() == pytest.approx(20.0)
    assert theirs.logit_bias.item() == pytest.approx(-3.0)
