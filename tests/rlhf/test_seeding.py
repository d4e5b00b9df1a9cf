"""Random numbers depend on what they are for, and on nothing else."""

from training.rlhf import seeding


def test_draws_differ_by_name_and_repeat_by_name() -> None:
    names = [(0, "ppo", 1, "a", 0), (0, "ppo", 1, "a", 1), (0, "ppo", 2, "a", 0), (0, "sft", 1, "a", 0)]
    rows = [seeding.uniforms(4, seeding.generator(*name)).tolist() for name in names]
    assert len({tuple(row) for row in rows}) == 4
    assert rows[0] == seeding.uniforms(4, seeding.generator(*names[0])).tolist()
