"""Many runs: what a sweep is, who carries it out, and how it is followed."""
