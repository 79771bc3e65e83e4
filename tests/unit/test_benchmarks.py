"""The benchmark's own arithmetic: a wrong table would be believed."""

import json
import os

import pytest

from benchmarks import hot
from benchmarks.figures import Cost, Findings, compared, together
from benchmarks.growth import stored_id
from benchmarks.load import BenchmarkError, Load, program
from benchmarks.outputs import faults
from benchmarks.proc import cpu_s, family, memory


def test_a_ratio_is_the_median_of_the_pairs_own_ratios() -> None:
    """A disturbance that halves both sides of a pair leaves its ratio alone."""
    figure = compared("accept", "jobs/s", [(1000, 500), (500, 250), (1000, 100)])
    assert figure.ratio == 0.5
    assert (figure.beside, figure.hasty) == (1000, 250)


def test_several_measurements_are_told_as_one() -> None:
    """The median of all runs' own ratios, and what the single measurements said; a row that was measured once stays."""
    kept = [
        Findings(
            [compared("accept", "jobs/s", [(1000, 400), (1000, 500), (1000, 600)])], [Cost("accept", {"nginx": 30})]
        ),
        Findings([compared("accept", "jobs/s", [(500, 450)]), compared("one GET", "ms", [(2, 3)])]),
        Findings([compared("accept", "jobs/s", [(800, 640)])], [Cost("accept", {"nginx": 50})]),
    ]
    both = together([Findings.of(json.loads(json.dumps(one.as_dict()))) for one in kept])
    accept, get = both.figures
    assert (accept.hasty, accept.beside, accept.ratio) == (500, 800, 0.6)
    assert accept.note == "3 measurements: 0.50 to 0.90"
    assert (get.hasty, get.beside, get.ratio, get.note) == (3, 2, 1.5, "1 measurement")
    assert both.costs == [Cost("accept", {"nginx": 40})]


def test_a_profile_counts_a_function_itself_and_below_it() -> None:
    """A recursive function counts once a sample, however often it is on the stack."""
    found = hot.read("api-server-1", "main (a/b.py:1);work (a/c.py:2);work (a/c.py:9) 3\nmain (a/b.py:7) 1\n")
    assert found.samples == 4
    assert found.itself == {"work (a/c.py)": 3, "main (a/b.py)": 1}
    assert found.with_callees == {"main (a/b.py)": 4, "work (a/c.py)": 3}


def test_a_missing_program_is_an_error_that_names_the_command() -> None:
    """Whoever lacks wrk is told how to get it."""
    with pytest.raises(BenchmarkError, match="`apt-get install wrk`"):
        program("no-such-program", "apt-get install wrk")


def test_stored_jobs_have_ids_of_their_own() -> None:
    """A preloaded job is found again by its number."""
    assert len({stored_id(number) for number in range(10_000)}) == 10_000


def _listed(number: int, **changes: object) -> dict[str, object]:
    """A job of a load, as `/v1` lists it."""
    name = f"prefix-1-{number}"
    job = {"id": str(number), "status": "finished", "input": {"name": name}, "output": f"hello {name}", "error": None}
    return {**job, **changes}


@pytest.mark.parametrize(
    ("jobs", "found"),
    [
        ([_listed(1), _listed(2)], []),
        ([_listed(1), _listed(2), _listed(3)], []),
        ([_listed(1)], ["2 were answered 201, and 1 are listed"]),
        ([_listed(n) for n in range(4)], ["2 were answered 201, and 4 are listed"]),
        ([_listed(1), _listed(1)], ["1 are listed twice"]),
        ([_listed(1), _listed(2, output="hello")], ["2 of prefix-1-2 is finished with 'hello' and None"]),
        (
            [_listed(1), _listed(2, status="failed", output=None, error="lost")],
            ["2 of prefix-1-2 is failed with None and 'lost'"],
        ),
    ],
)
def test_each_job_of_a_handlers_load_is_judged(jobs: list[dict[str, object]], found: list[str]) -> None:
    """By its status and its own output; one more than were answered may have been under way."""
    load = Load("prefix", connections=1, accepted=2, seconds=1, p50_ms=1, p99_ms=1)
    assert faults("greet", jobs, load) == found


def test_command_of_the_benchmark_is_judged_by_its_input() -> None:
    """It gives back what it got."""
    load = Load("prefix", connections=1, accepted=1, seconds=1, p50_ms=1, p99_ms=1)
    assert faults("greet_command", [_listed(1, output={"name": "prefix-1-1"})], load) == []
    assert len(faults("greet_command", [_listed(1)], load)) == 1


def test_a_process_is_measured_with_what_it_started() -> None:
    """This process has memory, and its processor time does not go back."""
    pid = os.getpid()
    assert pid in [member.pid for member in family(pid)]
    before = cpu_s(pid)
    sum(range(1_000_000))
    assert cpu_s(pid) >= before
    assert memory(pid).rss_mb >= memory(pid).pss_mb > 0
