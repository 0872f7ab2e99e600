"""A cache → files that other programs read; numbers stay as they are, bfloat16 and int8 become float32."""
