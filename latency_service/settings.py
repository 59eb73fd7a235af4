"""Settings of the service and the trainer: environment variables with the prefix
``LATENCY_SERVICE_``.
"""

from __future__ import annotations

from functools import cached_property
from ipaddress import ip_network
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from latency_service.core.credentials import (
    MIN_TOKEN_LENGTH,
    default_data_dir,
    make_token,
    token_path,
)
from latency_service.inspection.wire import Limits

#: Secrets that people copy from examples; a service that starts with one of them is open to
#: everybody.
KNOWN_SECRETS = frozenset(
    {"changeme", "changethis", "change-me", "secret", "password", "token", "test", "admin"}
)


class Settings(BaseSettings):
    """Everything that can be set. Times in seconds, sizes in bytes, as named."""

    model_config = SettingsConfigDict(env_prefix="LATENCY_SERVICE_", frozen=True, extra="forbid")

    #: Folder of the database, the token and the logs, for what is not set otherwise.
    data_dir: Path = Field(default_factory=default_data_dir)
    #: Empty means SQLite in the data directory; otherwise ``sqlite:///…`` or ``postgresql://…``.
    database_url: str = ""
    #: Address to listen on.
    host: str = "127.0.0.1"
    #: Port to listen on; 0 chooses a free one.
    port: int = Field(8760, ge=0, le=65535)
    #: Certificate chain, a PEM file: with it and its key `serve` speaks HTTPS.
    tls_certificate: Path | None = None
    #: Private key of the certificate, a PEM file.
    tls_key: Path | None = None
    #: Addresses or networks of the reverse proxies that end TLS, separated by commas: their
    #: ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.
    trusted_proxies: str = ""
    #: Listen on other addresses than loopback without TLS or a trusted proxy: whoever is on the
    #: network can read the tokens.
    allow_plaintext: bool = False
    #: Show ``/metrics`` without a token.
    open_metrics: bool = False
    #: Path under which a proxy serves the service, such as ``/latency``, whether or not the proxy
    #: cuts it off.
    root_path: str = Field("", pattern=r"^(/[^/]+)*$")
    #: The API token; unset, one is made and kept in ``data_dir/token`` (mode 0600).
    api_token: SecretStr | None = None
    #: How long an attempt has until it is given out again, unless its agent renews it.
    lease_seconds: float = Field(60.0, gt=0)
    #: How often agents renew the lease of an attempt at which they work.
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
    #: Longest time that the service holds a request for work or for the end of a job.
    max_wait_seconds: float = Field(60.0, ge=0)
    #: Whether a device whose canaries drift under an unchanged fingerprint is given no more work.
    quarantine: bool = True
    #: How often a quarantined device measures a known network, to see whether it has recovered.
    quarantine_check_seconds: float = Field(600.0, ge=0)
    #: Days after which the raw rounds of a measurement are dropped; its statistics stay. Unset:
    #: never.
    keep_rounds_days: float | None = Field(None, gt=0)
    #: How long an enrolment token can be used.
    enrolment_seconds: float = Field(24 * 3600.0, gt=0)
    #: Key of the stored hashes of tokens, at least 32 characters, the same for all replicas. Unset,
    #: one is made and kept in the database. A new key ends every token but the API token.
    token_key: SecretStr | None = Field(None, min_length=32)
    #: How long the old secret of a rotated token stays valid, unless the rotation says otherwise.
    token_grace_seconds: float = Field(24 * 3600.0, ge=0)
    #: Age from which an agent gets a new secret when it starts.
    agent_token_days: float = Field(30.0, gt=0)
    #: How long entries of the audit log are kept.
    audit_days: float = Field(365.0, gt=0)
    #: Limit on the body of a campaign (the widths to measure).
    max_campaign_bytes: int = Field(8 << 20, gt=0)
    #: Limit on the body of a result (raw rounds), unpacked.
    max_result_bytes: int = Field(20 << 20, gt=0)
    #: Limit on the record of a pruning run (its report).
    max_run_bytes: int = Field(4 << 20, gt=0)
    #: Limit on the body of a prediction.
    max_prediction_bytes: int = Field(4 << 20, gt=0)
    #: Limit on every other JSON body.
    max_json_bytes: int = Field(256 << 10, gt=0)
    #: Limit on objects and lists in a JSON body together.
    max_json_nodes: int = Field(300_000, gt=0)
    #: Limit on how deep they are nested.
    max_json_depth: int = Field(32, gt=0)
    #: Limit on an uploaded search space.
    max_space_bytes: int = Field(16 << 20, gt=0)
    #: Limit on an uploaded model file.
    max_model_bytes: int = Field(256 << 20, gt=0)
    #: Limit on all uploads over 32 KiB that are received or judged at once. One token's may take
    #: half.
    upload_memory_bytes: int = Field(320 << 20, gt=0)
    #: The same of JSON bodies; parsed, they take a multiple of it.
    json_memory_bytes: int = Field(64 << 20, gt=0)
    #: Limit on the architectures of one campaign that are given.
    max_campaign_architectures: int = Field(20_000, ge=1)
    #: Limit on the jobs of one campaign.
    max_campaign_jobs: int = Field(5_000, ge=1)
    #: Rate of each token. A prediction counts as a twentieth.
    requests_per_second: float = Field(500.0, gt=0)
    #: Number of requests that a token may send at once, before its rate counts.
    requests_burst: float = Field(5_000.0, ge=1)
    #: Rate at which one address may send requests without a valid token.
    refusals_per_second: float = Field(20.0, gt=0)
    #: Number of those that it may send at once.
    refusals_burst: float = Field(400.0, ge=1)
    #: Show ``/docs`` and ``/openapi.json`` without a token.
    open_docs: bool = False
    #: Limit on open connections, with those whose TLS handshake is not over; further ones are
    #: answered with 503. It is lower where the process may not open that many files.
    max_connections: int = Field(10_000, ge=1)
    #: Limit on the head of a request.
    max_head_bytes: int = Field(64 << 10, ge=1024)
    #: How long a connection may take for its TLS handshake and the head of a request.
    head_seconds: float = Field(10.0, gt=0)
    #: How long it may pause within a body, or in taking the answer. A slow body may fall behind
    #: 1 KiB a second by as much.
    stall_seconds: float = Field(30.0, gt=0)
    #: How long running requests have to end when the service stops.
    drain_seconds: int = Field(8, ge=0)
    #: Processor time that judging one upload may take, in a process of its own. Delivered models
    #: get more of all three in proportion to their size.
    inspection_cpu_seconds: float = Field(1.5, gt=0, le=600)
    #: Time that it may take.
    inspection_wall_seconds: float = Field(30.0, gt=0, le=3600)
    #: Memory that it may use beyond that of an idle process.
    inspection_bytes: int = Field(256 << 20, ge=64 << 20)
    #: Number of architectures in one request for predictions.
    max_predict_batch: int = Field(4096, ge=1)
    #: Number of predictors that each process keeps loaded.
    predictor_cache: int = Field(16, ge=1)
    #: How often what may change about a predictor in use is read again: new measurements, a stale
    #: target, deletion.
    predictor_refresh_seconds: float = Field(2.0, ge=0)
    #: How long a known token is not looked up again: a token that another replica has revoked is
    #: accepted for so long.
    token_cache_seconds: float = Field(5.0, ge=0)
    #: How long a browser stays signed in to the dashboard.
    session_seconds: float = Field(7 * 24 * 3600.0, gt=0)
    #: How long a link that signs a browser in can be used.
    sign_in_code_seconds: float = Field(600.0, gt=0)
    #: Write the log as JSON, one object a line.
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

    @field_validator("trusted_proxies")
    @classmethod
    def _refuse_what_is_no_address(cls, value: str) -> str:
        """The server would take anything else for the name of a proxy that never comes."""
        for entry in value.split(",") if value else []:
            try:
                ip_network(entry.strip())
            except ValueError as error:
                raise ValueError(
                    f"LATENCY_SERVICE_TRUSTED_PROXIES: {error}. Give the addresses or networks of "
                    "the proxies, separated by commas, such as 10.1.2.3 or 10.1.0.0/16"
                ) from error
        return value

    @property
    def inspection_limits(self) -> Limits:
        return Limits(
            memory_bytes=self.inspection_bytes,
            cpu_seconds=self.inspection_cpu_seconds,
            wall_seconds=self.inspection_wall_seconds,
        )

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
