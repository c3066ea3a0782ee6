"""What can stop a benchmark. Messages are shown to the person who started it."""


class BenchError(Exception):
    """A benchmark cannot go on; the message says why and what to do."""
