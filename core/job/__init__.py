"""One job while it runs.

`runtime` is what every job needs: stores, keys, voice engine, limits. A worker takes the `lease` of
a job (`attempt`), reads and checks its manifest (`accept`), prepares its voices (`admission`,
`enrolment`), makes each `item`, and finally writes the result once (`commit`). Every write that
counts is a put-once, so a job may be repeated by anybody at any time: docs/reliability.md.
"""
