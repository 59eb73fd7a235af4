"""``python -m pruning_client``: the command line, also under ``torchrun``."""

from pruning_client.cli.main import main

if __name__ == "__main__":
    main()
