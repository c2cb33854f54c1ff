"""Classifiers: trained from scratch in each cycle, the same recipe for every strategy."""
