"""Models behind the engine's `Runner` port. Start at `loading.load_runner`."""
