"""URLs: which texts are some, and how their credentials are kept out of messages and lists.

Those with credentials are refused. Standard library only.
"""

import os
import re
from pathlib import Path
from typing import Final

from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.text import shown

# Where a file begins to exist when its upload is completed.
OBJECT_STORES: Final = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "memory")
WEB: Final = ("http", "https")
SFTP: Final = ("sftp", "ssh")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PATH_OF_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # has lost a slash
_SECRET: Final = re.compile(r"[^/@]*:(?![0-9]+/).*@", re.DOTALL)  # user:password@, no host:port/
_TOKEN: Final = re.compile(r"[^/]*@|.*[?]", re.DOTALL)  # of the web: token@, and any query
# Signed queries of storages.
_SIGNED: Final = re.compile(
    r"[?&](x-(amz|goog)-[a-z-]+|sig|signature|token|awsaccesskeyid|password)=", re.IGNORECASE
)

# The same within a text.
_USER: Final = re.compile(r"://[^/\s@]*:(?![0-9]+/)\S*@|(?<=http)://[^/\s]*@|(?<=https)://[^/\s]*@")
_QUERY: Final = re.compile(r"(?<=\S)[?]\S*=\S*")


def is_url(source: object) -> bool:
    """Whether this is a URL and not a path."""
    return _URL.match(str(source)) is not None


def refuse_url(path: str | Path) -> None:
    """Raise InputError for a URL, also as a Path, where a folder on a disk is needed."""
    if _PATH_OF_URL.match(str(path)) and not os.path.isdir(path):  # noqa: PTH112 - as it is called
        url = re.sub(":/+", "://", str(path), count=1)
        check_secrets(url)
        raise InputError(
            f"{shown(url)} is a URL; expected a folder on a disk: copy it first",
            ErrorCode.UNSUPPORTED,
        )


def without_secrets(text: str) -> str:
    """The text of a message, where URLs have lost their passwords, tokens and signatures.

    Example:
        >>> without_secrets("sftp://ann:secret@host/a.ply, https://host/b?sig=secret is no mesh")
        'sftp://...@host/a.ply, https://host/b?... is no mesh'
    """
    return _QUERY.sub("?...", _USER.sub("://...@", text))


def scheme_of(url: str) -> str:
    """`s3` of s3://bucket/face.ply."""
    return url.partition("://")[0].lower()


def check_secrets(url: str) -> None:
    """Raise UsageError for a URL with credentials, and for `#` in one of the web."""
    scheme, rest = scheme_of(url), url.partition("://")[2]
    if _SECRET.match(rest) or _SIGNED.search(rest) or (scheme in WEB and _TOKEN.match(rest)):
        raise UsageError(
            f"a {scheme}:// URL has a password, a token or a query, which would end up in "
            "messages; configure them where its backend looks for them, and leave them out",
            ErrorCode.OPTION_VALUE,
        )
    if scheme in WEB and "#" in rest:
        raise UsageError(f"{shown(url)} has a #; write it as %23", ErrorCode.OPTION_VALUE)
