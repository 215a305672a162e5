"""`python -m nanofit` is the `nanofit` command."""

from nanofit.cli import main

if __name__ == "__main__":
    main()
