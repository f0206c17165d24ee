"""Listening tests: make a study, hold it in a browser, report it. Not for metrics that a machine computes.

`study` says what a study is, `making` makes one (`sources`, `stimuli`, `screening`), `assignment` and `store` hand out
clips and keep the answers, `server` and `pages` are what raters see, `report` is the statistics.
"""
