"""Which split an example belongs to, by stable hashes, paths or lists."""
