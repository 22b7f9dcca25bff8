"""Matryoshka: the first numbers of an embedding are an embedding too (Kusupati et al. 2022, 2205.13147).

Sentences of inference data, as in simcse_supervised.py, whose loss is taken at several widths at once.
Arguments: see shared/texts.py; ablation=one_width, the same loss at the whole width alone, cut afterwards.
"""

from ml_collections import ConfigDict

from contrastive_jax.configuration import beside

texts = beside(__file__, "shared/texts.py")
supervised = beside(__file__, "simcse_supervised.py")

CHECK = dict(
    figures={f"STS-B, {cut} numbers": f"stsb_{cut}/spearman" for cut in (64, 16, 8, 4)},
    arms={"Matryoshka": "", "one width": "ablation=one_width", "no training": "ablation=untrained"},
)


def get_config(arg: str = "") -> ConfigDict:
    parsed = texts.parsed(arg, "one_width")
    config = supervised.get_config(arg.replace("ablation=one_width", ""))
    width = config.heads.mlp.features
    dims = (768, 512, 256, 128, 64) if parsed.paper else tuple(width >> i for i in range(5))
    if parsed.ablation != "one_width":
        config.losses = dict(nested=dict(kind="matryoshka", dims=dims, loss=config.losses.simcse))
    cuts = (768, 64) if parsed.paper else (64, 16, 8, 4)
    config.evaluation.evaluators = {
        f"stsb_{cut}": dict(kind="sts", branch=f"anchor@{min(cut, width)}") for cut in cuts
    }
    return config
