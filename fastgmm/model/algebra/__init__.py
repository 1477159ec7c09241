"""The algebra of mixtures: what follows from weights, means and covariances alone, without rows."""
