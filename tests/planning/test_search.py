"""The search finds the cheapest that fits, and compiles no more than it must."""

import pytest

from contrastive_jax.errors import InputError
from contrastive_jax.planning.search import candidates, cheapest, meshes, microbatches


def searched(groups, plans, bounds=None, too_large=()):
    """plans: name -> (seconds, fits); what is found, and the names in the order of their compilation."""
    compiled, told = [], []

    def measure(overrides):
        name = overrides["name"]
        compiled.append(name)
        seconds, fits = plans[name]
        return {"step_seconds": seconds, "fits": fits}

    def least(overrides):
        if overrides["name"] == "unfit":
            raise InputError("does not divide")
        return (bounds or {}).get(overrides["name"], 0.0), overrides["name"] not in too_large

    groups = [[{"name": name} for name in group] for group in groups]
    best = cheapest(measure, least, groups, lambda overrides, outcome: told.append(overrides["name"]))
    return best and best[0]["name"], compiled, told


def test_the_first_of_a_group_that_fits_ends_it_and_the_least_time_wins():
    plans = {"a": (1.0, False), "b": (3.0, True), "c": (2.9, True), "d": (2.0, True)}
    assert searched(["abc", "d"], plans) == ("d", ["a", "b", "d"], ["a", "b", "d"])


def test_what_cannot_be_cheaper_or_cannot_fit_is_not_compiled():
    plans = {"a": (2.0, True), "b": (1.0, True), "d": (1.5, True)}
    found = searched(["a", "b", "cd"], plans, bounds={"b": 2.0}, too_large="c")
    assert found == ("d", ["a", "d"], ["a", "b", "c", "d"])


def test_what_does_not_suit_the_config_is_passed_over():
    assert searched([["unfit", "a"]], {"a": (1.0, True)}) == ("a", ["a"], ["unfit", "a"])


def test_nothing_fits():
    assert searched(["a"], {"a": (1.0, False)})[0] is None


def test_without_figures_of_the_device_the_least_flops_win():
    plans = {"a": 20.0, "b": 10.0}

    def measure(overrides):
        program = {"runs": 2, "flops": plans[overrides["name"]]}
        return {"step_seconds": None, "fits": True, "programs": [program]}

    best = cheapest(measure, lambda _: (0.0, True), [[{"name": "a"}], [{"name": "b"}]], lambda *_: None)
    assert best[0]["name"] == "b"


@pytest.mark.parametrize("chips", [1, 2, 8, 256, 384, 1024])
def test_meshes_multiply_to_the_chips(chips):
    found = list(meshes(chips))
    assert {axes["data"] * axes["fsdp"] * axes["tensor"] for axes in found} == {chips}
    assert {1, chips} <= {axes["fsdp"] for axes in found}


def test_microbatches_divide_a_devices_examples():
    assert microbatches(4096, 64) == [512, 128, 64, 32, 8]
    assert microbatches(96, None) == [96, 32, 8]
    assert microbatches(7, None) == [7]


def test_candidates_are_overrides_of_keys():
    groups = candidates(1024, 4, ["encoders.image.remat"], None)
    assert len(groups) == 2 * 3
    assert groups[0][0] == {
        "mesh.data": "4",
        "mesh.fsdp": "1",
        "mesh.tensor": "1",
        "encoders.image.remat": "False",
        "microbatch": "256",
    }
    assert all(len({one["mesh.fsdp"] for one in group}) == 1 for group in groups)
