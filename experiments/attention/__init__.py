"""The ablation of attention. In: a multi-label cache. Out: a table of mAP and paired differences."""
