"""The HTTP interface: another way to put jobs into the inbox and to read their results.

`POST /clone` checks a request as a manifest is checked and stores recording, consent record and,
last, the manifest in the inbox. From there on it is a job like any other, so that every check,
mark, seal, event and log entry holds. Nothing of the storage road imports this package
(docs/http.md).

    app         the routes
    callers     who calls, and what the caller may do
    bodies      bodies of limited size that arrive in limited time
    clone       a request of POST /clone, and the manifest that it becomes
    intake      checks manifests and stores them with their files
    tickets     where in the inbox the manifest of a job is
    job_views   how far jobs are, as their objects in the buckets tell
    opened      outputs of finished jobs, opened where the keys are
    problems    errors as problem+json (RFC 9457)
    voices      voices that are kept under a name
    traces      clips that are traced
    speech      requests as the clients of OpenAI send them
    openapi     the OpenAPI document
    front       the function in the cloud that has neither engine nor keys
    local       carries out jobs in the process of `voicedrop serve`
"""
