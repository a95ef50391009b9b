"""Making units: from references to shards and journals."""
