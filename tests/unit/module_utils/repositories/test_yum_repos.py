from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.repositories.apt_sources import place_of
from ansible.module_utils.tensorflow_stack.repositories.yum_repos import disable, is_at, read_sections

URL = "https://developer.download.nvidia.com/compute/cuda/repos/rhel8/x86_64/"
PLACES = {place_of(URL)}
TEXT = f"""\
# of the keyring
[cuda-rhel8-x86_64]
name = cuda-rhel8-x86_64
baseurl = {URL.rstrip("/")}
Enabled = 1
gpgcheck=0

[baseos]
name=BaseOS
baseurl=http://mirror.example.org/8/BaseOS/
    http://other.example.org/8/BaseOS/

[off]
baseurl={URL}
enabled=0

[main]
baseurl={URL}
"""


def test_sections() -> None:
    sections = read_sections("/etc/yum.repos.d/a.repo", TEXT)
    assert [section.name for section in sections] == ["cuda-rhel8-x86_64", "baseos"]
    assert sections[1].options["baseurl"] == "http://mirror.example.org/8/BaseOS/ http://other.example.org/8/BaseOS/"
    found = [section for section in sections if is_at(section, PLACES)]
    assert [section.name for section in found] == ["cuda-rhel8-x86_64"]
    assert disable(TEXT, found, "because") == TEXT.replace(
        "[cuda-rhel8-x86_64]\n", "[cuda-rhel8-x86_64]\n# Disabled by tensorflow-gpu-stack: because\nenabled=0\n"
    ).replace("Enabled = 1\n", "")
    assert [section.name for section in read_sections("a", disable(TEXT, found, "because"))] == ["baseos"]


@pytest.mark.parametrize(
    ("url", "same"),
    [
        (URL, True),
        (URL.replace("https", "http").rstrip("/"), True),
        (URL.replace("x86_64", "$basearch"), True),
        (URL.replace("rhel8", "rhel${releasever}").replace("x86_64", "${basearch}"), True),
        (URL.replace("rhel8", "rhel9"), False),
        (URL + "other/", False),
        ("http://a.example.org/ " + URL, True),
        ("", False),
    ],
)
def test_same_repository_however_written(url: str, same: bool) -> None:
    [section] = read_sections("a.repo", f"[a]\nbaseurl={url}\n")
    assert is_at(section, PLACES) is same
