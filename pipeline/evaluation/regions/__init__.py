"""Where an attention head looked: run folder and images → boxes, hit rates, pictures."""
