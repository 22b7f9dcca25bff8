"""A run of pictures and texts that was never trained: as good for commands, and made in seconds."""

import json

import jax
import numpy as np
from PIL import Image

from contrastive_jax.configuration import build, load
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.evaluations import bind_tokenizer
from contrastive_jax.training.experiment import Config, Experiment

COLOURS = ("red", "green", "blue", "yellow", "white", "black")
SHAPES = ("square", "circle", "bar", "cross")
CONFIG = """
from ml_collections import ConfigDict

def get_config(arg):
    config = ConfigDict()
    config.steps, config.batch_size = 4, 8
    config.data = dict(
        source="jsonl:{folder}/pairs.jsonl",
        sampler=dict(kind="permutation"),
        tokenizer=dict(kind="bpe", vocabulary=200),
        views=dict(
            image=dict(kind="photo", resolution=16),
            text=dict(kind="text", length=12),
            document=dict(kind="text", field="document", length=16),
        ),
    )
    tower = dict(size="micro", width=16, depth=1, pooling="mean")
    config.encoders = dict(
        image=dict(kind="vision_transformer", patch=8, **tower),
        text=dict(kind="text_transformer", vocabulary=200, length=16, **tower),
    )
    config.branches = dict(
        image=dict(view="image", encoder="image"),
        text=dict(view="text", encoder="text"),
        document=dict(view="document", encoder="text"),
    )
    config.losses = dict(
        clip=dict(kind="softmax", rows="image", columns="text", scale=10.0),
        search=dict(kind="softmax", rows="text", columns="document", scale=10.0),
    )
    config.optimizer = dict(kind="adamw", learning_rate=1e-3)
    config.checkpoint = dict(every=2)
    return config
"""


def write_pairs(folder, count=40):
    """pairs.jsonl: pictures with captions, and a longer text for each; captions repeat, documents do not."""
    (folder / "pictures").mkdir(parents=True)
    random = np.random.default_rng(0)
    lines = []
    for n in range(count):
        array = random.integers(0, 256, (20 + n % 7, 24, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / "pictures" / f"{n}.png")
        text = f"a {COLOURS[n % 6]} {SHAPES[n % 4]}"
        document = f"number {n} is {text} in the middle of {COLOURS[(n // 6) % 6]} paper"
        lines.append({"key": f"k{n}", "image": f"pictures/{n}.png", "text": text, "document": document})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_run(folder, seed=0):
    """The run's folder, with a checkpoint of step 2 and one of step 4 that differs."""
    write_pairs(folder)
    (folder / "config.py").write_text(CONFIG.format(folder=folder))
    return write_untrained(folder / "run", str(folder / "config.py"), seed)


def write_untrained(run, config, seed=0):
    """The same of any config."""
    stored = load(config, [("seed", str(seed))], Config)
    run.mkdir()
    (run / "config.json").write_text(stored.to_json())
    experiment = Experiment(build(stored, Config), jax.devices()[:1])
    with jax.set_mesh(experiment.mesh), Checkpoints(run / "checkpoints") as checkpoints:
        first = experiment.initial_state()
        for step in (2, 4):
            params = jax.tree.map(lambda x, step=step: x + 0.01 * step, first.params)
            checkpoints.save(step, first._replace(params=params))
    bind_tokenizer(experiment, run, train=True)
    return run
