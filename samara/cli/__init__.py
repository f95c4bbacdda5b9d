"""Floor 6: the `samara` command. One file per command.

A command parses its arguments, calls one function of a room below, and prints. Errors are raised, never printed here:
main.py maps them to exit codes. click stops here.

Start reading: main.py (the table of commands), common.py (what all share), then any command.
"""
