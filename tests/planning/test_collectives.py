"""Bytes by collective, from programs compiled for 8 devices and from what other compilers write."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax.benchmarks.problem import Problem
from contrastive_jax.benchmarks.programs import Program, ours
from contrastive_jax.distributed.mesh import MeshShape
from contrastive_jax.planning.collectives import sent_bytes

ROUND = [(i, (i + 1) % 8) for i in range(8)]
N = 4 * 24 * 16  # bytes of a device's share below


def sent(body):
    run = jax.shard_map(
        body, mesh=MeshShape().make(), in_specs=P("data"), out_specs=P("data"), check_vma=False
    )
    compiled = jax.jit(run).lower(jax.ShapeDtypeStruct((8 * 24, 16), jnp.float32)).compile()
    return sent_bytes(compiled.as_text(), 8)


def hop(x):
    return jax.lax.ppermute(x, "data", ROUND)


@pytest.mark.parametrize(
    ("body", "want"),
    [
        (lambda x: hop(hop(x + 1) * 2), {"collective-permute": 2 * N}),
        (lambda x: jax.lax.fori_loop(0, 5, lambda _, y: hop(y * 2), x), {"collective-permute": 5 * N}),
        (
            lambda x: jax.lax.scan(
                lambda y, _: jax.lax.scan(lambda z, _: (hop(z * 2), None), y, length=3), x, length=4
            )[0],
            {"collective-permute": 12 * N},
        ),
        (lambda x: jax.lax.all_gather(x, "data", tiled=True), {"all-gather": 7 * N}),
        (lambda x: jax.lax.psum_scatter(x, "data", tiled=True), {"reduce-scatter": 7 * N // 8}),
        (lambda x: jax.lax.psum(x, "data"), {"all-reduce": 2 * 7 * N // 8}),
        (
            lambda x: jax.lax.psum(x, "data", axis_index_groups=[[0, 1], [2, 3], [4, 5], [6, 7]]),
            {"all-reduce": N},
        ),
        (lambda x: jax.lax.all_to_all(x, "data", 0, 0, tiled=True), {"all-to-all": 7 * N // 8}),
        (lambda x: jax.lax.cond(x[0, 0] > 0, hop, lambda y: y * 2, x), {}),
        (lambda x: x * 2, {}),
    ],
)
def test_a_program_of_8_devices(body, want):
    assert sent(body) == want


@functools.cache
def program(communication):
    problem = Problem(256, 32)
    mesh = MeshShape(4, 2).make()
    engine = {"communication": communication, "keep": 0}
    return Program(ours(problem, mesh, engine), problem, mesh).collective_bytes


def test_a_ring_sends_what_the_formula_says():
    """Columns forward, columns and their gradient backward, float32; and some numbers a column."""
    found = program("ring")
    columns, hops = 4 * 32 * 32, 7
    assert 3 * hops * columns <= found["collective-permute"] <= 1.2 * 3 * 8 * columns
    assert found["all-reduce"] < 200
    assert set(found) == {"collective-permute", "all-reduce"}


def test_gathering_sends_less():
    found = program("gather")
    columns = 4 * 32 * 32
    assert 7 * columns <= found["all-gather"] <= 2 * 7 * (columns + 8 * 32 * 4)
    assert sum(found.values()) < sum(program("ring").values())


ASYNCHRONOUS = """HloModule jit_f, is_scheduled=true

%wrapped (p: f32[16,8]) -> f32[4,8] {
  %p = f32[16,8]{1,0:T(8,128)} parameter(0)
  ROOT %rs = f32[4,8]{1,0:T(8,128)} reduce-scatter(%p), replica_groups=[2,4]<=[8]
}

%body (s: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %s = (s32[], bf16[4,8]{1,0}) parameter(0)
  %x = bf16[4,8]{1,0} get-tuple-element(%s), index=1
  %cp = (bf16[4,8], bf16[4,8], u32[], u32[]) collective-permute-start(%x), channel_id=1
  %cpd = bf16[4,8]{1,0} collective-permute-done(%cp)
  ROOT %t = (s32[], /*index=1*/bf16[4,8]{1,0}) tuple(%i, %cpd)
}

ENTRY %main.1 (a: f32[4,8], b: bf16[2,8]) -> f32[4,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %ag = ((f32[4,8], bf16[2,8]), (f32[32,8], bf16[16,8])) all-gather-start(%a, %b), replica_groups=[1,8]<=[8]
  %agd = (f32[32,8]{1,0}, bf16[16,8]{1,0}) all-gather-done(%ag)
  %ar = (f32[], f32[4]{0}) all-reduce-start(%c, %d), replica_groups={{0,1},{2,3},{4,5},{6,7}}
  %ard = (f32[], f32[4]{0}) all-reduce-done(%ar)
  %rs = ((f32[16,8]{1,0}), f32[4,8]{1,0}) async-start(%e), calls=%wrapped
  %rsd = f32[4,8]{1,0} async-done(%rs), calls=%wrapped
  %loop = (s32[], bf16[4,8]) while(%init), body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %r = f32[4,8]{1,0} add(%rsd, %rsd)
}
"""


def test_what_accelerators_write():
    assert sent_bytes(ASYNCHRONOUS, 8) == {
        "all-gather": (32 * 8 * 4 + 16 * 8 * 2) * 7 // 8,
        "all-reduce": 2 * (4 + 16) // 2,
        "reduce-scatter": 16 * 8 * 4 * 3 // 4,
        "collective-permute": 3 * 4 * 8 * 2,
    }


TPU = """HloModule jit_f, is_scheduled=true

%start (p: f32[4,8]) -> (f32[4,8], f32[16,8]) {
  %p = f32[4,8]{1,0:T(8,128)S(1)} parameter(0)
  %ag.1 = f32[16,8]{1,0} all-gather(%p), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  ROOT %begun = (f32[4,8], f32[16,8]) custom-call(%ag.1), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.2 (p: f32[4,8]) -> f32[4,8] {
  %p = f32[4,8]{1,0} parameter(0)
  %ag.2 = f32[16,8]{1,0} all-gather(%p), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  ROOT %x = f32[4,8]{1,0} add(%p, %p)
}

%done (p: f32[4,8]) -> f32[16,8] {
  %p = f32[4,8]{1,0} parameter(0)
  %ag.3 = f32[16,8]{1,0} all-gather(%p), channel_id=7, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  ROOT %y = f32[16,8]{1,0} custom-call(%ag.3), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.1 (p: f32[16,8]) -> f32[2,8] {
  %p = f32[16,8]{1,0} parameter(0)
  %ar = f32[16,8]{1,0} all-reduce(%p), replica_groups={}, to_apply=%add
  ROOT %z = f32[2,8]{1,0} dynamic-slice(%ar, %i, %o), dynamic_slice_sizes={2,8}
}

%condition (s: (s32[], f32[4,8])) -> pred[] {
  %s = (s32[], f32[4,8]{1,0}) parameter(0)
  %bound = s32[] constant(7)
  %counter = s32[] get-tuple-element(%s), index=0
  ROOT %less = pred[] compare(%counter, %bound), direction=LT
}

%body (s: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %s = (s32[], f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%s), index=1
  %begun = (f32[4,8], f32[16,8]) fusion(%x), kind=kCustom, calls=%start
  %meanwhile = f32[4,8] fusion(%x), kind=kOutput, calls=%async_collective_fusion.2
  %done.1 = f32[16,8]{1,0} fusion(%begun), kind=kCustom, calls=%done
  ROOT %t = (s32[], f32[4,8]{1,0}) tuple(%i, %meanwhile)
}

ENTRY %main (a: f32[4,8]) -> f32[2,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %two = s32[]{:T(128)} constant(2)
  %copied = s32[]{:T(128)S(6)} copy(%two)
  %init = (s32[], f32[4,8]) tuple(%copied, %a)
  %loop = (s32[], f32[4,8]) while(%init), condition=%condition, body=%body
  ROOT %r = f32[2,8]{1,0} fusion(%w), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def test_what_a_tpu_writes():
    """Loops without a noted count, named axes, and one gathering in the computations of three fusions."""
    assert sent_bytes(TPU, 8) == {
        "all-gather": (7 - 2) * 16 * 8 * 4 * 3 // 4,
        "reduce-scatter": 16 * 8 * 4 * 7 // 8,
    }
