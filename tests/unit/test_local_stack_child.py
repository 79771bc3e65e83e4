"""The decisions about a child: how long it pauses, how often it may fail at the start."""

from local_stack.child import _End, _Pauses, _Tries  # the pure part of a child


def test_pauses_double_up_to_ten_seconds() -> None:
    """A child that dies at once is tried ever more rarely."""
    pauses = _Pauses(0.5)
    assert [pauses.after(0.1) for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_a_long_life_makes_the_pause_short_again() -> None:
    """What ran well for long is not punished for what was before."""
    pauses = _Pauses(0.5)
    assert [pauses.after(life_s) for life_s in (0, 0, 0, 10.0, 0)] == [0.5, 1, 2, 0.5, 1]


def test_a_child_may_die_twice_at_the_start_but_never_of_its_settings() -> None:
    """Exit code 2 is the same the second time; anything else may have been bad luck."""
    tries = _Tries()
    assert [tries.left_after(_End(1, "")) for _ in range(3)] == [True, True, False]
    assert not _Tries().left_after(_End(2, ""))


def test_a_race_for_a_port_is_tried_again_five_times() -> None:
    """More than that is not a race."""
    tries = _Tries()
    assert [tries.left_for_new_ports() for _ in range(6)] == [True] * 5 + [False]
