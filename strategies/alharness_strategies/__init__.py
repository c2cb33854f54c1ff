"""Query strategies as plug-ins, one file per method, written as a third party would write them."""
