"""The ablation of attention: a multi-label cache → a table of mAP and paired differences."""
