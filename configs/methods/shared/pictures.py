"""What methods of pictures share: CIFAR-10 in a small network, or the paper's data in its; two views, probes.

Arguments of each of them: data, the folder that holds cifar10/train.parquet and test.parquet, or, with paper
where the paper trains on it, imagenet/train-*.tar and val-*.tar (WebDataset: picture, label) or stl10 with
unlabelled-*.tar, train-*.tar and test-*.tar; small, a run of seconds for tests; paper, the hyper-parameters
of the paper; ablation, what the method is compared with.
"""

import os

from ml_collections import ConfigDict

from contrastive_jax.configuration import arguments
from contrastive_jax.errors import InputError

FIGURES = {"20 neighbours": "knn/accuracy", "linear probe": "linear/accuracy"}
SPREAD = {"spread (1 even, 0 collapsed)": "geometry/std/a.projector"}
PARTS = dict(imagenet=("train", "train", "val"), stl10=("unlabelled", "train", "test"))
PIXELS = dict(imagenet=224, stl10=96, cifar10=32)


def parsed(arg: str, *ablations: str, **more) -> ConfigDict:
    """The arguments of a config; ablations: the values that `ablation` may have."""
    folder = os.environ.get("CONTRASTIVE_JAX_DATA", "data")
    arg = arguments(arg, data=folder, small=False, paper=False, ablation="", **more)
    if arg.ablation:
        one_of("ablation", arg.ablation, ablations)
    return arg


def files(arg: ConfigDict, paper: str) -> list[str]:
    """What is trained on, and what probes train on and are tested on; paper: the data set of the paper."""
    if arg.paper and paper in PARTS:
        return [f"webdataset:{arg.data}/{paper}/{part}-*.tar" for part in PARTS[paper]]
    return [f"parquet:{arg.data}/cifar10/{part}.parquet" for part in ("train", "train", "test")]


def one_of(key: str, value, known) -> None:
    if value not in known:
        raise InputError(f"{key}={value}: give one of {', '.join(map(str, known))}")


def photo(arg: ConfigDict, paper: str = "imagenet", **changes) -> dict:
    """A view as SimCLR draws it: for CIFAR-10 without blur and with half of the colour jitter."""
    view = dict(kind="photo", ratio=(0.75, 1.333), flip=0.5, jitter_probability=0.8, grey=0.2)
    view.update(resolution=PIXELS[paper] if arg.paper else 16)
    if arg.paper and paper in PARTS:
        return view | dict(crop=(0.08, 1.0), jitter=(0.8, 0.8, 0.8, 0.2), blur=0.5) | changes
    return view | dict(crop=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1)) | changes


def byol_views(arg: ConfigDict) -> dict:
    """Views a and b: with paper as BYOL draws them, one always blurred, the other at times solarised."""
    if not arg.paper:
        return dict(a=photo(arg), b=photo(arg))
    view = photo(arg, jitter=(0.4, 0.4, 0.2, 0.1))
    return dict(a=view | dict(blur=1.0), b=view | dict(blur=0.1, solarise=0.2))


def moco_view(arg: ConfigDict, **changes) -> dict:
    """A view: with paper as MoCo v2 draws it, with larger crops and half of the colour jitter."""
    paper = dict(crop=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1)) if arg.paper else {}
    return photo(arg, **paper | changes)


def config(
    arg: ConfigDict, views: dict, steps: int = 300, batch_size: int = 128, paper: str = "imagenet"
) -> ConfigDict:
    """Everything but heads, branches and losses; steps, batch_size: of the small network on CIFAR-10; paper:
    the data set of the paper."""
    config = ConfigDict()
    config.steps = 6 if arg.small else steps
    config.batch_size = 16 if arg.small else batch_size
    config.data = dict(
        source=files(arg, paper)[0],
        sampler=dict(kind="permutation"),
        views=views,
        workers=0 if arg.small else 1,
    )
    width = 8 if arg.small else 32
    size = dict(size="micro", stem="small", stride=2, width=width, groups=8)
    if arg.paper:
        size = dict(size="50") if paper == "imagenet" else dict(size="18", stem="small")
    config.encoders = dict(image=dict(kind="resnet", **size))
    config.optimizer = dict(kind="adamw", learning_rate=3e-3, warmup=0.1, weight_decay=0.05)
    config.checkpoint = dict(every=3 if arg.small else steps)
    config.logging = dict(every=1 if arg.small else 10)
    return config


def two(heads: tuple[str, ...], **more) -> dict:
    """Branches a and b, of the two views, through one encoder."""
    return {name: dict(view=name, encoder="image", heads=heads, **more) for name in ("a", "b")}


def mlp(arg: ConfigDict, features: int, hidden: int, **more) -> dict:
    """A projector or predictor with batch norm: the paper's sizes, or 64 features at most, and an eighth of
    the hidden ones, 256 at most."""
    if not arg.paper:
        features, hidden = min(features, 64), min(hidden // 8, 256)
    return dict(kind="mlp", features=features, hidden=hidden, norm="batch", activation="relu") | more


def clip_tower(size: str) -> dict:
    """The picture tower of OpenAI's CLIP (Radford et al. 2021, 2103.00020), for its weights."""
    pixels = dict(
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )
    norms = dict(first_norm=True, patch_bias=False, activation="quick_gelu", epsilon=1e-5)
    return dict(kind="vision_transformer", size=size, pooling="cls", **norms, **pixels)


def untrained(config: ConfigDict) -> None:
    """One step that changes nothing."""
    config.steps = 1
    config.optimizer.update(learning_rate=1e-9, final=0.0)


def spread(a: str, b: str) -> dict:
    """How evenly embeddings spread over their dimensions."""
    return dict(geometry=dict(kind="geometry", rows=a, columns=b))


def probes(arg: ConfigDict, branch: str, paper: str = "imagenet", **more) -> dict:
    """20 nearest neighbours and a linear probe on what the encoder of a branch gives."""
    _, train, test = files(arg, paper)
    limit = 200 if arg.small else None if arg.paper else 10_000
    labelled = dict(branch=f"{branch}.encoder", train=train, train_limit=limit)
    evaluators = dict(
        knn=dict(kind="knn", k=20, pixels=not arg.paper, **labelled),
        linear=dict(kind="linear_probe", **labelled),
    )
    return dict(source=test, evaluators=evaluators | more)
