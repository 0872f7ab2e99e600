"""Logits and labels → scores and their intervals."""
