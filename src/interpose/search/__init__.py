"""Searches: one method a file, all called as (model, pairs, places, metric)."""
