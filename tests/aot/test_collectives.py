"""What a program sends, read off its text."""

import pytest

from ecg_jax.aot.hlo_collectives import received_bytes

FOUR = "replica_groups={{0,1,2,3}}, use_global_device_ids=true"


def program(*lines: str, before: str = "") -> str:
    return before + "ENTRY %main (x: f32[8]) -> f32[8] {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def test_rings_move_the_least_that_is_possible():
    gather = f"%a = f32[8,100]{{1,0}} all-gather(%x), channel_id=1, {FOUR}"
    scatter = f"%b = bf16[2,100]{{1,0}} reduce-scatter(%x), channel_id=2, {FOUR}"
    reduce = f"ROOT %c = (f32[10]{{0}}, f32[]) all-reduce(%x, %y), channel_id=3, {FOUR}"
    assert received_bytes(program(gather, scatter, reduce)) == {
        "all-gather": 3200 * 3 / 4,
        "all-reduce": 2 * 44 * 3 / 4,
        "reduce-scatter": 4 * 400 * 3 / 4,
    }


LOOP = """%cond (p: (f32[], s32[])) -> pred[] {
  %n = s32[]{:T(128)} constant(10)
  %i = s32[] get-tuple-element(%p), index=1
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body (p: (f32[], s32[])) -> (f32[], s32[]) {
  %a1 = bf16[64]{0} all-gather(%x), channel_id=7, replica_groups=[2,4]<=[8]
  %a2 = bf16[64]{0} all-gather(%x), channel_id=7, replica_groups=[2,4]<=[8]
  %two = s32[] constant(2)
  %next = s32[] add(%i, %two), metadata={op_name="while"}
  ROOT %t = (f32[], s32[]) tuple(%y, /*index=1*/%next), metadata={op_name="while"}
}

%outer (p: s32[]) -> s32[] {
  %w = s32[] while(%p), condition=%cond, body=%body
}

"""


def test_loops_count_every_turn_and_pieces_once():
    once = program("%w = s32[] while(%p), condition=%cond, body=%body", before=LOOP)
    assert received_bytes(once) == {"all-gather": 5 * 128 * 3 / 4}
    known = 'condition=%cond, body=%outer, backend_config={"known_trip_count":{"n":"3"}}'
    assert received_bytes(program(f"%w = s32[] while(%p), {known}", before=LOOP)) == {"all-gather": 15 * 128 * 3 / 4}


def test_a_loop_of_unknown_length_is_an_error():
    text = program(
        "%w = s32[] while(%p), condition=%cond, body=%body", before=LOOP.replace("constant(10)", "negate(%q)")
    )
    with pytest.raises(ValueError, match="how often does this loop run"):
        received_bytes(text)


def test_a_fused_scatter_is_none_of_its_whole_sum():
    fused = (
        "%all-reduce-scatter.6 (x: f32[64]) -> f32[16] {\n"
        f"  %s = f32[64]{{0}} all-reduce(%x), channel_id=1, {FOUR}\n"
        "}\n"
    )
    text = program("%f = f32[16]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.6", before=fused)
    assert received_bytes(text) == {"reduce-scatter": 256 * 3 / 4}


def test_started_ones_name_what_went_in_too():
    groups = "replica_groups=mesh['a'=1,'b'=2] {'b'}"
    gather = f"%g = (f32[4]{{0}}, f32[8]{{0}}) all-gather-start(%x), channel_id=1, {groups}"
    permute = "%p = (f32[4]{0}, f32[4]{0}) collective-permute-start(%x), channel_id=2"
    assert received_bytes(program(gather, permute)) == {"all-gather": 16.0, "collective-permute": 16.0}


def test_devices_that_are_not_stated_are_an_error():
    with pytest.raises(ValueError, match="no devices are stated in"):
        received_bytes(program("%a = f32[8]{0} all-gather(%x), channel_id=1"))


def test_a_program_without_collectives_sends_nothing():
    assert received_bytes(program("ROOT %a = f32[8]{0} add(%x, %y)")) == {}
