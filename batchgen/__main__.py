"""`python -m batchgen` is the `batchgen` command."""

from batchgen.cli import main

if __name__ == "__main__":
    main()
