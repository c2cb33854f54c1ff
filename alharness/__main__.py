"""``python -m alharness``: the command line."""

from alharness.cli import main

if __name__ == "__main__":
    main()
