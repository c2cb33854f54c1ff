"""One run: the loop, what is recorded of it, and the folder that it can be continued from."""
