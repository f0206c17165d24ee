"""Listening tests: make a study, hold it in a browser, report it. Not for metrics that a machine computes.

`study` says what a study is, `making` makes one (`sources`, `stimuli`, `screening`), `assignment`, `leases` and `store`
hand out clips and keep the answers (in a `database`), `server` and `pages` are what raters see, `report` is what the
answers say (`exclusions`, `rating_statistics`), shown as `tables` and a `plot`.
"""
