"""Trust: who may speak for a publisher, and whether they did. The only room that imports tuf, securesystemslib and
cryptography; their objects and exceptions stop here.

    identity    a publisher's unchanging name: the infohash of its root version 1
    roots       TUF root metadata: write one, verify a chain of them
    keys        Ed25519 key files
    signing     DSSE signatures over manifests
    pins        trust/: the identities this machine trusts, and the roots it has seen of them
    publishers  keys/: the publisher side; making: how one comes to be; recovery: its encrypted backup
    release     a release against all of this, alone or by its catalog: start reading here

    catalogs        a publisher's catalog as TUF metadata: write it, read it
    own_catalog     the publisher's own: releases listed, withdrawn, tagged
    key_changes     the publisher's next root
    sources         where others' metadata may come from
    updater         the TUF client workflow, by the library
    catalog_client  what this machine has seen of a catalog, and never goes back behind
    known           all of that for one machine

    library         the foreign names, in one place; files, beacons: small tools

Nothing here reads the clock (but for the age of leftovers), the network or the terminal: `now`, bytes and passphrases
are arguments. This module imports nothing, so that naming one part doesn't cost the time of loading them all.
"""
