"""Where files lie, and how they are read, listed and written. Nothing else opens a URI."""
