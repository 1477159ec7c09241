"""Where rows come from and go to: sources, the wrappers around them, what a pass over them finds, and files of results."""
