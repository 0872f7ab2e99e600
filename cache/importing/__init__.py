"""Features that were made elsewhere → a cache. What made them is somebody's word.

`source.py` says what each kind gives; `write.py` makes the cache of it, a piece at a time.
"""
