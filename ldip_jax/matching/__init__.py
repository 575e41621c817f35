"""Matching: where each pixel of a key-frame is seen in a reference, and the confidence in that place."""

# A pixel counts as matched if its confidence is above this.
CONFIDENT = 0.5
