"""Models behind the engine's runner ports. Start at `loading.load_model`."""
