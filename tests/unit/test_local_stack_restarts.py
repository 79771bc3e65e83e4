"""The decisions about a child: how long it pauses, how often it may fail at the start."""

from hasty.server.local_stack.restarts import Attempts, End, Pauses


def test_pauses_double_up_to_ten_seconds() -> None:
    """A child that dies at once is tried ever more rarely."""
    pauses = Pauses(0.5)
    assert [pauses.after(0.1) for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_a_long_life_makes_the_pause_short_again() -> None:
    """What ran well for long is not punished for what was before."""
    pauses = Pauses(0.5)
    assert [pauses.after(life_s) for life_s in (0, 0, 0, 10.0, 0)] == [0.5, 1, 2, 0.5, 1]


def test_child_may_die_twice_at_the_start_but_not_of_settings() -> None:
    """Exit code 2 is the same the second time; anything else may have been bad luck."""
    attempts = Attempts()
    assert [attempts.left_after(End(1, "")) for _ in range(3)] == [True, True, False]
    assert not Attempts().left_after(End(2, ""))


def test_a_race_for_a_port_is_tried_again_five_times() -> None:
    """More than that is not a race."""
    attempts = Attempts()
    assert [attempts.left_for_new_ports() for _ in range(6)] == [True] * 5 + [False]
