"""Pictures for people: sheets of captioned images, grids, curves."""
