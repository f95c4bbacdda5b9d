"""Samara: AI models, whole and provably the right ones, onto any machine, from anywhere, over any link.

Rooms, from the ground up; each imports only rooms below it:
  schemas   the nouns and wire formats, pure
  registry  what exists and who vouches for it: index, store, trust
  seeder    giving: hash, torrent, publish, swarm session
  fetcher   getting: resolve, plan, pull, verify, audit
  runner    using: the inference engine in a child process
  cli       the `samara` command
"""

__version__ = "0.1.0"
