"""Encoded images → pixels as a trunk takes them."""
