"""Settings of the service and the trainer: environment variables with the prefix
``LATENCY_SERVICE_``.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from latency_service.core.credentials import (
    MIN_TOKEN_LENGTH,
    default_data_dir,
    make_token,
    token_path,
)

#: Secrets that people copy from examples; a service that starts with one of them is open to
#: everybody.
KNOWN_SECRETS = frozenset(
    {"changeme", "changethis", "change-me", "secret", "password", "token", "test", "admin"}
)


class Settings(BaseSettings):
    """Everything that can be set. Times in seconds, sizes in bytes, as named."""

    model_config = SettingsConfigDict(env_prefix="LATENCY_SERVICE_", frozen=True, extra="forbid")

    data_dir: Path = Field(default_factory=default_data_dir)
    #: Empty means SQLite in the data directory; otherwise ``sqlite:///…`` or ``postgresql://…``.
    database_url: str = ""
    host: str = "127.0.0.1"
    port: int = Field(8760, ge=0, le=65535)
    #: Path under which a proxy serves the service, such as ``/latency``, whether or not the proxy
    #: cuts it off.
    root_path: str = Field("", pattern=r"^(/[^/]+)*$")
    #: The API token; unset, one is made and kept in ``data_dir/token`` (mode 0600).
    api_token: SecretStr | None = None
    lease_seconds: float = Field(60.0, gt=0)
    renew_seconds: float = Field(20.0, gt=0)
    #: Number of attempts at a job that may fail, with a failure that another attempt may cure.
    max_attempts: int = Field(3, ge=1)
    #: Number of attempts at a job that may end because their agent or the service died. They do not
    #: count as failures of the job, but a job that kills its device must not go on for ever.
    max_lost_attempts: int = Field(10, ge=1)
    #: Time between two heartbeats of an agent in a small fleet.
    heartbeat_seconds: float = Field(15.0, gt=0)
    #: Number of heartbeats, and of long polls, that all agents together send in a second: with more
    #: agents, each is told to send fewer.
    fleet_requests_per_second: float = Field(12.0, gt=0)
    #: Longest pause of an agent between two long polls without a job.
    poll_seconds: float = Field(1.0, ge=0)
    #: How often the service looks for work that another process has queued in a SQLite file. All
    #: long polls share one look; on PostgreSQL the database tells.
    lease_check_seconds: float = Field(0.25, gt=0)
    #: How often each process ends leases that have run out.
    sweep_seconds: float = Field(1.0, gt=0)
    #: How often it stores, in one transaction, which agents it has heard of.
    presence_seconds: float = Field(1.0, ge=0)
    #: How long a device must have had nothing to measure before new measurements of it update its
    #: predictors: longer than a client pauses before it measures again.
    still_seconds: float = Field(30.0, ge=0)
    max_wait_seconds: float = Field(60.0, ge=0)
    enrolment_seconds: float = Field(24 * 3600.0, gt=0)
    max_json_bytes: int = Field(32 << 20, gt=0)
    max_space_bytes: int = Field(16 << 20, gt=0)
    max_model_bytes: int = Field(256 << 20, gt=0)
    max_predict_batch: int = Field(4096, ge=1)
    predictor_cache: int = Field(16, ge=1)
    #: How often what may change about a predictor in use is read again: new measurements, a stale
    #: target, deletion.
    predictor_refresh_seconds: float = Field(2.0, ge=0)
    token_cache_seconds: float = Field(5.0, ge=0)
    log_json: bool = False

    @field_validator("api_token")
    @classmethod
    def _refuse_known_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        token = value.get_secret_value().strip()
        if token.lower() in KNOWN_SECRETS or len(token) < MIN_TOKEN_LENGTH:
            raise ValueError(
                "LATENCY_SERVICE_API_TOKEN is a known default or shorter than "
                f"{MIN_TOKEN_LENGTH} characters. Unset it "
                "(the service then makes its own), or make one: "
                'python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
        return SecretStr(token)

    @property
    def url(self) -> str:
        """The database as SQLAlchemy wants it, with the driver named."""
        if not self.database_url:
            return f"sqlite:///{self.data_dir / 'service.db'}"
        for scheme in ("postgres://", "postgresql://"):
            if self.database_url.startswith(scheme):
                return "postgresql+psycopg://" + self.database_url.removeprefix(scheme)
        return self.database_url

    @property
    def token_path(self) -> Path:
        return token_path(self.data_dir)

    @cached_property
    def token(self) -> str:
        """The API token: the one set, or the one kept in the data directory, which is made on first
        use.
        """
        if self.api_token is not None:
            return self.api_token.get_secret_value()
        return make_token(self.data_dir)
