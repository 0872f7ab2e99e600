"""Run folder + photos → predictions. Trunk and head in one process; no cache is needed."""
