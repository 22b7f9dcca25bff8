"""Bytes that a program moves to and from main memory, read from what a TPU's compiler writes."""

from contrastive_jax.planning.hlo import Module
from contrastive_jax.planning.traffic import moved_bytes

PROGRAM = """HloModule jit_f, is_scheduled=true

%sliced (p: f32[10,100], i: s32[]) -> f32[1,100] {
  %p = f32[10,100]{1,0:T(8,128)} parameter(0)
  %i = s32[] parameter(1)
  %o = s32[] constant(0)
  %part = f32[1,100]{1,0} dynamic-slice(%p, %i, %o), dynamic_slice_sizes={1,100}
  ROOT %twice = f32[1,100]{1,0} add(%part, %part)
}

%written (p: f32[10,100], u: f32[1,100], i: s32[]) -> f32[10,100] {
  %p = f32[10,100]{1,0} parameter(0)
  %u = f32[1,100]{1,0} parameter(1)
  %i = s32[]{:S(6)} parameter(2)
  %o = s32[] constant(0)
  ROOT %put = f32[10,100]{1,0} dynamic-update-slice(%p, %u, %i, %o)
}

%condition (s: (s32[], f32[10,100], f32[10,100])) -> pred[] {
  %s = (s32[], f32[10,100]{1,0}, f32[10,100]{1,0}) parameter(0)
  %bound = s32[] constant(10)
  %counter = s32[] get-tuple-element(%s), index=0
  ROOT %less = pred[] compare(%counter, %bound), direction=LT
}

%body (s: (s32[], f32[10,100], f32[10,100])) -> (s32[], f32[10,100], f32[10,100]) {
  %s = (s32[], f32[10,100]{1,0}, f32[10,100]{1,0}) parameter(0)
  %i = s32[]{:T(128)S(6)} get-tuple-element(%s), index=0
  %from = f32[10,100]{1,0} get-tuple-element(%s), index=1
  %to = f32[10,100]{1,0} get-tuple-element(%s), index=2
  %one = f32[1,100]{1,0} fusion(%from, %i), kind=kLoop, calls=%sliced
  %near = f32[1,100]{1,0:S(1)} negate(%one)
  %new = f32[10,100]{1,0} fusion(%to, %near, %i), kind=kLoop, calls=%written
  ROOT %t = (s32[], f32[10,100]{1,0}, f32[10,100]{1,0}) tuple(%i, %from, %new)
}

ENTRY %main (a: f32[10,100], b: f32[100,5]) -> f32[10,5] {
  %a = f32[10,100]{1,0} parameter(0)
  %b = f32[100,5]{1,0} parameter(1)
  %zero = s32[] constant(0)
  %begun = (f32[100,5]{1,0:S(1)}, f32[100,5]{1,0}, u32[]{:S(2)}) copy-start(%b)
  %there = f32[100,5]{1,0:S(1)} copy-done(%begun)
  %init = (s32[], f32[10,100]{1,0}, f32[10,100]{1,0}) tuple(%zero, %a, %a)
  %loop = (s32[], f32[10,100]{1,0}, f32[10,100]{1,0}) while(%init), condition=%condition, body=%body
  %out = f32[10,100]{1,0} get-tuple-element(%loop), index=2
  ROOT %product = f32[10,5]{1,0} dot(%out, %there), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""
ROW, COPIED, PRODUCT = 100 * 4, 100 * 5 * 4, (10 * 100 + 10 * 5) * 4


def test_slices_and_updates_in_place_count_as_themselves_and_loops_as_often_as_they_run():
    """A row is read and written, read again, then written in place from memory where nothing counts."""
    counter = 4 + 4 + 1  # the loop's comparison
    assert moved_bytes(Module(PROGRAM)) == 10 * (2 * ROW + ROW + ROW + counter) + COPIED + PRODUCT
