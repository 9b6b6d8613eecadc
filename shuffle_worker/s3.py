"""The S3 client of source and sink. Endpoint, region and credentials come from the usual AWS environment."""

import re
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

S3_ERRORS = (ClientError, BotoCoreError)
"""All that a client's call raises."""

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
ATTEMPTS = 5
"""A call is tried so often, with a growing pause: it ends after about six minutes at most."""


def s3_client() -> Any:
    """A thread-safe client whose every call has a bounded number of attempts, each with a time-out."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        # Not every S3 server takes the newer checksum trailers; Content-MD5 and ETags protect what is sent.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", config=config)


def split_s3_path(path: str) -> tuple[str, str]:
    """(bucket, key) of s3://bucket/key."""
    bucket, _, key = path.removeprefix("s3://").partition("/")
    return bucket, key


def s3_reason(error: Exception) -> str:
    """An error of a client's call in one line, naming the operation."""
    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        return f"{error.operation_name}: {said.get('Code', 'unknown')} {said.get('Message', '')}".strip()
    return re.sub(r"\s+", " ", str(error))


def s3_code(error: Exception) -> str:
    """The code of a refusal, such as NoSuchKey or 404; empty for other errors."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def is_missing(error: Exception) -> bool:
    """Whether the object is not there."""
    return s3_code(error) in ("404", "NoSuchKey", "NotFound")
