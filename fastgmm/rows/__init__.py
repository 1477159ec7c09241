"""Where rows come from and go to: sources, wrappers around them, what a pass over them finds, files of results."""
