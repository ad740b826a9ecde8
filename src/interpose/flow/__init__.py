"""What a value in a network can depend on: one run, recorded as operations, and followed forwards or backwards."""
