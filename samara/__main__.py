"""`python -m samara` is the `samara` command."""

from samara.cli.main import main

main()
