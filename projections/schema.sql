-- The tables and views of a pool's DuckDB file.
--
-- Schema `fact` is append-only: a row is written once, when what it tells is over, and never again.
-- Schema `live` is what is still open at the position of the file; it is rewritten as it changes.
-- Schema `keep` is the projector's own: position, snapshot, heartbeats.
-- Views in `main` are what people ask. They are the interface; the tables below are not.
--
-- `*_pos` is the position of an event in the log: sequence << 24 | index. It is unique, so it is the
-- identity of what the event made: `group_pos` a group, `worker_pos` an incarnation, `assigned_pos`
-- an attempt. `*_us` is the server's time of the message in Unix microseconds, UTC.
-- Unknown is NULL.
--
-- `fact.attempts` and `fact.tasks` grow with every task, so they are made for the appender: each column
-- costs it, a NULL nearly as much as a number and a short string four times as much; floats and
-- small integers it takes as they are, small integers for a BIGINT it casts slowly. Hence verdicts,
-- causes and endings are codes that the views turn into words, durations are DOUBLE (whole numbers
-- below 2^53), and what an attempt has only sometimes is in `fact.extras`: one row by
-- `assigned_pos` where there is something to say.

CREATE SCHEMA fact;
CREATE SCHEMA live;
CREATE SCHEMA keep;

-- == facts =========================================================================================
CREATE TABLE fact.groups (
    group_pos BIGINT, run VARCHAR, run_pos BIGINT, part INTEGER, group_name VARCHAR, label VARCHAR,
    tasks INTEGER, kind VARCHAR, runner VARCHAR, target VARCHAR, hardware VARCHAR, spec VARCHAR,
    axes VARCHAR, strides BIGINT[], items VARCHAR[], at_us BIGINT
);

CREATE TABLE fact.attempts (
    group_pos BIGINT, task_index INTEGER, attempt INTEGER, token VARCHAR, worker_pos BIGINT,
    assigned_pos BIGINT, assigned_us BIGINT, params VARCHAR, started_us BIGINT, pos BIGINT,
    at_us BIGINT, ending INTEGER, verdict INTEGER, cause INTEGER, duration_us DOUBLE, value VARCHAR
);

CREATE TABLE fact.extras (
    assigned_pos BIGINT, devices VARCHAR[], reason VARCHAR, revoked VARCHAR, exit_code INTEGER,
    message VARCHAR, cpu_us DOUBLE, peak_rss_bytes DOUBLE, requested VARCHAR, actual VARCHAR,
    placement_detail VARCHAR, output_digest VARCHAR, output_bytes BIGINT, output_truncated BOOLEAN,
    output_tail VARCHAR
);

CREATE TABLE fact.tasks (
    group_pos BIGINT, task_index INTEGER, verdict INTEGER, cause INTEGER, attempts INTEGER,
    attempt_pos BIGINT, params VARCHAR, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.ranges (
    group_pos BIGINT, start INTEGER, stop INTEGER, verdict VARCHAR, cause VARCHAR, message VARCHAR,
    pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.runs (
    run VARCHAR, run_pos BIGINT, publisher VARCHAR, key VARCHAR, name VARCHAR, priority INTEGER,
    labels VARCHAR, wait_for_capacity BOOLEAN, retry_of VARCHAR, state VARCHAR, verdict VARCHAR,
    reason VARCHAR, groups INTEGER, tasks BIGINT, queued BIGINT, active BIGINT, settled BIGINT,
    passed BIGINT, failed BIGINT, skipped BIGINT, fallback BIGINT, timed_out BIGINT,
    cancelled BIGINT, no_capacity BIGINT, error BIGINT, attempts BIGINT, requeues BIGINT,
    opened_us BIGINT, submitted_pos BIGINT, submitted_us BIGINT, closed_us BIGINT,
    cancel_us BIGINT, first_assigned_us BIGINT, settled_us BIGINT, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.tallies (
    group_pos BIGINT, settled BIGINT, active BIGINT, passed BIGINT, failed BIGINT, skipped BIGINT,
    fallback BIGINT, timed_out BIGINT, cancelled BIGINT, no_capacity BIGINT, error BIGINT
);

CREATE TABLE fact.cases (
    assigned_pos BIGINT, group_pos BIGINT, task_index INTEGER, attempt INTEGER, case_id VARCHAR,
    verdict VARCHAR, duration_us BIGINT, message VARCHAR, tries INTEGER, detail VARCHAR,
    ordinal INTEGER, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.measurements (
    assigned_pos BIGINT, group_pos BIGINT, task_index INTEGER, attempt INTEGER, name VARCHAR,
    value DOUBLE, unit VARCHAR, case_id VARCHAR, samples DOUBLE[], ordinal INTEGER, pos BIGINT,
    at_us BIGINT
);

CREATE TABLE fact.artifacts (
    assigned_pos BIGINT, group_pos BIGINT, task_index INTEGER, attempt INTEGER, path VARCHAR,
    digest VARCHAR, bytes BIGINT, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.requeues (
    group_pos BIGINT, task_index INTEGER, attempt INTEGER, token VARCHAR, cause VARCHAR,
    delay_ms BIGINT, kept_open BOOLEAN, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.workers (
    worker_pos BIGINT, worker VARCHAR, incarnation VARCHAR, hardware VARCHAR[], cpu_milli BIGINT,
    memory_bytes BIGINT, devices INTEGER, labels VARCHAR, platform VARCHAR, version VARCHAR,
    prefetch INTEGER, held INTEGER, state VARCHAR, drained VARCHAR, reason VARCHAR,
    joined_us BIGINT, ended_us BIGINT, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.devices (
    worker_pos BIGINT, ordinal INTEGER, device VARCHAR, hardware VARCHAR, name VARCHAR,
    device_index INTEGER, memory_bytes BIGINT, driver VARCHAR, level VARCHAR
);

CREATE TABLE fact.leaders (
    term BIGINT, coordinator VARCHAR, nonce VARCHAR, fold_version BIGINT, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.settings (
    admins VARCHAR[], remember_ms BIGINT, incomplete_ms BIGINT, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.cancels (
    run VARCHAR, task VARCHAR, publisher VARCHAR, reason VARCHAR, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.drains (
    worker VARCHAR, drain BOOLEAN, reason VARCHAR, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.rejections (
    run VARCHAR, reason VARCHAR, fatal BOOLEAN, refused_seq BIGINT, refused_idx BIGINT,
    term BIGINT, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.forgotten (run VARCHAR, pos BIGINT, at_us BIGINT);

CREATE TABLE fact.voids (
    subject VARCHAR, kind VARCHAR, owner VARCHAR, run VARCHAR, type VARCHAR, reason VARCHAR,
    detail VARCHAR, events INTEGER, pos BIGINT, at_us BIGINT
);

CREATE TABLE fact.digests (sequence BIGINT, digest VARCHAR);

-- == what is open ==================================================================================
CREATE TABLE live.attempts (
    group_pos BIGINT, task_index INTEGER, attempt INTEGER, token VARCHAR, worker_pos BIGINT,
    assigned_pos BIGINT, assigned_us BIGINT, params VARCHAR, started_us BIGINT, pos BIGINT,
    at_us BIGINT, state VARCHAR, devices VARCHAR[], reason VARCHAR, revoked VARCHAR
);
CREATE TABLE live.runs AS FROM fact.runs;
CREATE TABLE live.tallies AS FROM fact.tallies;
CREATE TABLE live.workers AS FROM fact.workers;
CREATE TABLE live.tasks (
    group_pos BIGINT, task_index INTEGER, state VARCHAR, attempts INTEGER, failures INTEGER,
    losses INTEGER, delay_ms BIGINT, pos BIGINT, at_us BIGINT
);

-- == the projector's own ===========================================================================
CREATE TABLE keep.position (
    schema_version BIGINT, pool VARCHAR, uuid VARCHAR, sequence BIGINT, message_digest VARCHAR,
    origin_sequence BIGINT, origin_digest VARCHAR, telemetry_sequence BIGINT
);
CREATE TABLE keep.snapshot (sequence BIGINT, fold BLOB, records BLOB);
CREATE TABLE keep.heartbeats (
    source VARCHAR, name VARCHAR, incarnation VARCHAR, log_seq BIGINT, held INTEGER,
    running BIGINT, cpu_percent DOUBLE, memory_bytes BIGINT, load1 DOUBLE, server_id VARCHAR,
    client_id BIGINT, seq BIGINT, idx INTEGER, at_us BIGINT
);
