"""What nobody may read in a report is planted in texts as programs print them, and nothing of it is left."""

from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.issue.redact import redact

# Put together here, so that no scanner of repositories takes them for real ones.
SECRET = "hunter2" + "Zq9"
MIXED = "aB3" * 14
PEM = "-----BEGIN {0}PRIVATE KEY-----\n{1}\n{1}\n-----END {0}PRIVATE KEY-----"

PLANTED = {
    "password_of_an_address": f"Looking in indexes: https://me:{SECRET}@pypi.corp.example/simple",
    "password_with_an_at": f"https://me:a@{SECRET}@pypi.corp.example/simple",
    "token_as_the_user_of_an_address": f"git+https://{SECRET}@github.com/a/b",
    "query_of_an_address": f"https://bucket.example/file.whl?X-Amz-Signature={SECRET}&x={SECRET}",
    "fragment_of_an_address": f"https://a.example/cb#access_token={SECRET}",
    "variable": f"PIP_PASSWORD={SECRET}",
    "variable_of_a_service": f"HF_TOKEN={SECRET}",
    "exported_variable": f'export AWS_SECRET_ACCESS_KEY="{SECRET}"',
    "key_in_capital_letters_within": f"clientSecret: {SECRET}",
    "json": f'{{"password": "{SECRET}", "a": 1}}',
    "json_in_json": f'{{\\"password\\": \\"{SECRET}\\"}}',
    "yaml_with_blanks": f"db_password: correct horse {SECRET}",
    "python": f"dict(api_key='{SECRET}')",
    "ini": f"token = {SECRET}",
    "quoted_with_blanks": f"password='a b {SECRET}'",
    "option": f"curl --token {SECRET} https://a.example",
    "option_with_a_sign": f"program --api-key={SECRET}",
    "ansible": f"ansible_become_pass: {SECRET}",
    "ansible_ssh": f"ansible_ssh_pass={SECRET}",
    "header": f"Authorization: Bearer {SECRET}longer",
    "header_in_a_command": f'curl -H "Authorization: Basic {SECRET}longer"',
    "bearer_alone": f"sent bearer {SECRET}longer",
    "cookie": f"Cookie: session={SECRET}; b={SECRET}",
    "netrc": f"machine a.example login me password {SECRET}",
    "netrc_on_lines": f"machine a.example\nlogin me\npassword {SECRET}\n",
    "private_key": PEM.format("OPENSSH ", SECRET + "A" * 40),
    "private_key_that_is_cut": PEM.format("RSA ", SECRET + "A" * 40).partition("-----END")[0],
    "end_of_a_private_key": PEM.format("", SECRET + "A" * 40).partition("\n")[2],
    "public_key": f"ssh-ed25519 {SECRET}{'A' * 30} me@host",
    "token_of_github": "ghp_" + SECRET + "a" * 26,
    "fine_token_of_github": "github_pat_" + SECRET + "a" * 26,
    "token_of_gitlab": "glpat-" + SECRET + "a" * 12,
    "key_of_aws": "AKIA" + "ABCDEFGH12345678",
    "token_of_hugging_face": "hf_" + SECRET + "a" * 20,
    "token_of_an_index": "pypi-" + SECRET + "a" * 20,
    "key_of_ngc": "nvapi-" + SECRET + "a" * 20,
    "web_token": f"eyJ{SECRET}.eyJ{SECRET}.{SECRET}",
    "token_without_a_mark": f"sent {MIXED}",
    "base64_without_a_mark": f"sent {MIXED}==",
    "home": "/home/jane.doe/project/x.py",
    "home_of_a_mac": "/Users/jane.doe/x.py",
    "home_elsewhere": "/data/people/jdoe/x.py",
    "home_elsewhere_alone": "HOME=/data/people/jdoe",
    "user": "by jdoe@gpu07: built",
    "user_in_a_sentence": "owned by jdoe, not by root",
    "e_mail": "Jane <jane.doe@corp.example>",
    "host": "fatal: [gpu07]: UNREACHABLE",
    "host_in_capital_letters": "GPU07 kernel: NVRM",
    "host_with_its_domain": "ssh: gpu07.hpc.corp.example: no route",
    "another_host_of_the_domain": "mirror is login1.hpc.corp.example",
    "host_of_the_inside": "http://proxy-3.internal:3128",
    "host_of_an_index": "https://artifacts.hpc.corp.example/simple",
    "address": "connect to 192.168.17.23 port 22",
    "address_behind_a_quote": 'host "10.20.30.40"',
    "address_6": "fe80::1ff:fe23:4567:890a",
    "long_address_6": "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
    "address_of_a_card": "eth0 a8:a1:59:52:38:c5",
    "gpu": "GPU-2c1f4a7e-3b1d-4c1c-9a57-5d0f8e6b9c21",
}
OF_NOBODY = [
    *(
        SECRET,
        MIXED,
        "AKIA" + "ABCDEFGH12345678",
        "jane.doe",
        "jdoe",
        "gpu07",
        "hpc.corp.example",
        "proxy-3",
        "artifacts",
    ),
    *(
        "pypi.corp.example",
        "192.168.17.23",
        "10.20.30.40",
        "890a",
        "8a2e",
        "a8:a1",
        "2c1f4a7e",
        "/data/people",
        "login me",
    ),
]


@pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("form", ["{}", "before {} after", "[{}]", "> {}\r\n"])
def test_what_was_planted_is_gone(text: str, form: str) -> None:
    made = redact(form.format(text), users=["jdoe"], hosts=["gpu07.hpc.corp.example"], homes=["/data/people/jdoe"])
    assert [word for word in OF_NOBODY if word.lower() in made.lower()] == [], made


KEPT = [
    "nvidia-curand-cu12==10.3.5.147, nvidia-curand-cu12 10.3.5.147 and nvidia_curand_cu12-10.3.5.147-py3-none-any.whl",
    "cudnn  -  8.6.0.163  install  864 MB",
    "libcudnn8 (= 8.1.0.77-1+cuda11.2)",
    "numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    "undefined symbol: _ZN10tensorflow8OpKernel11TraceStringEPNS_15OpKernelContextEb",
    "from google.protobuf.internal import builder as _builder",
    "Failed to fetch https://files.pythonhosted.org/packages/a/b.whl#sha256=00 and https://pypi.org/simple/",
    "tokenizers==0.13.3 (token of 3 letters)",
    "/opt/tensorflow/tensorflow-2.8.0/bin/python, /root/.cache and 0000:04:00.0",
    "python 3.10.0 at 2026-11-26T12:00:00Z by root, built for user",
    "TypeError: Descriptors cannot be created directly.",
]


@pytest.mark.parametrize("text", KEPT)
def test_what_a_reader_needs_stays(text: str) -> None:
    assert redact(text, users=["root", "user", "tensorflow"], hosts=["localhost", "node"], homes=["/root", "/"]) == text


def test_it_is_the_same_if_done_twice() -> None:
    known = {"users": ["jdoe"], "hosts": ["gpu07.hpc.corp.example"], "homes": ["/data/people/jdoe"]}
    once = redact("\n\n".join(PLANTED.values()), **known)
    assert redact(once, **known) == once
