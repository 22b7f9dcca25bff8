"""Folders that `transformers` loads with `from_pretrained`: CLIPModel, SiglipModel, and lone encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from contrastive_jax.encoders import TextTransformer
from contrastive_jax.encoders.heads import Linear
from contrastive_jax.errors import InputError
from contrastive_jax.interop import clip, dinov2, names, pictures, siglip, text_folder, vit
from contrastive_jax.interop.model import Model, Tower, Wants, logits
from contrastive_jax.interop.text_folder import save_tokenizer, write_json, write_tensors


def writer(model: Model) -> Callable[[Path], dict[str, Any]]:
    """Writes a pair of encoders as CLIPModel or SiglipModel, or a lone one as ViTModel, Dinov2Model,
    SiglipVisionModel, CLIPVisionModelWithProjection or a text model.

    Raises InputError for what none of them computes, naming the config's keys.
    """
    image, text = model.tower("image"), model.tower("text")
    if image is None and text is None:
        raise InputError("huggingface holds pictures, texts or both, and this model has branches of neither")
    if image is None:
        return _text(model, text)
    if text is None:
        config, tensors = _image(image)
    else:
        config, tensors = _pair(model, image, text)
    kind = config["architectures"][0]

    def write(output: Path) -> dict[str, Any]:
        write_json(output / "config.json", {**config, "dtype": "float32", "torch_dtype": "float32"})
        write_tensors(output / "model.safetensors", tensors)
        write_json(output / "preprocessor_config.json", _preprocessor(model, image))
        if text is not None and model.vocabulary is not None:
            save_tokenizer(model.vocabulary, output)
            processor = {"CLIPModel": "CLIPProcessor", "SiglipModel": "SiglipProcessor"}[kind]
            write_json(output / "processor_config.json", {"processor_class": processor})
        return {"model": kind}

    return write


def _text(model: Model, tower: Tower) -> Callable[[Path], dict[str, Any]]:
    wants = Wants("huggingface")
    config = text_folder.config(tower, wants)
    wants.check()

    def write(output: Path) -> dict[str, Any]:
        text_folder.save(tower, config, model.vocabulary, output)
        return {"model": config.get("architectures", [config["model_type"]])[0]}

    return write


def _image(tower: Tower) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Config and tensors of an image encoder alone; its heads are left out, but for CLIP's projection."""
    encoder = tower.encoder
    wants = Wants("huggingface")
    tower = pictures.checked(tower, wants)
    side = tower.view.shape[0]
    if encoder.first_norm:
        return _clip_image(tower, side)
    if encoder.pooling == "map":
        wants.format, family = "huggingface (SiglipVisionModel)", siglip
    elif encoder.layer_scale is not None or encoder.registers or encoder.activation == "swiglu":
        wants.format, family = "huggingface (Dinov2Model)", dinov2
    else:
        wants.format, family = "huggingface (ViTModel)", vit
    family.want_image(wants, tower)
    wants.check()
    rows = family.image_rows("", encoder)
    tensors = names.save(rows, names.flatten(pictures.with_bias(tower).params))
    if family is siglip:
        config = clip.image_config(encoder, side)
        return {
            **config,
            "model_type": "siglip_vision_model",
            "architectures": ["SiglipVisionModel"],
        }, tensors
    return family.config(encoder, side), tensors


def _clip_image(tower: Tower, side: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    wants = Wants("huggingface (CLIPVisionModelWithProjection)")
    clip.want_image(wants, tower)
    kernel = projection(tower, wants)
    wants.check()
    rows = clip.image_rows("vision_model.", tower.encoder)
    tensors = names.save(rows, names.flatten(pictures.without_bias(tower).params))
    tensors |= names.save([clip.head_row("image")], {"kernel": kernel})
    config = {**clip.image_config(tower.encoder, side), "projection_dim": kernel.shape[1]}
    named = {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModelWithProjection"]}
    return {**config, **named}, tensors


def _pair(model: Model, image: Tower, text: Tower) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    family = siglip if getattr(image.encoder, "pooling", None) == "map" else clip
    wants = Wants(f"huggingface ({'SiglipModel' if family is siglip else 'CLIPModel'})")
    image = pictures.checked(image, wants)
    check_text(text, wants)
    family.want_image(wants, image)
    family.want_text(wants, text)
    for tower in (image, text):
        wants.equal(f"branches.{tower.branch}.normalize", model.branches[tower.branch].normalize, True)
    tensors = _towers(family, image, text)
    tensors |= _clip_heads(image, text, wants) if family is clip else _siglip_heads(image, text, wants)
    wants.check()
    scale, bias = logits(model, wants.format, has_bias=family is siglip)
    if family is siglip:
        tensors |= {
            "logit_scale": np.array([scale], np.float32),
            "logit_bias": np.array([bias], np.float32),
        }
    else:
        tensors |= {"logit_scale": np.array(scale, np.float32)}
    return _pair_config(family, model, image, text, tensors), tensors


def check_text(tower: Tower, wants: Wants) -> None:
    """Raises InputError for a text encoder of another kind than these pairs have."""
    if type(tower.encoder) is not TextTransformer:
        where = f"config.encoders.{tower.name}"
        raise InputError(f"{wants.format} cannot hold {where}: it wants kind='text_transformer'")


def _towers(family: ModuleType, image: Tower, text: Tower) -> dict[str, np.ndarray]:
    image = pictures.without_bias(image) if family is clip else pictures.with_bias(image)
    pairs = (
        (family.image_rows("vision_model.", image.encoder), image),
        (family.text_rows("text_model.", text.encoder), text),
    )
    tensors: dict[str, np.ndarray] = {}
    for rows, tower in pairs:
        flat = names.flatten(tower.params)
        known = {path for row in rows for path in row.ours}
        if known <= set(flat):  # else what differs has been noted
            tensors |= names.save(rows, flat)
    return tensors


def projection(tower: Tower, wants: Wants) -> np.ndarray:
    """The kernel [W, P] of a tower's one linear head without a bias; the identity if it has none."""
    where = f"branches.{tower.branch}.heads"
    width = tower.encoder.dimensions.width
    if not tower.heads:
        return np.eye(width, dtype=np.float32)
    if len(tower.heads) > 1 or type(tower.heads[0][1]) is not Linear:
        wants.found.append(
            f"config.{where}={tuple(name for name, _, _ in tower.heads)} (it wants one linear)"
        )
        return np.eye(width, dtype=np.float32)
    name, head, params = tower.heads[0]
    wants.equal(f"heads.{name}.bias", head.bias, False)
    return np.asarray(params["out"]["kernel"])


def _clip_heads(image: Tower, text: Tower, wants: Wants) -> dict[str, np.ndarray]:
    kernels = {tower.part: projection(tower, wants) for tower in (image, text)}
    return {
        name: tensor
        for part, kernel in kernels.items()
        for name, tensor in names.save([clip.head_row(part)], {"kernel": kernel}).items()
    }


def _siglip_heads(image: Tower, text: Tower, wants: Wants) -> dict[str, np.ndarray]:
    """The text's head with a bias; the image's is part of its encoder."""
    wants.equal(f"branches.{image.branch}.heads", tuple(name for name, _, _ in image.heads), ((),))
    with_bias = [params["out"] for _, head, params in text.heads if type(head) is Linear]
    if len(text.heads) != 1 or not with_bias:
        found = tuple(name for name, _, _ in text.heads)
        wants.found.append(f"config.branches.{text.branch}.heads={found} (it wants one linear)")
        return {}
    params = {"bias": np.zeros(with_bias[0]["kernel"].shape[1], np.float32), **with_bias[0]}
    return names.save(siglip.head_rows("text_model."), params)


def _pair_config(
    family: ModuleType, model: Model, image: Tower, text: Tower, tensors: dict[str, np.ndarray]
) -> dict[str, Any]:
    vision = clip.image_config(image.encoder, image.view.shape[0])
    words = clip.text_config(text.encoder)
    if model.vocabulary is not None:
        tokens = {"bos": model.vocabulary.begin, "eos": model.vocabulary.end, "pad": model.vocabulary.padding}
        words |= {f"{name}_token_id": model.vocabulary.id(token) for name, token in tokens.items()}
    if family is siglip:
        words["projection_size"] = tensors["text_model.head.weight"].shape[0]
        return dict(
            model_type="siglip", architectures=["SiglipModel"], vision_config=vision, text_config=words
        )
    words["eos_token_id"] = text.encoder.end
    size = int(tensors["text_projection.weight"].shape[0])
    return dict(
        model_type="clip",
        architectures=["CLIPModel"],
        projection_dim=size,
        logit_scale_init_value=float(tensors["logit_scale"]),
        vision_config={**vision, "projection_dim": size},
        text_config={**words, "projection_dim": size},
    )


def _preprocessor(model: Model, tower: Tower) -> dict[str, Any]:
    """What is done to a picture: its middle square, or the whole of it, resized (bicubic) and normalised."""
    side = tower.view.shape[0]
    mean, std = pictures.pixels(model, tower)
    square = {"height": side, "width": side}
    return dict(
        image_processor_type="CLIPImageProcessor",
        do_convert_rgb=True,
        do_resize=True,
        size=square if model.squeeze else {"shortest_edge": side},
        resample=3,
        do_center_crop=not model.squeeze,
        crop_size=square,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=mean,
        image_std=std,
    )
