"""Labelled images → a trunk's weights, trained as a whole network."""
