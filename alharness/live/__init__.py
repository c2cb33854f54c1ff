"""The page that shows runs while they are made: one local server, one page, one JSON."""
