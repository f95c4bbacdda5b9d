"""Floor 3: giving.

Lives here: reading a GGUF's header (gguf_facts), the one pass that hashes a file (hashing, source_file), its torrent
(torrent), publishing (publish; which files: release_files, what people say of them: release_words) and handing that to
registries (push), the libtorrent session (swarm*, profiles) and seeding (seed); names: finding what one stands for
(naming), keeping one findable (announce, announcements), a catalog as a folder (site).

Must not live here: deciding what to fetch or whom to trust. libtorrent stops here: what leaves is a frozen event.

Start reading: publish.py for the way in, swarm.py for the way out.
"""
