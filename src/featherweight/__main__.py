"""Run the command as `python -m featherweight`."""

from featherweight.cli.app import main

if __name__ == "__main__":
    main()
