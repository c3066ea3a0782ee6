"""Audio as numbers, without a model: files to samples, samples to windows, labels to text."""
