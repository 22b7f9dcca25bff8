"""The numbers of the papers: what `:paper` makes of each config, against the papers' own."""

import functools

import pytest
from method_run import FOLDER

from contrastive_jax.configuration import load
from contrastive_jax.training.experiment import Config

IMAGENET, CIFAR = 1_281_167, 50_000
TEXTS = {
    "contriever": {
        "batch_size": 2048,
        "steps": 500_000,
        "losses.contriever.scale": 1 / 0.05,
        "branches.query.normalize": False,
        "branches.key.normalize": False,
        "teachers.slow.momentum": 0.9995,
        "memory.earlier.size": 131_072,
        "optimizer.kind": "adamw",
        "optimizer.learning_rate": 5e-5,
        "optimizer.warmup": 20_000 / 500_000,
        "optimizer.decay": "linear",
        "encoders.text.pooling": "mean",
        "data.views.query.length": 256,
        "data.views.query.span": (0.05, 0.5),
        "data.views.key.span": (0.05, 0.5),
        "data.views.key.deletion": 0.1,
    },
    "cocosoda": {
        "batch_size": 128,
        "steps": 100_000,
        "losses.code_to_docstring.scale": 1 / 0.07,
        "losses.docstring_to_masked_code.weight": 1 / 6,
        "teachers.slow.momentum": 0.999,
        "memory.earlier_masked_code.size": 1024,
        "memory.earlier_docstring.size": 1024,
        "optimizer.learning_rate": 2e-5,
        "data.sampler.alpha": 0.7,
        "data.views.code.length": 256,
        "data.views.docstring.length": 128,
        "data.views.masked_code.masking": 0.1,
        "data.views.masked_code.masked_as": (0.8, 0.1, 0.1),
        "data.views.masked_code.spared": 3,
    },
    "simcse_unsupervised": {
        "batch_size": 64,
        "steps": 1_000_000 // 64,  # an epoch of a million sentences
        "losses.simcse.scale": 1 / 0.05,
        "losses.simcse.symmetric": False,
        "heads.mlp.train_only": True,
        "heads.mlp.last_activation": "tanh",
        "optimizer.learning_rate": 3e-5,
        "encoders.text.pooling": "cls",
        "data.views.text.length": 32,
    },
    "simcse_supervised": {
        "batch_size": 512,
        "losses.simcse.scale": 1 / 0.05,
        "heads.mlp.train_only": False,
        "optimizer.learning_rate": 5e-5,
        "encoders.text.pooling": "cls",
    },
    "esimcse": {
        "batch_size": 64,
        "losses.simcse.scale": 1 / 0.05,
        "teachers.slow.momentum": 0.995,
        "teachers.slow.train": False,
        "optimizer.learning_rate": 3e-5,
        "data.views.repeated.repetition": 0.32,
        "data.views.text.length": 32,
    },
    "matryoshka": {"losses.nested.dims": (768, 512, 256, 128, 64), "losses.nested.weights": ()},
    "star": {
        "batch_size": 1024 * 16,
        "steps": 3000,
        "data.sampler.members": 16,
        "data.views.text.length": 512,
        "heads.out.features": 1024,
        "optimizer.kind": "adafactor",
        "optimizer.by_scale": False,
        "optimizer.learning_rate": 1e-2,
        "optimizer.warmup": 0.06,
        "optimizer.decay": "linear",
        "optimizer.weight_decay": 1e-4,
    },
    "vacancysbert": {"losses.match.scale": 20.0, "losses.match.symmetric": True},
}
PICTURES = {
    "simclr": {
        "batch_size": 4096,
        "losses.simclr.scale": 1 / 0.1,
        "heads.projector.hidden": 2048,
        "heads.projector.features": 128,
        "optimizer.kind": "lars",
        "optimizer.learning_rate": 0.3 * 4096 / 256,
        "optimizer.weight_decay": 1e-6,
        "data.views.a.crop": (0.08, 1.0),
        "data.views.a.jitter": (0.8, 0.8, 0.8, 0.2),
        "data.views.a.jitter_probability": 0.8,
        "data.views.a.grey": 0.2,
        "data.views.a.blur": 0.5,
    },
    "supcon": {"losses.supcon.scale": 1 / 0.1},
    "moco_v2": {
        "batch_size": 256,
        "losses.moco.scale": 1 / 0.2,
        "teachers.key.momentum": 0.999,
        "memory.keys.size": 65_536,
        "heads.projector.features": 128,
        "optimizer.kind": "sgd",
        "optimizer.learning_rate": 0.03,
        "optimizer.decay": "cosine",
        "data.views.a.jitter": (0.4, 0.4, 0.4, 0.1),
    },
    "moco_v3": {
        "losses.ab.scale": 1.0,
        "losses.ab.weight": 2.0,
        "teachers.key.momentum": 0.99,
        "teachers.key.final": 1.0,
        "heads.projector.features": 256,
        "heads.projector.hidden": 4096,
        "heads.projector.last_norm": True,
        "heads.predictor.layers": 2,
    },
    "byol": {
        "batch_size": 4096,
        "teachers.target.momentum": 0.996,
        "teachers.target.final": 1.0,
        "teachers.target.stage": "projector",
        "optimizer.learning_rate": 3.2,
    },
    "simsiam": {
        "losses.ab.weight": 1 / 4,  # of 2 - 2 cos: half of a cosine
        "heads.projector.layers": 3,
        "heads.projector.features": 2048,
        "heads.predictor.hidden": 512,
        "optimizer.kind": "sgd",
        "optimizer.learning_rate": 0.05 * 512 / 256,
    },
    "directpred": {
        "batch_size": 128,
        "heads.predictor.rho": 0.3,
        "heads.predictor.eps": 0.01,
        "heads.predictor.floor": 1e-4,
        "heads.projector.hidden": 512,
        "heads.projector.features": 128,
        "teachers.target.momentum": 0.996,
        "optimizer.learning_rate": 0.03,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 4e-4,
        "encoders.image.size": "18",
    },
    "barlow_twins": {
        "losses.barlow.off_diagonal": 0.0051,
        "heads.projector.layers": 3,
        "heads.projector.features": 8192,
        "optimizer.kind": "lars",
    },
    "mixed_barlow_twins": {
        "batch_size": 256,
        "losses.barlow.off_diagonal": 1 / 128,
        "losses.barlow.mixed_weight": 4.0,
        "heads.projector.features": 1024,
        "heads.projector.hidden": 512,
        "optimizer.kind": "adam",
        "optimizer.learning_rate": 0.01,
        "optimizer.warmup": 10 / 2000,
        "optimizer.final": 0.01 / 1000,
    },
    "cacr": {
        "batch_size": 256,
        "losses.cacr.t_plus": 1.0,
        "losses.cacr.t_minus": 2.0,
        "data.views.crops.count": 4,
        "optimizer.learning_rate": 0.03,
    },
    "clip_reident": {
        "batch_size": 16,
        "losses.clip.label_smoothing": 0.1,
        "optimizer.learning_rate": 4e-5,
        "optimizer.final": 1e-5,
        "optimizer.warmup": 1 / 4,
        "data.sampler.unique": True,
        "data.views.query.flip": 0.5,
        "data.views.query.together": "pair",
    },
}
PAIRS = {
    "clip_rocket": {
        "batch_size": 4096,
        "losses.clip.scale": 1 / 0.07,
        "losses.clip.weight": 1 / 3,
        "losses.clip.label_smoothing": 0.0,
        "losses.local_image_a_local_text_b.scale": 1 / 0.1,
        "losses.local_image_a_local_text_b.weight": 2 / 3 / 4,
        "losses.local_image_a_local_text_b.label_smoothing": 0.1,
        "heads.local_text.hidden": 4096,
        "heads.local_text.features": 256,
        "optimizer.learning_rate": 3e-3,
        "optimizer.weight_decay": 0.1,
        "optimizer.b2": 0.98,
        "data.views.image.crop": (0.5, 1.0),
        "data.views.image_a.blur": 0.5,
        "data.views.image_a.grey": 0.2,
        "data.views.text_a.stop_words": 0.8,
        "data.views.text_a.eda": (0.4, 0.4, 0.2),
    },
    "clip_rocket,ablation=bar": {
        "losses.bar.off_diagonal": 5e-3,
        "losses.bar.weight": 0.025,
        "heads.projected_image.features": 8192,
        "heads.projected_image.hidden": 3000,
    },
    "clip_rocket,ablation=siam": {
        "heads.projected_text.hidden": 2048,
        "heads.projected_text.features": 128,
    },
    "clip_rocket,ablation=byol": {
        "losses.image.targets": "target_text",
        "teachers.slow_text.momentum": 0.99,
        "teachers.slow_text.stage": "projected_text",
    },
    "siglip": {"losses.pairs.scale": 10.0, "losses.pairs.bias": -10.0},
    "lit": {
        "batch_size": 32 * 1024,
        "optimizer.learning_rate": 1e-3,
        "frozen": ("encoders/image/*",),
        "branches.image.heads": (),
    },
    "metaclip": {
        "batch_size": 32_768,
        "steps": 12_800_000_000 // 32_768,
        "optimizer.learning_rate": 5e-4,
        "optimizer.warmup": 2000 / 390_625,
        "encoders.image.activation": "quick_gelu",
    },
    "align": {
        "batch_size": 16_384,
        "steps": 1_200_000,
        "losses.clip.scale": 1.0,
        "losses.clip.label_smoothing": 0.1,
        "optimizer.kind": "lamb",
        "optimizer.learning_rate": 1e-3,
        "optimizer.warmup": 10_000 / 1_200_000,
        "optimizer.decay": "linear",
        "optimizer.weight_decay": 1e-5,
        "data.views.image.resolution": 289,
        "data.views.text.length": 64,
    },
    "negclip": {
        "batch_size": 256,
        "optimizer.learning_rate": 1e-6,
        "losses.clip.negatives": "swapped",
        "encoders.image.size": "B/32",
    },
    "one_to_k": {
        "batch_size": 128,
        "losses.ccrk.scale": 1 / 0.07,
        "losses.ccrk.scale_max": 1 / 0.001,
        "losses.ccrk.divide_texts": False,
        "heads.text.features": 256,
        "optimizer.learning_rate": 1e-4,
        "optimizer.weight_decay": 0.01,
    },
    "symile": {"losses.symile.scale_max": None, "losses.symile.negatives": "permute"},
}
ROWS = [
    pytest.param(name, path, value, id=f"{name}-{path}")
    for table in (TEXTS, PICTURES, PAIRS)
    for name, values in table.items()
    for path, value in values.items()
]


@functools.cache
def resolved(name: str) -> dict:
    file, _, more = name.partition(",")
    return load(f"{FOLDER / file}.py:paper,{more}".rstrip(","), [], Config).to_dict()


@pytest.mark.parametrize(("name", "path", "value"), ROWS)
def test_a_paper_says(name, path, value):
    found = functools.reduce(lambda part, key: part[key], path.split("."), resolved(name))
    assert found == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    ("name", "epochs", "examples"),
    [("simclr", 1000, IMAGENET), ("moco_v2", 200, IMAGENET), ("mixed_barlow_twins", 2000, CIFAR)],
)
def test_a_paper_trains_for_so_many_epochs(name, epochs, examples):
    config = resolved(name)
    assert config["steps"] * config["batch_size"] / examples == pytest.approx(epochs, rel=5e-3)
