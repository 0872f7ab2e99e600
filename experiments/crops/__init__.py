"""The ablation of crops. In: a dataset. Out: a table of top-1 and paired differences."""
