"""Who calls us: the function platform, the command line."""
