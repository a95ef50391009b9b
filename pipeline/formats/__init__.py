"""What lies on disk: names, features, records, the manifest; how stored bytes become arrays again."""
