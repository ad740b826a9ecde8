"""How a network sweeps with the least work and stays exact: record and replay, compare and skip, check both."""
