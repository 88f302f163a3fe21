"""Run the command line: `python -m alerts_service`."""

from alerts_service.cli import main

if __name__ == "__main__":
    main()
