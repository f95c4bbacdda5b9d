"""Floor 1: the nouns and the wire formats.

Lives here: digests, references, the manifest and its envelope, the `.samara` file, catalogs and how they travel
(metadata_bundle, pointer, bundle, publication; zstd_frame), layouts, BitTorrent formats, ranges, stamps, events, and
the one error tree. Everything is a frozen value or a pure function of values.

Must not live here: disk, network, clock, or anything of a room above.

Start reading: manifest.py (what is signed), then layouts.py (how a file is cut), then errors.py.
"""
