"""The complete text of every shipped config: a default that changes shows in review.

`UPDATE_GOLDEN=1 pytest tests/test_golden.py` writes the files anew.
"""

import json
import os
from pathlib import Path

import pytest

from contrastive_jax.configuration import load
from contrastive_jax.training.experiment import Config

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
SPECS = [
    "glyphs.py",
    "glyphs.py:loss=sigmoid",
    "glyphs.py:small",
    "glyphs_faces.py",
    "lit.py:small",
    "emoji.py:data=data,languages=en+zh",
    "cifar10.py:data=data",
    "sentences.py:data=data",
    "documents.py:data=data",
    "languages.py:data=data,small",
    "code.py:data=data",
    "clip.py:size=B/16,res=224,source=jsonl:captions.jsonl",
    "clip.py:size=L/14,res=336,held_out=jsonl:held_out.jsonl",
]
METHODS = [f"methods/{file.name}:data=data" for file in sorted((ROOT / "configs" / "methods").glob("*.py"))]

PAPERS = [f"{spec},paper" for spec in METHODS]


def golden(spec: str) -> Path:
    file, _, argument = spec.partition(":")
    place = (GOLDEN / file).with_suffix("")
    return place.with_name(f"{place.name}-{argument}".replace(":", "-").replace("/", "").strip("-") + ".json")


@pytest.mark.parametrize("spec", SPECS + METHODS + PAPERS)
def test_the_resolved_config(spec):
    file = golden(spec)
    resolved = json.loads(load(f"{ROOT}/configs/{spec}", [], Config).to_json())
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(json.dumps(resolved, indent=1, sort_keys=True) + "\n")
    assert resolved == json.loads(file.read_text())


def test_every_config_has_a_golden_text():
    named = {spec.partition(":")[0] for spec in SPECS + METHODS}
    configs = ROOT / "configs"
    files = {*configs.glob("*.py"), *configs.glob("methods/*.py")}
    assert {str(file.relative_to(configs)) for file in files} == named
