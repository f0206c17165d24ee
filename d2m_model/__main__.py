"""`python -m d2m_model` is the `d2m` command."""

from d2m_model.cli.main import main

main()
