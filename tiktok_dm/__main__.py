"""`python -m tiktok_dm` is the `tiktok-dm` command."""

from tiktok_dm.cli.main import main

main()
