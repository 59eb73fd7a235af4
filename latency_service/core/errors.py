"""Every error that the service raises on purpose.

ServiceError
├── BadRequest            400 / 422  the request is not valid
├── Unauthorised          401        no token, or one that the service does not know
├── Forbidden             403        a known token that may not do this
├── NotFound              404        no such device, space, job, predictor ...
├── Conflict              409        lost lease, another digest for the same attempt, name taken
├── Gone                  410        the attempt was cancelled or another one finished the job
├── NotReady              409        nothing there yet; the cure is the command that makes it
├── TooLarge              413
├── TooManyRequests       429        over the rate; `retry_after_seconds` says when to try again
└── Overloaded            503        too much of it at once; the same request may succeed later

Each carries a `code` for programs, a `message` with the cause and a `cure` with what to do next.
One handler renders them as ``{"error": {"code", "message", "cure"}}``.
"""

from __future__ import annotations


class ServiceError(Exception):
    """Base of the tree; never raised itself."""

    status = 500
    code = "internal"
    #: After which the same request may succeed; None where waiting does not help.
    retry_after_seconds: int | None = None

    def __init__(
        self, message: str, cure: str, *, code: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(f"{message} {cure}")
        self.message = message
        self.cure = cure
        self.code = code or type(self).code
        self.status = status or type(self).status


class BadRequest(ServiceError):
    """The request is not valid: the message names the field or the group."""

    status = 422
    code = "bad_request"


class Unauthorised(ServiceError):
    """No token, or one that the service does not know."""

    status = 401
    code = "unauthorised"


class Forbidden(ServiceError):
    """A known token that may not do this."""

    status = 403
    code = "forbidden"


class NotFound(ServiceError):
    """No such thing; the cure is the command that lists what there is."""

    status = 404
    code = "not_found"


class Conflict(ServiceError):
    """The request meets a state that forbids it."""

    status = 409
    code = "conflict"


class NotReady(ServiceError):
    """Something must be made first; the cure is the command that makes it."""

    status = 409
    code = "not_ready"


class Gone(ServiceError):
    """The attempt was cancelled, or another one finished its job."""

    status = 410
    code = "gone"


class TooLarge(ServiceError):
    """An upload over its limit."""

    status = 413
    code = "too_large"


class TooManyRequests(ServiceError):
    """More requests than a token or an address may send."""

    status = 429
    code = "too_many_requests"

    def __init__(self, message: str, cure: str, *, retry_after_seconds: int) -> None:
        super().__init__(message, cure)
        self.retry_after_seconds = retry_after_seconds


class Overloaded(ServiceError):
    """Too many requests of a costly kind at once; the same request may succeed later."""

    status = 503
    code = "overloaded"
    retry_after_seconds = 5
