from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.environment.installing import pip_index


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("https://pypi.example/simple", []),
        ("http://10.0.0.1:8790/simple", ["--trusted-host", "10.0.0.1:8790"]),
        ("http://[fd00::1]:8790/simple", ["--trusted-host", "[fd00::1]:8790"]),
        ("file:///srv/bundle/simple", []),
    ],
)
def test_pip_takes_files_from_an_index_by_http(url: str, more: list[str]) -> None:
    assert pip_index(url) == ["--index-url", url, *more]
