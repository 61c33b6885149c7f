"""Jobs of many items, cut into shards that workers make side by side.

`plan` cuts a job and stores the shards, `worker` makes one of them, and `parts` gathers what the
shards have made into the one result of the job.
"""
