"""Where a recipe runs, and the command line."""
