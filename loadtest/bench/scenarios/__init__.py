"""The benchmarks, one a file: `run(context)` measures and returns a frozen result."""
