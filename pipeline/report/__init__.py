"""Run folders → one HTML file: which run is best and is it really, where does it fail, what made it."""
