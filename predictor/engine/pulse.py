"""Whether a process still runs: it says so each second, and silence tells that it does not.

A process that died closes its sockets; one that is stopped, or whose event loop is stuck, keeps
them open and says nothing. Edges ask their engine on the socket that they have, and the supervisor
hears from each child through a pipe. Time is an argument.
"""

BEAT_S = 1.0
SILENT_S = 5.0  # then requests are refused, and the replica is not ready
DEAD_S = 20.0  # then it is started again
# Loading holds Python's interpreter lock for as long as a library is read from a cold disk.
DEAD_LOADING_S = 600.0


class Pulse:
    """When another process was heard last. Asked each `BEAT_S`."""

    __slots__ = ("_asked_s", "_heard_s")

    def __init__(self, now_s: float) -> None:
        self._heard_s = self._asked_s = now_s

    def heard(self, now_s: float) -> None:
        self._heard_s = now_s

    def silent_s(self, now_s: float) -> float:
        """For how long nothing was heard, while this process could have heard it.

        One that stood still itself, as all do in a machine that is suspended, knows nothing of the
        others in that time.
        """
        late_s = now_s - self._asked_s - BEAT_S
        if late_s > BEAT_S:
            self._heard_s = min(self._heard_s + late_s, now_s)
        self._asked_s = now_s
        return now_s - self._heard_s
