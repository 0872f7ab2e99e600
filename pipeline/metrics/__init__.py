"""Logits and labels → scores, and intervals of their differences."""
