"""Rows of a new release, from what its wheels say; what is new elsewhere."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import add_release
import find_news
import pytest
from ansible.module_utils.tensorflow_stack.tables.load import load_tables
from packaging.version import Version

TABLES = add_release.TABLES
REAL = load_tables(str(TABLES))


@pytest.mark.parametrize("row", REAL.releases, ids=lambda row: row.version)
def test_a_row_is_written_as_it_is_in_the_table(row: Any) -> None:
    assert add_release.release_row(row) in (TABLES / "releases.yml").read_text().splitlines()


def test_rows_are_sorted_by_version_and_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(add_release, "TABLES", tmp_path)
    table = tmp_path / "kernels.yml"
    table.write_text('---\nsources: {}\nrows:\n  - {releases: ">=2.9,<2.10"}\n  - {releases: ">=2.21,<2.22"}\n')
    assert add_release.add_row("kernels", '  - {releases: ">=2.10,<2.11"}', 'releases: ">=2.10,<2.11"')
    assert not add_release.add_row("kernels", '  - {releases: ">=2.10,<2.11"}', 'releases: ">=2.10,<2.11"')
    assert add_release.add_row("kernels", '  - {releases: "==2.22.0"}', 'releases: "==2.22.0"')
    assert [line[5:-1] for line in table.read_text().splitlines()[3:]] == [
        'releases: ">=2.9,<2.10"',
        'releases: ">=2.10,<2.11"',
        'releases: ">=2.21,<2.22"',
        'releases: "==2.22.0"',
    ]


def test_the_bound_of_cudnn_is_that_of_the_newest_row(tmp_path: Path) -> None:
    path = tmp_path / "wheel.zip"
    with zipfile.ZipFile(path, "w") as archive:
        asked = ["nvidia-cuda-runtime-cu12<13.0,>=12.5.82", "nvidia-cudnn-cu12<10.0,>=9.3.0.75", "tensorrt==8"]
        lines = "".join(f"Requires-Dist: {line}; extra == 'and-cuda'\n" for line in asked)
        archive.writestr("tensorflow-2.99.0.dist-info/METADATA", f"Metadata-Version: 2.1\n{lines}\n")
        archive.writestr("tensorflow/libtensorflow_framework.so.2", b"$ORIGIN/../nvidia/cublas/lib\0")
    versions = {
        "nvidia-cuda-runtime-cu12": [Version("12.5.82"), Version("12.9.79")],
        "nvidia-cudnn-cu12": [Version("9.3.0.75"), Version("9.10.2.21"), Version("9.11.0.1")],
    }
    with zipfile.ZipFile(path) as archive:
        row = add_release.cuda_wheels_row("2.99.0", archive, SimpleNamespace(versions=versions.__getitem__), REAL)
    assert row is not None
    assert 'releases: "==2.99.0", cuda: "12.9", cudnn: "9.10"' in row
    assert '"nvidia-cudnn-cu12<9.11,>=9.3.0.75"' in row
    assert "link: true, source: [and_cuda, cudnn_volta, ranges, runpath]}" in row
    assert "tensorrt" not in row


def test_no_release_is_a_name_for_another_thing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        add_release.main(["2.22.0rc1"])
    assert "2.22.0rc1 is no final release. Set VERSION, as in make release VERSION=2.22.0" in capsys.readouterr().err


def test_what_no_wheel_says_is_for_a_person() -> None:
    lines = "\n".join(add_release.to_judge("2.21.0", REAL))
    assert "cudnn_floor 9.3.0" in lines
    assert "vulnerabilities.yml" in lines


ANSWERS = {
    find_news.DRIVERS: json.dumps({"615": {}, "999": {}, "schema": {}}),
    find_news.CUDA: "<a href='redistrib_12.4.0.json'> redistrib_13.9.0.json redistrib_13.9.1.json",
    find_news.ADVISORIES: json.dumps(
        {
            "vulns": [
                {
                    "id": "GHSA-new",
                    "aliases": ["CVE-2026-99999"],
                    "published": "2026-12-01T00:00:00Z",
                    "summary": 'A "crash"\nin one operation',
                    "affected": [
                        {"ranges": [{"events": [{"introduced": "0"}, {"fixed": "2.21.1"}, {"fixed": "2.9.5"}]}]}
                    ],
                },
                {"id": "GHSA-old", "published": "2020-01-01T00:00:00Z"},
                {"id": "GHSA-known", "aliases": ["CVE-2024-3660"], "published": "2026-12-01T00:00:00Z"},
                {"id": "GHSA-gone", "published": "2026-12-01T00:00:00Z", "withdrawn": "2026-12-02T00:00:00Z"},
            ]
        }
    ),
}


def test_news_are_rows_or_lines_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_news.check_releases, "unknown_releases", lambda tables, index: ["2.99.0"])
    news = find_news.look(REAL, index=SimpleNamespace(), ask=lambda url, body=None: ANSWERS[url], today="2026-11-27")
    assert news.releases == ["2.99.0"]
    assert [key for _, key in news.rows["driver_branches"]] == ["branch: 999,"]
    ((row, _),) = news.rows["vulnerabilities"]
    assert row == (
        '  - {advisory: CVE-2026-99999, releases: "<2.21.1", what: "A \'crash\' in one operation", '
        'fixed_in: "2.21.1", source: [advisories]}'
    )
    text = find_news.summary(news)
    assert "make release VERSION=2.99.0" in text
    assert "CUDA 13.9: a row" in text
    assert "CUDA 12.4" not in text
    assert "Python 3.10 has no fixes after 2026-10" in text
    assert "Not answered" not in text


def test_a_source_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(url: str, body: Any = None) -> str:
        if url == find_news.CUDA:
            raise OSError("no route")
        return "{}"

    monkeypatch.setattr(find_news.check_releases, "unknown_releases", lambda tables, index: [])
    text = find_news.summary(find_news.look(REAL, index=SimpleNamespace(), ask=ask, today="1999-01-01"))
    assert "- CUDA: OSError: no route" in text
    assert "Ended" not in text
    assert find_news.summary(find_news.News()) == "Nothing is new.\n"
