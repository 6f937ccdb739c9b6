"""Certificates and keys, made once per test run."""

from __future__ import annotations

import atexit
import datetime
import ipaddress
import shutil
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


@cache
def _directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="imesh-keys-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@cache
def certificate() -> tuple[str, str]:
    """A certificate for localhost that is its own authority: its file, and one with the key too."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    hosts = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=3))
        .add_extension(hosts, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = made.public_bytes(serialization.Encoding.PEM)
    public, chain = _directory() / "ca.pem", _directory() / "chain.pem"
    public.write_bytes(pem)
    chain.write_bytes(pem + private_pem(key).encode())
    return str(public), str(chain)


@cache
def signing_keys(number: int = 0) -> tuple[ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey]:
    """An EC and an RSA key; others for another number."""
    return ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65_537, 2048)


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
