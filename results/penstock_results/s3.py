"""Blobs on S3 through s3fs, by its own calls where its file interface would copy or wait.

Large blobs go up as multipart uploads and come down as ranged reads, 16 MiB each and four at a time (s3fs's default
of ten times 50 MiB holds half a gigabyte for every transfer; benchmarks/results.py, table "s3"). Parts are sent from
the producer's memory and received into the final buffer. An upload is invisible until it is complete.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 (s3fs lives on a loop thread of fsspec's, and several requests are kept in flight there)
import copy
import importlib
import io
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from penstock.errors import MissingExtra
from penstock_results.blobs import Bytes, Entry, allocate

__all__ = ("S3Blobs", "connect_s3")

_PART = 16 << 20
_IN_FLIGHT = 4
_ATTEMPTS = 10
# A store that cannot be reached says so in seconds; over plain HTTP, checksums of checksums are left out.
_CONFIG: Mapping[str, Any] = {
    "connect_timeout": 5,
    "retries": {"total_max_attempts": 3, "mode": "standard"},
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
_TRIES = 2  # s3fs tries what botocore gave up once more, and so does a body that breaks off

_T = TypeVar("_T")


def connect_s3(options: Mapping[str, Any]) -> Any:
    """A file system of s3fs's that gives up in time.

    Raises:
        MissingExtra: If s3fs is not installed.
    """
    try:
        s3fs = importlib.import_module("s3fs")
    except ImportError as error:
        raise MissingExtra("a result store on S3", "s3") from error
    config = {**_CONFIG, **options.get("config_kwargs", {})}
    # A copy, because botocore changes what it is handed.
    copied = copy.deepcopy({**options, "config_kwargs": config})
    filesystem = s3fs.S3FileSystem(**copied)
    filesystem.retries = _TRIES
    if filesystem.session is None:
        with suppress(TypeError):  # an option that nobody knows: s3fs says so when it connects
            filesystem.session = _session(filesystem.kwargs)
    return filesystem


def _session(settings: Mapping[str, Any]) -> Any:
    """A session whose uploads do not ask first whether they may send.

    Nothing bounds the wait for that answer: aiohttp's read timeout runs only while it reads, so that a server that says
    nothing would hold a run for ever. Asking also costs a round trip for every small object.
    """
    session = importlib.import_module("aiobotocore.session").AioSession(**settings)
    session.unregister("before-call.s3", importlib.import_module("botocore.handlers").add_expect_header)
    return session


class S3Blobs:
    """Objects in a bucket.

    Args:
        url: ``s3://bucket`` or ``s3://bucket/some/prefix``.
        options: What s3fs takes: ``key``, ``secret``, ``endpoint_url``, ...

    Raises:
        MissingExtra: If s3fs is not installed.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._fs = connect_s3(options)
        # What botocore says of a connection, and what is raised for storage_options that it does not know.
        self._refusals = (importlib.import_module("botocore.exceptions").BotoCoreError, TypeError, ValueError)
        # What s3fs tries again, but not where a body is read in pieces.
        self._breaks = importlib.import_module("s3fs.core").S3_RETRYABLE_ERRORS
        self._bucket, _, prefix = url.partition("://")[2].partition("/")
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""

    def create(self, name: str) -> _Upload:
        """Start an upload."""
        return _Upload(self, self._object(name))

    def read(self, name: str, *, private: bool) -> memoryview:
        """Receive the object into one buffer."""
        return self.wait(self._read(self._object(name)))

    def start(self, name: str, size: int) -> tuple[memoryview, int]:
        """Receive the beginning of the object."""
        view, total, _ = self.wait(self._start(self._object(name), size))
        return view, total

    def list(self, prefix: str) -> Iterator[Entry]:
        """Page through the bucket."""
        page: dict[str, Any] = {}
        while True:
            page = self.wait(
                self.call("list_objects_v2", Bucket=self._bucket, Prefix=self._prefix + prefix, **_continued(page))
            )
            for item in page.get("Contents", ()):
                yield Entry(item["Key"][len(self._prefix) :], item["Size"], item["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return

    def delete(self, name: str) -> None:
        """Delete the object; S3 itself does not say whether there was one, so this asks first."""
        target = self._object(name)
        self.wait(self.call("head_object", **target))
        self.wait(self.call("delete_object", **target))

    def orphans(self, before: float) -> Iterator[str]:
        """Find uploads that were begun and neither completed nor aborted."""
        page: dict[str, Any] = {}
        while True:
            marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]} if page else {}
            try:
                page = self.wait(
                    self.call("list_multipart_uploads", Bucket=self._bucket, Prefix=self._prefix, **marker)
                )
            except FileNotFoundError:
                return  # what some servers answer when there is none
            for upload in page.get("Uploads", ()):
                if upload["Initiated"].timestamp() < before:
                    yield f"{upload['Key'][len(self._prefix) :]}?uploadId={upload['UploadId']}"
            if not page.get("IsTruncated"):
                return

    def sweep(self, orphan: str) -> None:
        """Abort an upload."""
        name, _, upload = orphan.partition("?uploadId=")
        with suppress(FileNotFoundError):
            self.wait(self.call("abort_multipart_upload", UploadId=upload, **self._object(name)))

    def send(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start work on the loop of s3fs."""
        return asyncio.run_coroutine_threadsafe(work, self._fs.loop)

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do work on the loop of s3fs."""
        return self.send(work).result()

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Call S3, with the retries and the error types of s3fs.

        Raises:
            OSError: If it failed; `FileNotFoundError` if the object or the bucket does not exist.
        """
        try:
            return await self._fs._call_s3(operation, **arguments)
        except self._refusals as error:
            raise OSError(
                f"{operation} on s3://{self._bucket} failed: {error}. The endpoint and the credentials are given in "
                "storage_options, or where AWS's own tools look for them"
            ) from error

    async def _start(self, target: Mapping[str, str], size: int) -> tuple[memoryview, int, str]:
        """Receive the beginning; a range of an empty object does not exist, and a small object may come whole."""
        try:
            answer, view = await self._receive(
                lambda answer: allocate(min(size, _total(answer))), **target, Range=f"bytes=0-{size - 1}"
            )
        except FileNotFoundError:
            raise
        except OSError:
            if (await self.call("head_object", **target))["ContentLength"] == 0:
                return memoryview(b""), 0, ""
            raise
        return view, _total(answer), answer["ETag"]

    async def _read(self, target: Mapping[str, str]) -> memoryview:
        """Receive the object in ranges; when it is replaced between two of them, start over."""
        for _ in range(_ATTEMPTS):
            with suppress(_Replaced):
                return await self._read_once(target)
        raise OSError(f"{target['Key']} is replaced faster than it can be read")

    async def _read_once(self, target: Mapping[str, str]) -> memoryview:
        head, total, tag = await self._start(target, _PART)
        if total <= _PART:
            return head
        whole = allocate(total)
        whole[:_PART] = head
        await _windowed(self._range(target, tag, whole, start) for start in range(_PART, total, _PART))
        return whole

    async def _range(self, target: Mapping[str, str], tag: str, whole: memoryview, start: int) -> None:
        part = whole[start : start + _PART]

        def room(answer: Mapping[str, Any]) -> memoryview:
            if answer["ETag"] != tag:
                answer["Body"].close()
                raise _Replaced
            return part

        await self._receive(room, **target, Range=f"bytes={start}-{start + len(part) - 1}")

    async def _receive(
        self, room: Callable[[Mapping[str, Any]], memoryview], **arguments: str
    ) -> tuple[Mapping[str, Any], memoryview]:
        """Get an object, or a range of one, into the room that there is for an answer; if it breaks off, get it again.

        Raises:
            OSError: As `call`, or if every try broke off.
        """
        error: Exception | None = None
        for _ in range(_TRIES):
            answer = await self.call("get_object", **arguments)
            view = room(answer)
            try:
                await _fill(view, answer["Body"])
            except self._breaks as broken:
                error = broken
            else:
                return answer, view
        raise OSError(f"get_object on s3://{self._bucket} broke off {_TRIES} times: {error}") from error

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}


class _Replaced(Exception):
    """Two ranges came from different objects of the same name."""


class _Upload:
    """One PUT, or a multipart upload as soon as there is more than one part."""

    def __init__(self, blobs: S3Blobs, target: dict[str, str]) -> None:
        self._blobs = blobs
        self._target = target
        self._pieces: list[memoryview] = []
        self._gathered = 0
        self._upload: dict[str, str] = {}
        self._sent: list[Future[Any]] = []
        self._flying: deque[Future[Any]] = deque()

    def write(self, data: Bytes) -> None:
        view = memoryview(data)
        while view:
            piece = view[: _PART - self._gathered]
            view = view[len(piece) :]
            self._pieces.append(piece)
            self._gathered += len(piece)
            if self._gathered == _PART:
                self._send_part()

    def commit(self) -> None:
        if not self._upload:
            self._blobs.wait(self._blobs.call("put_object", Body=self._take(), **self._target))
            return
        if self._pieces:
            self._send_part()
        parts = [{"PartNumber": number, "ETag": sent.result()["ETag"]} for number, sent in enumerate(self._sent, 1)]
        complete = self._blobs.call(
            "complete_multipart_upload", MultipartUpload={"Parts": parts}, **self._upload, **self._target
        )
        self._blobs.wait(complete)
        self._upload = {}

    def abort(self) -> None:
        """Stop the parts in flight before aborting: a part that arrives afterwards would stay for ever."""
        self._pieces.clear()
        for sent in self._sent:
            sent.cancel()
        for sent in self._sent:
            with suppress(Exception):  # why the upload failed is being raised already
                sent.result()
        if self._upload:
            with suppress(FileNotFoundError):
                self._blobs.wait(self._blobs.call("abort_multipart_upload", **self._upload, **self._target))

    def _send_part(self) -> None:
        if not self._upload:
            begun = self._blobs.wait(self._blobs.call("create_multipart_upload", **self._target))
            self._upload = {"UploadId": begun["UploadId"]}
        if len(self._flying) == _IN_FLIGHT:
            self._flying.popleft().result()
        part = self._blobs.send(
            self._blobs.call(
                "upload_part", PartNumber=len(self._sent) + 1, Body=self._take(), **self._upload, **self._target
            )
        )
        self._sent.append(part)
        self._flying.append(part)

    def _take(self) -> _Body:
        body = _Body(self._pieces, self._gathered)
        self._pieces, self._gathered = [], 0
        return body


class _Body(io.RawIOBase):
    """Pieces of memory as one readable file: botocore takes no memoryview, and joining them would copy."""

    def __init__(self, pieces: list[memoryview], size: int) -> None:
        self._pieces = pieces
        self._size = size
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = min(max(0, base + offset), self._size)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer)
        filled, start = 0, 0
        for piece in self._pieces:
            skip = self._position + filled - start
            if filled < len(target) and skip < len(piece):
                data = piece[skip : skip + len(target) - filled]
                target[filled : filled + len(data)] = data
                filled += len(data)
            start += len(piece)
        self._position += filled
        return filled


async def _windowed(work: Iterator[Awaitable[None]]) -> None:
    """Do all the work, a few pieces at a time; the first failure stops the rest."""
    pending = deque[asyncio.Future[None]]()
    try:
        for item in work:
            if len(pending) == _IN_FLIGHT:
                await pending.popleft()
            pending.append(asyncio.ensure_future(item))
        while pending:
            await pending.popleft()
    finally:
        for rest in pending:
            rest.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _fill(view: memoryview, body: Any) -> None:
    """Fill the view from a response; what does not come stays zero, which the checksums refuse."""
    filled = 0
    async with body:  # which before aiobotocore 3 enters as the bare response, that cannot be read in pieces
        while filled < len(view):
            data = await body.read(min(1 << 20, len(view) - filled))
            if not data:
                return
            view[filled : filled + len(data)] = data
            filled += len(data)


def _total(answer: Mapping[str, Any]) -> int:
    """Return the size of the whole object; a server may answer a range that covers everything without a range."""
    _, slash, total = str(answer.get("ContentRange", "")).rpartition("/")
    return int(total) if slash else int(answer["ContentLength"])


def _continued(page: Mapping[str, Any]) -> dict[str, str]:
    return {"ContinuationToken": page["NextContinuationToken"]} if page else {}
