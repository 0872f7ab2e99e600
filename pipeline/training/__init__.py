"""Stage two: a cache and settings → run folders with trained heads."""
