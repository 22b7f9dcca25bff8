"""The configs for real sets, in their small mode: they train, and measure what they say."""

import numpy as np
import pytest
from small import experiment

from contrastive_jax.distributed.stopping import StopRequest
from contrastive_jax.training.loop import Run

WANTED = {
    "documents": ("test/nDCG@10", "test/bm25/nDCG@10", "test/fused_with_bm25/nDCG@10"),
    "emoji:languages=en+de+zh": ("retrieval_en/en_to_image/R@5", "retrieval_zh/image_to_zh/R@5"),
    "emoji:languages=en+de,symile": ("retrieval_de/de_to_image/R@1",),
    "cifar10": ("knn/accuracy", "knn/pixels_l2", "linear/accuracy"),
    "sentences": ("stsb/spearman", "sts12_16/spearman/STS14", "sick/spearman"),
    "documents:set=cacm": ("test/MRR@10",),
    "documents:set=vaswani_npl": ("test/R@100",),
    "languages": ("xquad/cross_script/nDCG@10", "xquad/en_to_ru/tfidf_characters/nDCG@10"),
    "code:set=cosqa": ("functions/MRR@10", "functions/bm25_identifiers/MRR@10"),
    "code": ("functions/MRR", "functions/bm25_identifiers/MRR", "functions/fused_with_bm25_identifiers/MRR"),
}


@pytest.mark.slow
@pytest.mark.parametrize("spec", WANTED)
def test_a_small_run_on_a_real_set(tmp_path, data_folder, monkeypatch, spec):
    monkeypatch.setenv("CONTRASTIVE_JAX_DATA", str(data_folder))
    name, _, arguments = spec.partition(":")
    arguments = ",".join(filter(None, (arguments, "small")))
    run = Run(experiment(f"{name}.py:{arguments}", devices=2), tmp_path, StopRequest())
    result = run()
    assert np.isfinite(result["loss"])
    for metric in WANTED[spec]:
        assert np.isfinite(result.get(metric, np.nan)), (metric, sorted(result))
