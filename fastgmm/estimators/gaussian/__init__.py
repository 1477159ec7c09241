"""What serves `GaussianMixture` alone."""
