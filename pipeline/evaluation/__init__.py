"""Run folders and the test split → predictions, scores, pictures and a comparison of runs."""
