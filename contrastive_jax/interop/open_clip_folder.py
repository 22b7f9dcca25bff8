"""A folder that open_clip loads: `open_clip.create_model_from_pretrained("local-dir:FOLDER")`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contrastive_jax.encoders.heads import Linear
from contrastive_jax.errors import InputError
from contrastive_jax.interop import clip, names, open_clip, pictures
from contrastive_jax.interop.huggingface import check_text, projection
from contrastive_jax.interop.model import Model, Tower, Wants, logits
from contrastive_jax.interop.text_folder import save_tokenizer, write_json, write_tensors

_TEXT = "text."
_ACTIVATIONS = {"gelu": None, "gelu_tanh": {"approximate": "tanh"}, "quick_gelu": None}


def writer(model: Model) -> Callable[[Path], dict[str, Any]]:
    """Writes a pair of encoders, a vision and a text transformer, with their projections.

    Raises InputError for a model that open_clip's own towers do not compute, naming the config's keys.
    """
    image, text = model.tower("image"), model.tower("text")
    if image is None or text is None:
        raise InputError("open_clip holds one image encoder and one text encoder; this model has not both")
    wants = Wants("open_clip")
    image = pictures.checked(image, wants)
    check_text(text, wants)
    _check(model, image, text, wants)
    heads = projection(image, wants), _text_head(text, wants)
    wants.check()
    image = pictures.without_bias(image)
    tensors = {"logit_scale": np.array(logits(model, "open_clip", model.bias is not None)[0], np.float32)}
    tensors |= names.save(open_clip.image_rows("visual.", image.encoder), names.flatten(image.params))
    tensors |= names.save(open_clip.text_rows(_TEXT, text.encoder), names.flatten(text.params))
    tensors["visual.proj"] = np.ascontiguousarray(heads[0], np.float32)
    tensors |= names.save(open_clip.text_head_rows(_TEXT, "bias" in heads[1]), heads[1])
    settings = _settings(model, image, text, heads)
    if model.bias is not None:
        settings["init_logit_bias"] = model.bias
        tensors["logit_bias"] = np.array(model.bias, np.float32)
    return functools.partial(_write, model, image, settings, tensors)


def _write(
    model: Model, image: Tower, settings: dict[str, Any], tensors: dict[str, np.ndarray], output: Path
) -> dict[str, Any]:
    mean, std = pictures.pixels(model, image)
    look = dict(mean=mean, std=std, interpolation="bicubic")
    look["resize_mode"] = "squash" if model.squeeze else "shortest"
    write_json(output / "open_clip_config.json", {"model_cfg": settings, "preprocess_cfg": look})
    write_tensors(output / "open_clip_model.safetensors", tensors)
    if model.vocabulary is not None:
        save_tokenizer(model.vocabulary, output)
    return {"model": "CustomTextCLIP"}


def _check(model: Model, image: Tower, text: Tower, wants: Wants) -> None:
    clip.want_fields(wants, image, pooling="cls", registers=0)
    clip.want_fields(wants, text, pooling="last", first_norm=False)
    where, encoder = f"encoders.{text.name}", text.encoder
    if encoder.end is None:  # the last of all is pooled, and all are seen
        wants.equal(f"{where}.padding", encoder.padding, None)
    else:
        wants.equal(f"{where}.causal", encoder.causal, True)
    quick = [tower.encoder.activation == "quick_gelu" for tower in (image, text)]
    if quick[0] != quick[1]:
        wants.equal(f"{where}.activation", encoder.activation, image.encoder.activation)
    for tower in (image, text):
        wants.equal(f"branches.{tower.branch}.normalize", model.branches[tower.branch].normalize, True)


def _text_head(tower: Tower, wants: Wants) -> dict[str, np.ndarray]:
    """The one linear head of the text, which may have a bias; the identity if it has none."""
    if len(tower.heads) == 1 and type(tower.heads[0][1]) is Linear:
        return {name: np.asarray(array) for name, array in tower.heads[0][2]["out"].items()}
    return {"kernel": projection(tower, wants)}


def _settings(model: Model, image: Tower, text: Tower, heads: tuple) -> dict[str, Any]:
    """open_clip's `model_cfg`."""
    vision, words = _tower(image.encoder), _tower(text.encoder)
    dimensions = image.encoder.dimensions
    encoder, last = text.encoder, text.encoder.end is None
    tokenizer = {"hf_tokenizer_name": "."} if model.vocabulary is not None else {}
    return dict(
        embed_dim=int(heads[0].shape[1]),
        custom_text=True,
        quick_gelu=image.encoder.activation == "quick_gelu",
        vision_cfg=dict(
            vision,
            head_width=dimensions.width // dimensions.heads,
            patch_size=image.encoder.patch,
            image_size=image.view.shape[0],
            no_ln_pre=not image.encoder.first_norm,
        ),
        text_cfg=dict(
            words,
            heads=encoder.dimensions.heads,
            context_length=encoder.length,
            vocab_size=encoder.vocabulary,
            no_causal_mask=not encoder.causal,
            pool_type="last" if last else "eos",
            eos_id=2 if last else encoder.end,
            proj_bias="bias" in heads[1],
            **tokenizer,
        ),
    )


def _tower(encoder: Any) -> dict[str, Any]:
    """What is said of an encoder, whether of images or text; the way back from `open_clip.tower`."""
    found = encoder.dimensions
    ratio = found.mlp / found.width
    while int(found.width * ratio) < found.mlp:  # it is cut, not rounded
        ratio = math.nextafter(ratio, math.inf)
    return dict(
        width=found.width,
        layers=found.depth,
        mlp_ratio=ratio,
        ls_init_value=encoder.layer_scale,
        act_kwargs=_ACTIVATIONS[encoder.activation],
        norm_kwargs={"eps": encoder.epsilon},
    )
