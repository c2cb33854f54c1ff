"""Data sets as the world ships them, and the image caches that they become."""
