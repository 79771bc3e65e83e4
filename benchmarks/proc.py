"""What a process and its children have used, from /proc."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MEBI = 1024  # kB per MiB


@dataclass(frozen=True)
class Memory:
    """Resident memory in MiB: all of it, and with shared pages divided among those who share them."""

    rss_mb: float
    pss_mb: float


def family(pid: int) -> Iterator[int]:
    """The process and everything it started: nginx's work is done by its children."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def cpu_s(pid: int) -> float:
    """Seconds of CPU, user and system, that the family has used so far."""
    total = 0
    for member in family(pid):
        # The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it.
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def memory(pid: int) -> Memory:
    """Memory of the family now."""
    rss_kb = pss_kb = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Rss":
                rss_kb += int(value.split()[0])
            elif name == "Pss":
                pss_kb += int(value.split()[0])
    return Memory(rss_kb / MEBI, pss_kb / MEBI)


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
    user, nice, system, _idle, _iowait, irq, softirq, *_ = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq))) / TICKS_PER_S


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
