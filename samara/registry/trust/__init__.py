"""Trust: who may speak for a publisher, and whether they did. The only room that imports tuf, securesystemslib and
cryptography; their objects and exceptions stop here.

    identity    a publisher's unchanging name: the infohash of its root version 1
    roots       TUF root metadata: write one, verify a chain of them
    keys        Ed25519 key files
    signing     DSSE signatures over manifests
    pins        trust/: the identities this machine trusts, and the roots it has seen of them
    publishers  keys/: the publisher side; recovery: its encrypted backup
    release     a `.samara` file against all of this: start reading here

Nothing here reads the clock, the network or the terminal: `now`, bytes and passphrases are arguments. This module
imports nothing, so that naming one part doesn't cost the time of loading them all.
"""
