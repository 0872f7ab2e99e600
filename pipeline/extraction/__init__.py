"""Stage one: images and a trunk → a cache of feature maps."""
