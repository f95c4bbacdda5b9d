"""Runner, floor 5: using a model that is already here.

`engine` starts llama.cpp in a child process and streams what the model writes; start reading there.
`options` holds the frozen values that go in and come out; `process` owns the child: its pipes, its socket and
how it died; `engine_child` is the child, a script of its own and the only file that may import xllamacpp.

What must not live here: resolving references, verifying bytes, downloading (the fetcher's); printing (the
command line's). This room takes paths of files somebody else has vouched for, and still assumes that such a
file may crash the engine: nothing that happens in the child reaches the user but text or an `EngineError`.
"""
