"""Several trunks on one dataset: their maps, quick heads on them, and what each costs."""
