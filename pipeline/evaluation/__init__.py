"""Run folders and a cache's test split → predictions, scores, comparisons, pictures."""
