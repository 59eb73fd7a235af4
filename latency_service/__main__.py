"""``python -m latency_service``: the same as the command ``latency-service``."""

from latency_service.cli.main import main

if __name__ == "__main__":
    main()
