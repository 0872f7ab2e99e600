"""Two stages on a frozen trunk: extract feature maps into a cache, train heads on it. See README.md."""
