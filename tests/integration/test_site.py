"""The pages as a site."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow  # fetches the tools of the site
def test_the_site_is_whole_and_fetches_nothing() -> None:
    done = subprocess.run(["make", "site"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = REPOSITORY / ".cache" / "site"
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?://(?!www\.w3\.org)[^\"]*", text) == [], path
    assert (site / "docs" / "pictures" / "layers.svg").exists()
