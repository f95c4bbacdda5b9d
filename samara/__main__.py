"""`python -m samara` is the `samara` command."""

from samara.cli.start import main

main()
