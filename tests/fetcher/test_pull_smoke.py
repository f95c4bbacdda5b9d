from pathlib import Path
from support.pulls import *
from support.swarms import *
from support.world import *
import time
def test_a(tmp_path: Path):
    s = one_blob(tmp_path, 32*MIB)
    for i in range(4):
        home = trusting_home(tmp_path/f"h{i}", s)
        with seeding(s, up=20_000_000 if i==3 else 0) as p:
            t=time.monotonic()
            d = pulled(home, s.file, options(p.endpoint))
            print(time.monotonic()-t, d.seconds, d.seconds_to_first_byte, d.bytes_from_peers, p.uploaded)
        assert_pulled(home, s)
