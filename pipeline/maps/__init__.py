"""A cache → batches of the maps, or crops, that a head reads."""
