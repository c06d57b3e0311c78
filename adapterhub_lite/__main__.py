"""`python -m adapterhub_lite` is the command line."""

from adapterhub_lite.cli import main

if __name__ == "__main__":
    main()
