"""`python -m penstock.runners` is `penstock`."""

from .cli import main

main()
