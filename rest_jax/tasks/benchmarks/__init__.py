"""The published tasks: their rows, their files, and their TFDS data sets."""
