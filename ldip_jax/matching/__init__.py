"""Where each pixel of a key-frame is seen in a reference, and how sure that is."""

# A match is sure above this confidence.
CONFIDENT = 0.5
