"""Run folders. In: trained weights and scores. Out: folders that are claimed, ranked and loaded again."""
