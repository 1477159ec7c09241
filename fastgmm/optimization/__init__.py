"""How parameters are found: starts, iterations and the table of solvers, acceleration, stopping, checkpoints."""
