"""The HTTP clients of the service: `Client` for users and commands, `AgentClient` for agents."""

from latency_service.core.client.agent_client import AgentClient
from latency_service.core.client.client import Client
from latency_service.core.client.connection import BadName, Timeout

__all__ = ["AgentClient", "BadName", "Client", "Timeout"]
