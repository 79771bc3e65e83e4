"""What becomes of the turns of handlers in a job-server."""

import asyncio
import uuid
from dataclasses import replace

from hasty.jobs import Failure, Reason, Report, Status
from hasty.server.messaging.topology import JOB_CANCELLED
from tests.eventually import eventually
from tests.fakes.broker import DUPLICATE_WINDOW_S
from tests.unit.job_server.world import KIND, REPORT, Hall, Worker, World


async def test_turn_of_a_handler_is_recorded_with_its_report(world: World, worker: Worker) -> None:
    """Under the turn's id."""
    turn = world.post()
    await worker.take()

    worker.hall.end(turn.turn_id, report=replace(REPORT, output='"hello"'))
    await worker.idle()

    ending = world.store.endings[turn.job_id]
    assert (ending.status, ending.report, ending.sleep_time_used) == (
        Status.FINISHED,
        replace(REPORT, output='"hello"'),
        1,
    )
    assert world.at_rest


async def test_later_turn_has_an_ending_of_its_own(world: World, worker: Worker) -> None:
    """The first one said again; what was recorded of it is not the second one's."""
    first = world.post()
    await worker.take()
    worker.hall.end(first.turn_id, Status.PROCESSING, replace(REPORT, delay_s=3))
    await worker.idle()

    second = world.post(turn=2, job_id=first.job_id, attempt=2)
    await worker.take()
    worker.hall.end(second.turn_id)
    await worker.idle()

    assert second.turn_id == f"{first.job_id}:2"
    assert [world.store.endings[turn.turn_id].status for turn in (first, second)] == [
        Status.PROCESSING,
        Status.FINISHED,
    ]
    assert worker.hall.runs == [(first.turn_id, 1, False), (second.turn_id, 1, False)]


async def test_redelivered_turn_says_that_it_may_have_run(world: World, worker: Worker) -> None:
    """Each time one more; from the fourth delivery on it runs alone."""
    turn = world.post()
    await worker.take()
    heirs = [world.worker() for _ in range(3)]
    for heir in heirs:
        world.deliver_all_again()
        await heir.take()

    runs = [one.hall.runs[0] for one in (worker, *heirs)]
    assert runs == [
        (turn.turn_id, 1, False),
        (turn.turn_id, 2, False),
        (turn.turn_id, 3, False),
        (turn.turn_id, 4, True),
    ]


async def test_first_dispatch_that_may_not_be_the_first_is_looked_up(world: World, worker: Worker) -> None:
    """It says so; the turn has run, and the broker has forgotten its message."""
    turn = world.post()
    await worker.take()
    worker.hall.end(turn.turn_id)
    await worker.idle()
    ended, lost = turn, str(uuid.uuid4())

    world.seconds += DUPLICATE_WINDOW_S
    world.post(job_id=ended.job_id, again=True)
    world.post(job_id=lost, again=True)
    await worker.take()

    assert worker.hall.runs == [(ended.turn_id, 1, False), (lost, 2, False)]


async def test_turn_that_ends_during_its_look_up_is_not_run_again(world: World, worker: Worker) -> None:
    """It was held when its second delivery was looked up, and had ended when the answer came."""
    turn = world.post()
    await worker.take()
    world.deliver_all_again()
    answer = asyncio.Event()
    world.store.hold = answer
    taking = asyncio.create_task(worker.take())
    await eventually(lambda: world.store.held_up)

    world.store.hold = None
    worker.hall.end(turn.turn_id)
    await worker.idle()
    answer.set()
    await taking
    await worker.take()
    await worker.idle()

    assert worker.hall.runs == [(turn.turn_id, 1, False)]
    assert world.at_rest


async def test_slow_look_up_makes_a_first_delivery_a_later_one(world: World, worker: Worker) -> None:
    """Beside it, another turn had to be looked up; meanwhile it may have gone to another job-server."""
    known = world.post(number=2)
    answer = asyncio.Event()
    world.store.hold = answer
    turn = world.post()
    taking = asyncio.create_task(worker.take())
    await eventually(lambda: world.store.held_up)

    world.seconds += 3
    world.store.hold = None
    answer.set()
    await taking
    assert worker.hall.runs == [(known.turn_id, 2, False)]
    await worker.take()

    assert worker.hall.runs == [(known.turn_id, 2, False), (turn.turn_id, 2, False)]


async def test_first_run_costs_no_write(world: World, worker: Worker) -> None:
    """Nor a look-up: the database may be down."""
    world.store.up = False
    turn = world.post()
    await worker.take()

    assert worker.hall.runs == [(turn.turn_id, 1, False)]


async def test_at_most_once_turn_is_lost_instead_of_run_again(world: World) -> None:
    """Its begin is written first, so that it is known by whoever comes next."""
    first, heir = (world.worker(hall=Hall(at_most_once=True)) for _ in range(2))
    turn = world.post()
    await first.take()
    assert first.hall.runs == [(turn.turn_id, 1, False)]
    assert world.store.runs == {turn.turn_id: 1}

    world.deliver_all_again()
    await heir.take()
    await eventually(lambda: world.store.endings)

    assert heir.hall.runs == []
    ending = world.store.endings[turn.turn_id]
    message = "it was started before, nobody knows how far it came, and it must not run twice"
    now_s = world.seconds
    report = Report("a worker", "", now_s, now_s, run=1, failure=Failure(Reason.LOST, message=message))
    assert (ending.status, ending.report) == (Status.FAILED, report)


async def test_at_most_once_turn_does_not_begin_without_a_mark(world: World) -> None:
    """While the database is down, it waits."""
    worker = world.worker(hall=Hall(at_most_once=True))
    world.store.up = False
    world.post()
    await worker.take()

    assert worker.hall.runs == []
    assert not world.at_rest


async def test_turn_that_is_not_understood_is_handed_back(world: World, worker: Worker) -> None:
    """Another version of the handler gets it, after a while; nothing is recorded."""
    turn = world.post()
    await worker.take()

    worker.hall.refuse(turn.turn_id)
    await eventually(lambda: len(worker.service.held) == 0)

    assert world.store.endings == {}
    world.seconds += 1
    newer = world.worker()
    await newer.take()
    assert [run[0] for run in newer.hall.runs] == [turn.turn_id]


async def test_root_kind_can_be_a_handlers(world: World) -> None:
    """It gets the object id as its input."""
    worker = world.worker(hall=Hall(root_kind=KIND))
    job_id = world.create(number=1)
    await worker.take()

    started = worker.hall.under_way[job_id]
    assert started.turn.task is not None
    assert (started.turn.task.kind, started.turn.task.input) == (KIND, '{"object_id": "x"}')
    worker.hall.end(job_id)
    await worker.idle()
    assert world.published() == [(job_id, "finished", 1)]


async def test_places_of_handlers_and_of_sleepers_are_apart(world: World) -> None:
    """Neither keeps the other from its work."""
    worker = world.worker(concurrency=1, hall=Hall(slots=1))
    world.create()
    world.post()
    world.post()
    await worker.take()
    worker.hall.slots = 0

    assert (worker.service.free_slots, worker.service.free_slots_of(KIND)) == (0, 0)
    assert (len(worker.workshop.under_way), len(worker.hall.under_way)) == (1, 1)


async def test_cancelled_run_is_asked_to_stop(world: World, worker: Worker) -> None:
    """Its ending is recorded when it is over, as what it was."""
    turn = world.post()
    await worker.take()

    worker.service.cancel([turn.job_id])

    assert worker.hall.asked_to_stop == [turn.turn_id]
    assert world.store.endings == {}
    worker.hall.end(turn.turn_id, Status.CANCELLED)
    await worker.idle()
    assert world.store.endings[turn.turn_id].status is Status.CANCELLED


async def test_cancelled_sleep_ends_at_once(world: World, worker: Worker) -> None:
    """With the time it has slept."""
    job_id = world.create(number=1)
    await worker.take()

    worker.service.cancel([job_id])
    await worker.idle()

    assert world.store.endings[job_id].status is Status.CANCELLED
    assert 0 <= world.store.endings[job_id].sleep_time_used < 20
    assert worker.workshop.under_way == {}


async def test_job_that_was_cancelled_before_never_begins(world: World, worker: Worker) -> None:
    """Also when it is delivered for the first time, of which no ending is looked for."""
    world.seconds = 100
    turn = world.post()
    worker.service.cancel([turn.job_id])

    await worker.take()
    await worker.idle()

    assert worker.hall.runs == []
    ending = world.store.endings[turn.turn_id]
    assert (ending.status, ending.report) == (Status.CANCELLED, Report("a worker", "", 100, 100, run=0))
    assert world.at_rest


async def test_request_ends_a_turn_that_nobody_holds(world: World, worker: Worker) -> None:
    """Its message, when it comes, finds the ending; the first ending stays."""
    turn = world.post()
    request = world.request_cancel(turn)

    worker.service.end_cancelled(turn, request)
    await worker.idle()
    await worker.take()
    await worker.idle()

    assert worker.hall.runs == []
    assert world.store.endings[turn.turn_id].status is Status.CANCELLED
    assert world.broker.unfinished(JOB_CANCELLED) == 2
    assert world.at_rest


async def test_recorded_outcome_wins_against_a_request(world: World, worker: Worker) -> None:
    """The job has finished: the request changes nothing, and what is recorded is published again."""
    turn = world.post()
    await worker.take()
    worker.hall.end(turn.turn_id)
    await worker.idle()

    worker.service.end_cancelled(turn, world.request_cancel(turn))
    await worker.idle()

    assert world.store.endings[turn.turn_id].status is Status.FINISHED
    assert world.broker.unfinished(JOB_CANCELLED) == 0
