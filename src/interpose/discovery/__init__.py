"""From a network to its algorithm: what places hold, how it is named, computed, written, and put to the test."""
