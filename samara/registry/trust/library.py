"""Every foreign name this room uses, in one place. Importing it costs about a tenth of a second: import it inside the
function that needs it, never at the top of a module.

The ignores: these packages re-export without `__all__`, which strict mypy doesn't take for public.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)
from securesystemslib.dsse import Envelope as DsseEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import (  # type: ignore[attr-defined]
    CryptoSigner,
    SSlibKey,
)
from securesystemslib.signer import Signature as LibrarySignature  # type: ignore[attr-defined]
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

__all__ = [
    "CryptoSigner",
    "DsseEnvelope",
    "Ed25519PrivateKey",
    "Ed25519PublicKey",
    "Encoding",
    "JSONSerializer",
    "KeySerializationEncryption",
    "LibrarySignature",
    "MetaFile",
    "Metadata",
    "NoEncryption",
    "PrivateFormat",
    "Root",
    "SSlibKey",
    "Snapshot",
    "TargetFile",
    "Targets",
    "Timestamp",
    "UnsupportedAlgorithm",
    "VerificationError",
    "load_ssh_private_key",
]
