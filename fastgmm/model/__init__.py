"""What a mixture is: parameters, statistics, the table of covariance structures, priors, E- and M-steps, densities."""
