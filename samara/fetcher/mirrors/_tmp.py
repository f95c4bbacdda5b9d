# mypy: ignore-errors
# ruff: noqa

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Score:
    rate: float | None = None
    until: float = 0.0
    failures: int = 0
    is_banned: bool = False

    def delivered(self, n, s):
        r = n / s
        return replace(self, rate=r if self.rate is None else 0.5 * r + 0.5 * self.rate, failures=0)

    def banned(self, why):
        return replace(self, is_banned=True)

    def failed(self, kind, now, rnd, *, status=None, retry_after=None):
        return replace(
            self,
            failures=self.failures + 1,
            until=now + max(retry_after or 0, min(60, 0.5 * 2**self.failures) * (0.5 + rnd / 2)),
        )

    def usable_at(self, now):
        return not self.is_banned and now >= self.until


class TokenBucket:
    def __init__(self, rate):
        self.rate = rate

    def set_rate(self, r):
        self.rate = r

    def wait_for(self, n):
        return n / self.rate if self.rate else 0.0


class Schedule:
    x = 1

    def rate_at(self, x):
        return None

    def next_change(self, x):
        return None


def split_limit(l, a, b):
    return l / 2, l / 2
