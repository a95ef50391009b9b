"""How long pieces of work take together, on so many that take the next one as soon as they have done one."""

import heapq
from collections.abc import Iterable


def makespan(durations: Iterable[float], slots: int) -> float:
    """When the last piece of work is done, if each is begun in its order by the slot that is free first.

    Args:
      durations: How long each piece takes, in the order in which they are begun.
      slots: How many are worked on at a time.

    Returns:
      In the unit of the durations; 0 where there is nothing to do.
    """
    ends = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)
