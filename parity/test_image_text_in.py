"""Pictures and their captions: transformers' and open_clip's models against ours with their weights."""

import json

import jax
import numpy as np
import open_clip
import pytest
import torch
import transformers
from agreement import check, randomized
from safetensors.torch import save_file

from contrastive_jax import interop
from contrastive_jax.configuration import Kind, build, complete
from contrastive_jax.encoders import KINDS

SMALL = dict(hidden_size=32, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4)
IMAGE = dict(SMALL, image_size=24, patch_size=8)
TEXT = dict(SMALL, vocab_size=50, max_position_embeddings=9)
PICTURES = np.random.default_rng(1).normal(size=(3, 24, 24, 3)).astype(np.float32)
LARGE = np.random.default_rng(1).normal(size=(2, 32, 40, 3)).astype(np.float32)
# 49 is the end; 0 is a word before it, and anything may come after it.
WORDS = np.array(
    [[2, 7, 0, 9, 49, 0, 0, 0, 0], [2, 49, 3, 49, 5, 0, 0, 0, 1], [2, 5, 6, 7, 8, 9, 10, 11, 49]]
)


def built(folder, part):
    """The encoder of a folder, by way of a config."""
    from ml_collections import ConfigDict

    section = ConfigDict(interop.architecture(folder, part))
    complete(section, Kind(KINDS))
    return build(section, Kind(KINDS))


def saved(model, tmp_path):
    """The folder of a randomized model of transformers."""
    model = randomized(model)
    model.save_pretrained(tmp_path)
    return model


def pooled(model, view):
    return model(view).pooler_output


def first(model, view):
    return model(pixel_values=view).last_hidden_state[:, 0]


def of_images(model, view):
    return model.get_image_features(pixel_values=view).pooler_output


def of_texts(model, view):
    return model.get_text_features(input_ids=view).pooler_output


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_pytorch_tanh"])
def test_clip(tmp_path, activation):
    image, text = dict(IMAGE, hidden_act=activation), dict(TEXT, hidden_act=activation, eos_token_id=49)
    config = transformers.CLIPConfig(vision_config=image, text_config=text, projection_dim=24)
    model = saved(transformers.CLIPModel(config), tmp_path)
    check(tmp_path, "image", built(tmp_path, "image"), model, of_images, PICTURES)
    check(tmp_path, "text", built(tmp_path, "text"), model, of_texts, WORDS)


def test_clip_of_an_old_config_ends_at_the_highest_id(tmp_path):
    config = transformers.CLIPConfig(
        vision_config=IMAGE, text_config=dict(TEXT, eos_token_id=2), projection_dim=24
    )
    model = saved(transformers.CLIPModel(config), tmp_path)
    check(tmp_path, "text", built(tmp_path, "text"), model, of_texts, WORDS)


def test_towers_of_clip_alone(tmp_path):
    vision = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**IMAGE, projection_dim=24)
    )
    model = saved(vision, tmp_path / "image")
    check(
        tmp_path / "image", "image", built(tmp_path / "image", "image"), model,
        lambda model, view: model(view).image_embeds, PICTURES,
    )  # fmt: skip
    bare = saved(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**IMAGE)), tmp_path / "bare")
    check(tmp_path / "bare", "image", built(tmp_path / "bare", "image"), bare, pooled, PICTURES)
    text = transformers.CLIPTextModelWithProjection(
        transformers.CLIPTextConfig(**TEXT, projection_dim=24, eos_token_id=49)
    )
    model = saved(text, tmp_path / "text")
    check(
        tmp_path / "text", "text", built(tmp_path / "text", "text"), model,
        lambda model, view: model(view).text_embeds, WORDS,
    )  # fmt: skip


def test_siglip(tmp_path):
    config = transformers.SiglipConfig(vision_config=IMAGE, text_config=dict(TEXT, projection_size=24))
    model = saved(transformers.SiglipModel(config), tmp_path)
    check(tmp_path, "image", built(tmp_path, "image"), model, of_images, PICTURES)
    check(tmp_path, "text", built(tmp_path, "text"), model, of_texts, WORDS)


def test_vit(tmp_path):
    model = saved(transformers.ViTModel(transformers.ViTConfig(**IMAGE)), tmp_path)
    check(tmp_path, "image", built(tmp_path, "image"), model, first, PICTURES)


def test_vit_saved_as_a_classifier(tmp_path):
    model = saved(transformers.ViTForImageClassification(transformers.ViTConfig(**IMAGE)), tmp_path)

    def inner(model, view):
        return model.vit(pixel_values=view).last_hidden_state[:, 0]

    check(tmp_path, "image", built(tmp_path, "image"), model, inner, PICTURES)


DINO = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=24, patch_size=8)


@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("pictures", [PICTURES, LARGE], ids=["its size", "another size"])
def test_dinov2(tmp_path, swiglu, pictures):
    config = transformers.Dinov2Config(**DINO, use_swiglu_ffn=swiglu, layerscale_value=0.5)
    model = saved(transformers.Dinov2Model(config), tmp_path)
    example = jax.ShapeDtypeStruct(pictures.shape, np.float32)
    check(tmp_path, "image", built(tmp_path, "image"), model, first, pictures, example)


def test_dinov2_with_registers(tmp_path):
    config = transformers.Dinov2WithRegistersConfig(**DINO, num_register_tokens=5)
    model = saved(transformers.Dinov2WithRegistersModel(config), tmp_path)
    check(tmp_path, "image", built(tmp_path, "image"), model, first, PICTURES)


def test_clip_of_another_picture_size(tmp_path):
    config = transformers.CLIPVisionConfig(**IMAGE)
    model = saved(transformers.CLIPVisionModel(config), tmp_path)

    def interpolating(model, view):
        return model(view, interpolate_pos_encoding=True).pooler_output

    example = jax.ShapeDtypeStruct(LARGE.shape, np.float32)
    check(tmp_path, "image", built(tmp_path, "image"), model, interpolating, LARGE, example)


TOWER = dict(width=32, layers=3, mlp_ratio=2.5)
PLAIN = dict(
    vision_cfg=dict(TOWER, head_width=8, patch_size=8, image_size=24),
    text_cfg=dict(TOWER, heads=4, vocab_size=50, context_length=9),
)
OPEN = {
    "plain": PLAIN,
    "quickgelu": dict(PLAIN, quick_gelu=True),
    "every option": dict(
        vision_cfg=dict(
            PLAIN["vision_cfg"],
            no_ln_pre=True,
            ls_init_value=0.3,
            act_kwargs=dict(approximate="tanh"),
            norm_kwargs=dict(eps=1e-3),
        ),
        text_cfg=dict(
            PLAIN["text_cfg"], proj_bias=True, pool_type="eos", eos_id=49, ls_init_value=0.3
        ),
        custom_text=True,
    ),
    "text of SigLIP": dict(
        vision_cfg=PLAIN["vision_cfg"],
        text_cfg=dict(PLAIN["text_cfg"], no_causal_mask=True, pool_type="last", proj_bias=True),
        custom_text=True,
        init_logit_bias=-10,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPEN)
def test_open_clip(tmp_path, name):
    settings = dict(OPEN[name], embed_dim=24)
    custom = settings.get("custom_text")
    made = {key: value for key, value in settings.items() if key != "custom_text"}
    model = randomized((open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**made))
    (tmp_path / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=settings, preprocess_cfg={})))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    check(
        tmp_path, "image", built(tmp_path, "image"), model,
        lambda model, view: model.encode_image(view), PICTURES,
    )  # fmt: skip
    check(
        tmp_path, "text", built(tmp_path, "text"), model, lambda model, view: model.encode_text(view), WORDS
    )  # fmt: skip


def test_torch_runs_in_float32():
    assert torch.get_default_dtype() == torch.float32
