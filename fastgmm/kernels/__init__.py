"""Compiled loops: arrays and scalars in, arrays out. Nothing here checks its arguments; the layers above do."""
