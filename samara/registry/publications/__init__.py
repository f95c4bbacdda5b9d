"""How a publication gets into a registry: proven by the TUF workflow, whole or not at all. Knows no HTTP.

Start reading: accept.py.
"""
