"""Which addresses are the public internet's."""

from __future__ import annotations

import pytest

from bt_cli.web.host_address import is_public


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "169.254.169.254", "127.0.0.1", "0.0.0.0", "100.64.0.1", "224.0.0.1", "::1", "fe80::1%eth0", "fc00::1",
     "::ffff:192.168.0.1", "2002:a00:1::", "64:ff9b::a00:1", "::127.0.0.1", "fec0::1", "255.255.255.255"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_addresses_that_are_public() -> None:
    assert all(map(is_public, ("8.8.8.8", "2606:4700::1111")))
