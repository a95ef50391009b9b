"""From finished units to a committed dataset: checks, statistics, the manifest and the pointer."""
