"""Where raw data comes from: one module a source. Listing gives references; payloads are read later."""
