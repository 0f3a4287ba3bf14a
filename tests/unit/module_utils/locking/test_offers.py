from __future__ import annotations

import email.message
import io
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.locking.offers import (
    IndexFile,
    Lack,
    Offer,
    Offers,
    target_tags,
    without_local_version,
)
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

CUTOFF = "2026-11-22T00:00:00Z"
PAGES = {
    "opencv-python": [
        "opencv_python-4.1.1.26-cp36-cp36m-manylinux1_x86_64.whl",
        "opencv_python-4.1.1.26-cp37-cp37m-manylinux1_x86_64.whl",
        "opencv-python-4.1.1.26.tar.gz",
        "opencv_python-4.9.0-cp37-abi3-manylinux_2_17_x86_64.whl",
    ],
    "promise": ["promise-2.3.tar.gz", "promise-2.1-py2-none-any.whl"],
    "moviepy": ["moviepy-0.2.3.1-py2.py3-none-any.whl", "moviepy-1.0.3.tar.gz"],
    "torch": ["torch-2.4.1-cp39-cp39-manylinux1_x86_64.whl"],
    "mac": ["mac-1.0-cp39-cp39-macosx_11_0_arm64.whl"],
    "newer": ["newer-1.0-cp39-cp39-manylinux_2_35_x86_64.whl"],
}


class Opener(urllib.request.OpenerDirector):
    """An index of PAGES, as JSON."""

    def open(self, request: Any, *arguments: Any, **options: Any) -> Any:
        project = request.full_url.rstrip("/").rpartition("/")[2]
        if project not in PAGES:
            raise urllib.error.HTTPError(request.full_url, 404, "Not Found", email.message.Message(), io.BytesIO())
        files = [{"filename": name, "url": f"/files/{name}", "hashes": {}} for name in PAGES[project]]
        late = {"filename": f"{project}-99-py3-none-any.whl", "url": "x", "upload-time": "2026-11-25T10:00:00.1Z"}
        yanked = {"filename": f"{project}-98-py3-none-any.whl", "url": "x", "yanked": "broken"}
        return Answer(json.dumps({"files": [*files, late, yanked]}).encode(), request.full_url)


class Answer(io.BytesIO):
    def __init__(self, body: bytes, url: str) -> None:
        super().__init__(body)
        self.headers = email.message.Message()
        self.headers["Content-Type"] = "application/vnd.pypi.simple.v1+json"
        self._url = url

    def geturl(self) -> str:
        return self._url


@pytest.mark.parametrize(
    ("requirement", "offer"),
    [
        ("opencv-python==4.1.1.26", Offer(Lack.PYTHON, ("3.6", "3.7"), "4.1.1.26")),
        ("opencv-python", Offer(None)),
        ("promise", Offer(Lack.WHEEL, (), "2.3")),
        ("moviepy>=1", Offer(Lack.WHEEL, (), "1.0.3")),
        ("moviepy", Offer(None)),
        ("torch==2.4.1+cu124", Offer(Lack.LOCAL)),
        ("torch==2.5", Offer(Lack.VERSION)),
        ("torch==2.5+cu124", Offer(Lack.VERSION)),
        ("nonesuch", Offer(Lack.PROJECT)),
        ("mac", Offer(Lack.PLATFORM, (), "1.0")),
        ("newer", Offer(Lack.PLATFORM, (), "1.0")),
    ],
)
def test_what_there_is(requirement: str, offer: Offer) -> None:
    offers = Offers("https://index.example/simple", CUTOFF, Opener())
    assert offers.of(Requirement(requirement), "3.9", "x86_64", ("3.6", "3.7", "3.8")) == offer


def test_a_requirement_without_its_local_version() -> None:
    assert str(without_local_version(Requirement("torch==2.4.1+cu124"))) == "torch==2.4.1"
    assert without_local_version(Requirement("torch==2.4.1")) is None


@pytest.mark.parametrize(
    ("python", "fits"), [(">=3.8.1", True), (">=3.8.10", True), (">=3.8.11", False), ("!=3.8.*", False), ("<3.8", True)]
)
def test_the_oldest_patch_of_a_supported_system_is_what_wheels_have_to_support(python: str, fits: bool) -> None:
    tags = frozenset(target_tags("3.8", "x86_64")[:1])
    wheel = IndexFile("one-1-cp38-cp38-manylinux_2_28_x86_64.whl", Version("1"), tags, SpecifierSet(python))
    assert wheel.fits("3.8", "x86_64") is fits
