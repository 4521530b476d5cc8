"""Every registered plugin, and a stub of each kind of synthesizer that is to come, keeps its contract."""

from __future__ import annotations

import pytest
from stubs import STUBS, as_plugin

from bench.conformance import Finding, check
from bench.core.registry import GROUPS, names, resolve


def needs_a_file(group: str, name: str) -> bool:
    """Rows that come from a downloaded file can be checked only where the file is: `bench check NAME`."""
    return getattr(resolve(group, name).instance, "source", "local-simulator") != "local-simulator"


REGISTERED = [pytest.param(group, name, id=f"{group}-{name}") for group in GROUPS for name in names(group) if not needs_a_file(group, name)]


def broken(findings: list[Finding]) -> str:
    assert findings, "no check ran"
    return "\n".join(f"{finding.check}: {finding.detail}" for finding in findings if not finding.ok)


@pytest.mark.parametrize(("group", "name"), REGISTERED)
def test_registered_plugins_keep_their_contract(group: str, name: str) -> None:
    assert not broken(list(check(resolve(group, name))))


@pytest.mark.parametrize("name", ["pgm[select=exponential]"])
def test_variants_of_another_mechanism_keep_the_contract(name: str) -> None:
    assert not broken(list(check(resolve("synthesizers", name))))


@pytest.mark.slow
def test_the_variant_of_the_pgm_extra_keeps_the_contract() -> None:
    pytest.importorskip("mbi")
    assert not broken(list(check(resolve("synthesizers", "pgm[mode=aim,rounds=0.5,bins=4]"))))


@pytest.mark.parametrize("name", STUBS)
def test_stubs_of_every_kind_keep_the_contract(name: str) -> None:
    findings = list(check(as_plugin(STUBS[name])))
    assert not broken(findings)
    assert any(finding.check.startswith("replay") for finding in findings)
