"""Model files and checkpoints: the container, and one file for each kind of model."""
