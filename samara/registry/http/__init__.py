"""HTTP, for getting bytes from servers that nobody trusts.

Lives here: the client and its answers (client), what a URL means (urls), what headers promise (headers), proxies of the
environment (proxies), look-ups, connections and TLS (dial), waits that end (waits), how it fails (failures), and
urllib3, which stops here (wire). Pure: urls, headers, proxies, failures.

Must not live here: what is asked for and why, retries, scores, disk.
"""

from samara.registry.http.client import Answer, HttpClient
from samara.registry.http.dial import Contact
from samara.registry.http.failures import HttpError, HttpFailure
from samara.registry.http.proxies import Proxies

__all__ = ["Answer", "Contact", "HttpClient", "HttpError", "HttpFailure", "Proxies"]
