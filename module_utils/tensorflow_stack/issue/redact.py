"""Takes secrets, and what says whose machine it is, out of a text that somebody is about to publish.

It takes out too much rather than too little: a reader misses a word, but a token that is public is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# A name of a variable, an option or a field whose value is nobody's business.
_SECRET_NAME = (
    r"(?:(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|authorization|auth|cookie|signature|bearer|session"
    r"|(?:api|access|private|secret|signing|encryption|license|account|ssh|storage|client)[_-]?(?:key|secret|id)"
    r"|apikey|sig|jwt|pat|otp)s?|key)"
)
_QUOTED = r"(?P<quote>\\?[\"'])(?:(?!(?P=quote)).)*(?P=quote)"
_NAMED = re.compile(
    # The name may be a part of a longer one, with a word before it: HF_TOKEN, "db-password".
    rf"(?P<name>(?:\b|[_.-]|(?<=[a-z])(?=[A-Z])){_SECRET_NAME}\\?[\"']?\s*(?P<sign>:=|[:=])(?!=)\s*)"
    rf"(?:{_QUOTED}|(?P<plain>[^\s\"'{{\[][^\n\"'}}\]]*))",
    re.IGNORECASE,
)
_OPTION = re.compile(
    rf"(?P<name>--?[\w-]*{_SECRET_NAME}[ \t]+)(?P<value>[\"'][^\"'\n]*[\"']|[^\s\"'-]\S*)", re.IGNORECASE
)
_HEADER = re.compile(r"\b(?P<name>(?:set-)?cookie\\?[\"']?:)[^\n\"']*", re.IGNORECASE)
_SCHEME = re.compile(r"\b(?P<name>bearer|basic|digest|negotiate|token)(?P<between>[ \t]+)[\w+/=.~-]{8,}", re.IGNORECASE)
_NETRC_LINE = re.compile(r"\b(?:machine[ \t]+\S+|default)\s+login\s+\S+(?:\s+account\s+\S+)?(?:\s+password\s+\S+)?")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_PEM_END = re.compile(r"(?:^[ \t]*[A-Za-z0-9+/=]{16,}[ \t]*\n)*^.*-----END [A-Z0-9 ]+-----", re.MULTILINE)
_SSH_KEY = re.compile(
    r"\b(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-\S+|sk-\S+@openssh\.com)\s+[A-Za-z0-9+/=]{20,}(?:[ \t]+\S+)?"
)
# What services give out, by their own marks.
_MARKED = re.compile(
    r"\b(?:gh[pousr]_\w{16,}|github_pat_\w{20,}|gl(?:pat|ptt|dt|rt|cbt)-[\w-]{16,}|xox[abeprs]-[\w-]{10,}"
    r"|xapp-[\w-]{10,}"
    r"|(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{12,}|AIza[\w-]{30,}|ya29\.[\w-]{10,}|eyJ[\w-]{6,}\.[\w-]*\.?[\w-]*"
    r"|hf_[A-Za-z0-9]{16,}|pypi-[\w-]{16,}|npm_\w{16,}|sk-[\w-]{16,}|nvapi-[\w-]{16,}|dckr_pat_[\w-]{10,}|dop_v1_\w{16,}"
    r"|shpat_\w{16,}|sq0\w{3}-[\w-]{16,}|s\.[A-Za-z0-9]{24}\b|hvs\.[\w-]{16,}|glsa_\w{16,}|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|ATATT[\w=-]{16,}|rk_live_\w{16,}|sk_live_\w{16,}|AGE-SECRET-KEY-\w+|tskey-[\w-]{10,})"
)
# Long, with capital and small letters and digits: no version, hash or name of a file is so, but a symbol of C++ is.
_RANDOM = re.compile(
    r"(?<![\w+.-])(?!_Z)(?=[\w+=-]*[a-z])(?=[\w+=-]*[A-Z])(?=[\w+=-]*\d)[A-Za-z0-9+_-]{32,}={0,2}(?![\w.])"
)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s\"'<>]*@")
_QUERY = re.compile(r"(?P<url>\b[a-z][a-z0-9+.-]*://[^\s\"'<>?#]*)\?[^\s\"'<>]*", re.IGNORECASE)
_HOST_OF_URL = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://(?:<credentials>@)?)(?P<host>\[[^\]\s]*\]|[^\s/:\"'<>?#]+)", re.IGNORECASE
)
_E_MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_AT_HOST = re.compile(r"\b[\w.-]+@(?=[A-Za-z])[\w.-]+")
_HOME = re.compile(r"(?P<place>/(?:home|Users|export/home|var/home|u|users)/|[A-Z]:\\+Users\\+)[^/\\\s:;,\"'<>()]+")
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_MAC = re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b", re.IGNORECASE)
# Versions of NVIDIA have four numbers, too: the first is below 14, and one that begins with 10 comes after its package.
_IPV4 = re.compile(r"(?<![\w.=<>~!_-])(?<!cu\d\d )(?!127\.|0\.|[1-9]\.|1[1-3]\.)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9a-f]{1,4}:){3,7}(?::?[0-9a-f]{1,4}){1,4}(?![\w:])|(?<![\w:])(?:fe80|fd\w\w)::[0-9a-f:]+", re.I
)
_INNER_HOST = re.compile(
    r"(?<![\w.-])(?!(?:google|tensorflow|keras|numpy|pip|urllib3|jax)\.)[\w-]+(?:\.[\w-]+)*"
    r"\.(?:internal|local|lan|intra|corp|home|localdomain|home\.arpa)\b(?![.-]\w)",
    re.IGNORECASE,
)
# Servers that everybody knows, so that a reader sees which one failed.
PUBLIC = (
    *("pypi.org", "pythonhosted.org", "nvidia.com", "github.com", "githubusercontent.com", "debian.org", "ubuntu.com"),
    *("tensorflow.org", "python.org", "fedoraproject.org", "rockylinux.org", "redhat.com", "docker.io", "nvcr.io"),
    *("almalinux.org", "astral.sh", "googleapis.com", "microsoft.com", "launchpad.net", "canonical.com"),
    *("google.com", "numpy.org", "pypa.io"),
)
# Names of accounts and machines that say nothing of anybody, and that this toolkit's own texts use.
COMMON = (
    *("root", "user", "users", "admin", "ansible", "awx", "runner", "jenkins", "gitlab", "debian", "ubuntu"),
    *("centos", "rocky", "fedora", "ec2-user", "vagrant", "docker", "podman", "python", "tensorflow", "cuda"),
    *("cudnn", "nvidia", "driver", "lock", "plan", "environment", "keras", "numpy", "pip", "uv", "local"),
    *("localhost", "node", "nobody", "gpu", "cpu", "build", "check", "none", "all", "host", "test"),
    *("localdomain"),
)


def redact(text: str, *, users: Iterable[str] = (), hosts: Iterable[str] = (), homes: Iterable[str] = ()) -> str:
    """The text without them. `users`, `hosts` and `homes` are names and directories that are known to be somebody's."""
    text = _MAC.sub("<address>", _UUID.sub("<uuid>", _without_keys(text)))
    text = _QUERY.sub(r"\g<url>?<query>", _CREDENTIALS.sub("<credentials>@", text))
    text = _NETRC_LINE.sub("machine <host> login <user> password <secret>", text)
    text = _HEADER.sub(r"\g<name> <secret>", text)
    text = _OPTION.sub(r"\g<name><secret>", _NAMED.sub(_without_value, text))
    text = _SCHEME.sub(r"\g<name>\g<between><secret>", _MARKED.sub("<token>", text))
    text = _RANDOM.sub("<token>", text)
    return _without_names(text, users, hosts, homes)


def _without_keys(text: str) -> str:
    text = _PEM_END.sub("<key>", _PEM.sub("<key>", text))
    return _SSH_KEY.sub("<key>", text)


def _without_value(match: re.Match[str]) -> str:
    plain = match["plain"]
    if plain is None:
        return f"{match['name']}{match['quote']}<secret>{match['quote']}"
    # A value of `name: ` may have blanks; that of `name=` ends with them.
    end = re.search(r"[,;&|]" if ":" in match["sign"] else r"[\s,;&|]", plain)
    return f"{match['name']}<secret>{plain[end.start() :] if end else ''}"


def _without_names(text: str, users: Iterable[str], hosts: Iterable[str], homes: Iterable[str]) -> str:
    for home in sorted({home.rstrip("/") for home in homes}, key=len, reverse=True):
        if home.count("/") > 1 or home not in ("", "/root"):
            text = re.sub(rf"(?<![\w/.-]){re.escape(home)}(?![\w.-])", "~", text)
    text = _HOME.sub(r"\g<place><user>", text)
    text = _HOST_OF_URL.sub(_known_host, _E_MAIL.sub("<e-mail>", text))
    for name in sorted(_parts(hosts), key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-])(?:[\w-]+\.)*{re.escape(name)}(?![\w-])", "<host>", text, flags=re.IGNORECASE)
    for name in sorted({name for name in users if len(name) > 1 and name.lower() not in COMMON}, key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "<user>", text)
    text = _AT_HOST.sub("<user>@<host>", _INNER_HOST.sub("<host>", text))
    return _IPV6.sub("<address>", _IPV4.sub("<address>", text))


def _known_host(match: re.Match[str]) -> str:
    host = match["host"].rpartition("@")[2].lower()
    is_public = (
        any(host == name or host.endswith(f".{name}") for name in PUBLIC)
        or host == "localhost"
        or host.startswith("127.")
    )
    return match[0] if is_public or host.startswith("<") else f"{match['scheme']}<host>"


def _parts(hosts: Iterable[str]) -> set[str]:
    """Each name, its first label and its domain; not those that are nobody's."""
    found = set()
    for host in hosts:
        label, _, domain = host.strip(".").partition(".")
        found |= {host, label} | ({domain} if "." in domain else set())
    return {name for name in found if len(name) > 1 and name.lower() not in COMMON and not name.isdigit()}
