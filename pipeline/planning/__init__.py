"""What a recipe is, and what a run of it would do: listing, sampling, cutting into units."""
