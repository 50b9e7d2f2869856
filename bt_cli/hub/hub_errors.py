"""What the hub's client raises, said as one of ours with the way out."""

from __future__ import annotations

import errno
import json

from bt_cli.errors import BtError, DownloadFailed, Offline, UnknownModel, Unwritable
from bt_cli.hub.hub_cache import cache_folder, cached_names
from bt_cli.hub.model_names import BUNDLED, OFFICIAL, closest

# Errors of the connection itself come from whichever HTTP library the hub's client stands on.
_HTTP_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "ssl", "socket"}

_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def named_hub_error(error: Exception, repo_id: str, revision: str | None, endpoint: str) -> BtError:
    """The error to raise in place of what the hub's client raised while fetching `repo_id`."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    if isinstance(error, HFValidationError):
        return UnknownModel(f"{repo_id!r} is no hub name; one has the form owner/name")
    if isinstance(error, GatedRepoError):
        return DownloadFailed(
            f"{repo_id} is gated: accept its terms at {endpoint}/{repo_id}, then set HF_TOKEN to your token"
        )
    if isinstance(error, RevisionNotFoundError):
        return UnknownModel(f"{repo_id} has no revision {revision or 'main'!r}")
    if isinstance(error, HfHubHTTPError):
        status, address = error.response.status_code, str(error.response.url)
        if status == 404 and "/resolve/" in address:
            return DownloadFailed(
                f"the hub at {endpoint} lists {address.rpartition('/')[2]} of {repo_id} and does not have it (404); "
                "try again later, or name another --revision"
            )
        return _by_status(status, repo_id, endpoint)
    if isinstance(error, json.JSONDecodeError):
        return Offline(
            f"{endpoint} does not answer as a hub does, and {repo_id} is not in the cache ({cache_folder()}): a login "
            "page or proxy may stand between; open the address in a browser, or set HF_ENDPOINT to the hub's own"
        )
    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)) or is_connection_error(error):
        return Offline(
            f"can't reach the hub at {endpoint} and {repo_id} is not in the cache ({cache_folder()}); "
            "use --model tiny, which is bundled, or try again online (a broken download resumes)"
        )
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        return Unwritable(f"can't write to the cache {cache_folder()}: {error.strerror}; set HF_HOME to another place")
    first_line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return DownloadFailed(f"{repo_id} could not be downloaded: {first_line.strip()}")


def unknown_model(name: str, because: str) -> UnknownModel:
    """An `UnknownModel` for `name` that ends in the nearest known name, if one is near."""
    near = closest(name, [*BUNDLED, *OFFICIAL, *cached_names()])
    hint = f"did you mean {near}?" if near and near != name else "`bt models list` shows names that work"
    return UnknownModel(f"{because}; {hint}")


def _by_status(status: int, repo_id: str, endpoint: str) -> BtError:
    if status == 404:
        return unknown_model(repo_id, f"no checkpoint {repo_id} at {endpoint}")
    if status == 401:
        return DownloadFailed(
            f"the hub refused {repo_id} (401): it is private or does not exist; "
            "check the name, or set HF_TOKEN to a valid token"
        )
    if status == 403:
        return DownloadFailed(f"the hub refused {repo_id} (403): your token (HF_TOKEN) has no right to it")
    if status == 429:
        return DownloadFailed(
            f"the hub asks for a pause (429, too many requests) while fetching {repo_id}; try again later"
        )
    return DownloadFailed(f"the hub at {endpoint} answered {status} while {repo_id} was fetched; try again later")


def is_connection_error(error: Exception) -> bool:
    """Whether the connection failed, rather than the hub's answer or this machine's disk."""
    if hasattr(error, "response") and error.response is not None:
        return False
    from_library = type(error).__module__.partition(".")[0] in _HTTP_LIBRARIES
    return from_library or isinstance(error, (ConnectionError, TimeoutError))
