"""What a process and its children have used."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

MEBI = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """Resident memory in MiB: all of it, and with shared pages divided among those who share them."""

    rss_mb: float
    pss_mb: float


def family(pid: int) -> list[psutil.Process]:
    """The process and everything it started: nginx's work is done by its children."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_s(pid: int) -> float:
    """Seconds of CPU, user and system, that the family has used so far."""
    return sum(times.user + times.system for times in (member.cpu_times() for member in family(pid)))


def memory(pid: int) -> Memory:
    """Memory of the family now."""
    used = [member.memory_full_info() for member in family(pid)]
    return Memory(sum(one.rss for one in used) / MEBI, sum(one.pss for one in used) / MEBI)


class Neighbours:
    """The share of the machine that everyone else took since this was made: above a tenth, no figure can be trusted."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._busy_s, self._own_s = _machine_busy_s(), _own_s()

    def share(self) -> float:
        """Between 0 and 1; children count as our own once they have ended."""
        capacity_s = (time.monotonic() - self._at) * (os.cpu_count() or 1)
        return max(0.0, (_machine_busy_s() - self._busy_s) - (_own_s() - self._own_s)) / capacity_s


def _machine_busy_s() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq


def _own_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class CpuMeter:
    """CPU used by named processes since the meter was made."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before = {name: cpu_s(pid) for name, pid in self._pids.items()}

    def us_per(self, jobs: int) -> dict[str, float]:
        """Microseconds per job, by the process's name."""
        return {name: (cpu_s(pid) - self._before[name]) * 1e6 / jobs for name, pid in self._pids.items()}
