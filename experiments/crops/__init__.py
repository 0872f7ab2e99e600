"""The ablation of crops: a dataset → a table of top-1 and paired differences."""
