"""One example or one batch at a time: from a payload to what is stored."""
