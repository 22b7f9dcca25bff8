"""The floors of the house: what each part may import, read from the imports themselves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "contrastive_jax"
FLOORS = [
    {"errors", "written"},
    {"named_files", "locking"},
    {"distributed", "configuration", "addresses"},
    {"similarity"},
    {"losses"},
    {"encoders"},
    {"branches", "interop"},
    {"data"},
    {"evaluation"},
    {"training"},
    {"planning"},
    {"benchmarks"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(FLOORS) for part in parts}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    return module.split(".")[1]


def imports(file: Path):
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_part_imports_only_what_stands_lower(file):
    own = file.relative_to(PACKAGE).with_suffix("").parts[0]
    for module in imports(file):
        if not module.startswith("contrastive_jax.") or own == "__init__":
            continue
        other = part_of(module)
        if other in LEVEL and other != own:
            assert LEVEL[other] < LEVEL[own], f"{own} imports {module}"


@pytest.mark.parametrize(
    ("library", "allowed"),
    [("flax", "encoders/"), ("orbax", "training/orbax_arrays.py"), ("tensorflow", "nowhere")],
)
def test_a_library_is_imported_in_one_place(library, allowed):
    for file in FILES:
        if any(module.split(".")[0] == library for module in imports(file)):
            assert str(file.relative_to(PACKAGE)).startswith(allowed), f"{file} imports {library}"


def test_every_part_stands_on_a_floor():
    parts = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert parts - {"__init__", "__pycache__"} <= set(LEVEL)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_losses_need_jax_numpy_and_optax_only():
    loaded = run(
        "import sys, contrastive_jax\n"
        "contrastive_jax.softmax_contrastive, contrastive_jax.top_k\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    ).split()
    ours = {
        "flax",
        "orbax",
        "grain",
        "ml_collections",
        "jaxtyping",
        "absl",
        "PIL",
        "matplotlib",
        "rich",
        "tokenizers",
    }
    assert not ours & set(loaded)


def test_importing_the_package_imports_nothing_else():
    loaded = run("import sys, contrastive_jax, contrastive_jax.cli\nprint(*sys.modules)").split()
    assert not {"jax", "flax", "numpy"} & set(loaded)
