"""A head of recurrent attention and the dataset's images → where it looked: pictures, JSON, hit rates."""
