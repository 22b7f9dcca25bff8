"""How the temperature of a contrastive loss acts; and its hard form, where the hardest negatives count.

Source: Wang and Liu 2021, Understanding the Behaviour of Contrastive Loss, arXiv 2012.09740. There 4,095
negatives come from a bank, here all come from the batch. Arguments: see shared/pictures.py; temperature;
loss=ordinary, hard, simple or hard_simple.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

pictures = beside(__file__, "shared/pictures.py")

PAPER = "cifar10"
CHECK = dict(
    figures=pictures.FIGURES | {"uniformity": "geometry/uniformity/a", "tolerance": "geometry/tolerance/a"},
    arms={
        "hard, temperature 1": "loss=hard,temperature=1.0",
        "temperature 0.07": "temperature=0.07",
        "temperature 0.3": "temperature=0.3",
        "temperature 1": "temperature=1.0",
        "simple": "loss=simple",
        "simple, hard": "loss=hard_simple",
    },
)


def get_config(arg: str = "") -> ConfigDict:
    arg = pictures.parsed(arg, temperature=0.3, loss="ordinary")
    view = pictures.photo(arg, PAPER)
    config = pictures.config(arg, dict(a=view, b=view), paper=PAPER)
    config.heads = dict(projector=pictures.mlp(arg, 128, 2048, norm="none"))
    config.branches = pictures.two(("projector",))
    fraction = 0.0819
    scaled = dict(scale=1 / arg.temperature, learn_scale=False)
    kinds = dict(
        ordinary=dict(kind="softmax", **scaled),
        hard=dict(kind="hard_contrastive", fraction=fraction, **scaled),
        simple=dict(kind="simple_contrastive"),
        hard_simple=dict(kind="simple_contrastive", fraction=fraction),
    )
    pictures.one_of("loss", arg.loss, kinds)
    config.losses = dict(contrast=dict(rows="a", columns="b", **kinds[arg.loss]))
    if arg.paper:
        config.steps, config.batch_size = 78_000, 128  # 200 epochs
        config.optimizer = dict(kind="sgd", learning_rate=0.03, warmup=0.0, weight_decay=5e-4)
    geometry = dict(kind="geometry", rows="a", label="label")
    config.evaluation = pictures.probes(arg, "a", PAPER, geometry=geometry)
    return config
