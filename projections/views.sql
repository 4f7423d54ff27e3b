-- What people ask. Every view is a union of facts and what is open, with names, times and positions
-- as people write them: `seq` and `idx` are where in the log the row comes from.

CREATE MACRO seq_of(pos) AS pos >> 24;
CREATE MACRO idx_of(pos) AS (pos & 16777215)::INTEGER;
-- Codes of verdicts, causes and endings, in the order of `core/model.py` and `records.py`.
CREATE MACRO verdict_of(code) AS ['passed', 'failed', 'skipped', 'fallback', 'timed_out',
    'cancelled', 'no_capacity', 'error'][code];
CREATE MACRO cause_of(code) AS ['done', 'test', 'crash', 'memory', 'fallback', 'wall_limit',
    'silence_limit', 'queue_limit', 'cancelled', 'worker_lost', 'never_received', 'returned',
    'setup', 'config', 'device', 'no_capacity', 'scheduler_bug'][code];
CREATE MACRO ending_of(code) AS ['finished', 'returned', 'closed'][code];
-- Parameters of task `i` of a matrix; the last axis turns fastest.
CREATE MACRO axis_params(axes, strides, i) AS '{' || array_to_string(list_transform(
    range(len(strides)),
    lambda k: to_json(json_extract_string(axes, '$[' || k || '].name')) || ':' || json_extract(
        axes, '$[' || k || '].values[' || (
            (i // strides[k + 1]) % json_array_length(json_extract(axes, '$[' || k || '].values'))
        ) || ']')
), ',') || '}';

-- == the pool ======================================================================================
CREATE VIEW meta AS
SELECT schema_version, pool, uuid, sequence AS position, telemetry_sequence,
    (SELECT max(sequence) FROM keep.snapshot) AS snapshot_position
FROM keep.position;

CREATE VIEW leaders AS
SELECT term, coordinator, nonce, fold_version, make_timestamptz(at_us) AS elected_at,
    seq_of(pos) AS seq, idx_of(pos) AS idx
FROM fact.leaders;

CREATE VIEW settings AS
SELECT admins, remember_ms, incomplete_ms, make_timestamptz(at_us) AS changed_at,
    seq_of(pos) AS seq, idx_of(pos) AS idx
FROM fact.settings;

CREATE VIEW digests AS SELECT sequence, digest FROM fact.digests;

-- == workers =======================================================================================
-- One row for each incarnation. state: up, draining, drained, left, lost, superseded.
CREATE VIEW workers AS
SELECT worker, incarnation, state, hardware, cpu_milli, memory_bytes, devices, labels, platform,
    version, prefetch, held, drained, reason, make_timestamptz(joined_us) AS joined_at,
    make_timestamptz(ended_us) AS ended_at, worker_pos, seq_of(worker_pos) AS joined_seq,
    seq_of(pos) AS seq, idx_of(pos) AS idx
FROM (FROM live.workers UNION ALL FROM fact.workers);

CREATE VIEW devices AS
SELECT w.worker, w.incarnation, w.state AS worker_state, d.device, d.hardware, d.name,
    d.device_index, d.memory_bytes, d.driver, d.level, seq_of(d.worker_pos) AS seq,
    idx_of(d.worker_pos) AS idx, d.ordinal
FROM fact.devices d JOIN workers w USING (worker_pos);

CREATE VIEW heartbeats AS
SELECT source, name, incarnation, make_timestamptz(at_us) AS at, log_seq, held, running,
    cpu_percent, memory_bytes, load1, server_id, client_id, seq, idx
FROM keep.heartbeats;

CREATE VIEW drains AS
SELECT worker, drain, reason, make_timestamptz(at_us) AS at, seq_of(pos) AS seq, idx_of(pos) AS idx
FROM fact.drains;

-- == runs and groups ===============================================================================
-- state: open (parts missing), active, settled, rejected, replaced (it was a stranger's).
CREATE VIEW runs AS
SELECT r.run, r.name, r.publisher, r.key, r.priority, r.labels, r.state, r.verdict, r.reason,
    r.groups, r.tasks, r.queued, r.active, r.settled, r.passed, r.failed, r.skipped, r.fallback,
    r.timed_out, r.cancelled, r.no_capacity, r.error, r.attempts, r.requeues, r.wait_for_capacity,
    r.retry_of, make_timestamptz(r.submitted_us) AS submitted_at,
    make_timestamptz(r.closed_us) AS closed_at,
    make_timestamptz(r.first_assigned_us) AS first_assigned_at,
    make_timestamptz(r.cancel_us) AS cancelled_at, make_timestamptz(r.settled_us) AS settled_at,
    r.settled_us - r.submitted_us AS wall_us, make_timestamptz(f.at_us) AS forgotten_at,
    r.run_pos, seq_of(r.run_pos) AS opened_seq, seq_of(r.submitted_pos) AS submitted_seq,
    seq_of(r.pos) AS seq, idx_of(r.pos) AS idx
FROM (FROM live.runs UNION ALL FROM fact.runs) r
ASOF LEFT JOIN (SELECT run, -pos AS before, at_us FROM fact.forgotten) f
    ON f.run = r.run AND f.before <= -r.pos;

-- The newest run of each name (of each run, where it has none).
CREATE VIEW latest_runs AS
FROM runs QUALIFY row_number() OVER (
    PARTITION BY publisher, coalesce(nullif(name, ''), run) ORDER BY run_pos DESC) = 1;

CREATE VIEW groups AS
SELECT g.run, g.group_name, coalesce(nullif(g.label, ''), g.group_name) AS label, g.hardware,
    g.tasks, g.tasks - t.settled - t.active AS queued, t.active, t.settled, t.passed, t.failed,
    t.skipped, t.fallback, t.timed_out, t.cancelled, t.no_capacity, t.error, g.kind, g.runner,
    g.target, g.spec, g.axes, g.part, make_timestamptz(g.at_us) AS submitted_at, g.group_pos,
    g.run_pos, seq_of(g.group_pos) AS seq, idx_of(g.group_pos) AS idx
FROM fact.groups g JOIN (FROM live.tallies UNION ALL FROM fact.tallies) t USING (group_pos);

CREATE VIEW cancels AS
SELECT run, task, publisher, reason, make_timestamptz(at_us) AS requested_at, seq_of(pos) AS seq,
    idx_of(pos) AS idx
FROM fact.cancels;

-- == attempts ======================================================================================
-- state: assigned, running (open); finished, returned, closed (by a ruling).
CREATE VIEW attempts AS
SELECT g.run, g.group_name || '-' || a.task_index AS task, g.group_name, a.task_index,
    coalesce(nullif(g.label, ''), g.group_name) AS label, g.hardware, a.params, a.attempt, a.token,
    w.worker, w.incarnation, coalesce(x.devices, a.devices) AS devices,
    coalesce(ending_of(a.ending), a.state) AS state, verdict_of(a.verdict) AS verdict,
    cause_of(a.cause) AS cause, coalesce(x.reason, a.reason) AS reason,
    coalesce(x.revoked, a.revoked) AS revoked,
    make_timestamptz(a.assigned_us) AS assigned_at, make_timestamptz(a.started_us) AS started_at,
    CASE WHEN a.ending IS NOT NULL THEN make_timestamptz(a.at_us) END AS ended_at,
    a.duration_us::BIGINT AS duration_us, x.exit_code, x.message, a.value,
    x.cpu_us::BIGINT AS cpu_us, x.peak_rss_bytes::BIGINT AS peak_rss_bytes, x.requested, x.actual,
    x.placement_detail, x.output_digest, x.output_bytes, x.output_truncated, x.output_tail,
    a.assigned_pos, a.group_pos, seq_of(a.assigned_pos) AS assigned_seq, seq_of(a.pos) AS seq,
    idx_of(a.pos) AS idx
FROM (FROM fact.attempts UNION ALL BY NAME FROM live.attempts) a
JOIN fact.groups g USING (group_pos)
LEFT JOIN fact.extras x USING (assigned_pos)
LEFT JOIN workers w USING (worker_pos);

CREATE VIEW requeues AS
SELECT g.run, g.group_name || '-' || q.task_index AS task, q.attempt, q.token, q.cause, q.delay_ms,
    q.kept_open, make_timestamptz(q.at_us) AS at, seq_of(q.pos) AS seq, idx_of(q.pos) AS idx
FROM fact.requeues q JOIN fact.groups g USING (group_pos);

-- == tasks =========================================================================================
-- Settled tasks with their accepted attempt, tasks settled by range, and tasks at work. A task that
-- was never assigned is no row here: see `groups.queued`, or `queued_tasks`.
CREATE VIEW tasks AS
SELECT g.run, g.group_name || '-' || t.task_index AS task, g.group_name, t.task_index,
    coalesce(nullif(g.label, ''), g.group_name) AS label, coalesce(t.params, a.params) AS params,
    g.hardware, 'settled' AS state, verdict_of(t.verdict) AS verdict, cause_of(t.cause) AS cause,
    t.attempts, w.worker,
    a.attempt AS accepted_attempt, a.duration_us::BIGINT AS duration_us, x.exit_code, x.message,
    a.value, x.cpu_us::BIGINT AS cpu_us, x.peak_rss_bytes::BIGINT AS peak_rss_bytes, x.requested,
    x.actual, x.output_digest, x.output_tail, make_timestamptz(t.at_us) AS settled_at,
    a.assigned_pos, t.group_pos, seq_of(t.pos) AS seq, idx_of(t.pos) AS idx
FROM fact.tasks t
JOIN fact.groups g USING (group_pos)
LEFT JOIN fact.attempts a
    ON a.pos = t.attempt_pos AND a.group_pos = t.group_pos AND a.task_index = t.task_index
LEFT JOIN fact.extras x USING (assigned_pos)
LEFT JOIN workers w USING (worker_pos)
UNION ALL
SELECT run, group_name || '-' || task_index, group_name, task_index, label,
    coalesce(item, CASE WHEN strides IS NOT NULL THEN axis_params(axes, strides, task_index) END),
    hardware, 'settled', verdict, cause, 0, NULL, NULL, NULL, NULL, message, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, make_timestamptz(at_us), NULL, group_pos, seq_of(pos), idx_of(pos)
FROM (
    SELECT g.run, g.group_name, coalesce(nullif(g.label, ''), g.group_name) AS label, g.hardware,
        g.axes, g.strides, unnest(range(r.start, r.stop))::INTEGER AS task_index,
        unnest(g.items[r.start + 1 : r.stop]) AS item, r.verdict, r.cause, r.message, r.at_us,
        r.group_pos, r.pos
    FROM fact.ranges r JOIN fact.groups g USING (group_pos)
)
UNION ALL
SELECT g.run, g.group_name || '-' || l.task_index, g.group_name, l.task_index,
    coalesce(nullif(g.label, ''), g.group_name), a.params, g.hardware, l.state, NULL, NULL,
    l.attempts, w.worker, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    a.assigned_pos, l.group_pos, seq_of(l.pos), idx_of(l.pos)
FROM live.tasks l
JOIN fact.groups g USING (group_pos)
LEFT JOIN (
    SELECT group_pos, task_index, params, worker_pos, assigned_pos
    FROM (FROM fact.attempts UNION ALL BY NAME FROM live.attempts)
    WHERE group_pos IN (SELECT group_pos FROM live.tasks)
    QUALIFY row_number() OVER (PARTITION BY group_pos, task_index ORDER BY assigned_pos DESC) = 1
) a ON a.group_pos = l.group_pos AND a.task_index = l.task_index
LEFT JOIN workers w USING (worker_pos);

-- Tasks of open runs that were never assigned: expanded only when asked for.
CREATE VIEW queued_tasks AS
SELECT g.run, g.group_name || '-' || g.task_index AS task, g.group_name, g.task_index, g.label,
    coalesce(g.item, CASE WHEN g.strides IS NOT NULL
        THEN axis_params(g.axes, g.strides, g.task_index) END) AS params,
    g.hardware, g.group_pos
FROM (
    SELECT g.run, g.group_name, coalesce(nullif(g.label, ''), g.group_name) AS label, g.hardware,
        g.axes, g.strides, g.group_pos, unnest(range(g.tasks))::INTEGER AS task_index,
        unnest(g.items) AS item
    FROM fact.groups g JOIN live.runs r USING (run_pos)
) g
ANTI JOIN (
    SELECT group_pos, task_index FROM fact.tasks
    UNION ALL SELECT group_pos, task_index FROM live.tasks
    UNION ALL SELECT group_pos, unnest(range(start, stop))::INTEGER FROM fact.ranges
) known ON known.group_pos = g.group_pos AND known.task_index = g.task_index;

-- == what tests report =============================================================================
CREATE VIEW cases AS
SELECT g.run, g.group_name || '-' || c.task_index AS task, c.task_index, c.attempt,
    coalesce(nullif(g.label, ''), g.group_name) AS label, g.hardware, c.case_id, c.verdict,
    c.duration_us, c.message, c.tries, c.detail, make_timestamptz(c.at_us) AS reported_at, c.assigned_pos, c.group_pos,
    seq_of(c.pos) AS seq, idx_of(c.pos) AS idx, c.ordinal
FROM fact.cases c JOIN fact.groups g USING (group_pos);

CREATE VIEW measurements AS
SELECT g.run, g.group_name || '-' || m.task_index AS task, m.task_index, m.attempt,
    coalesce(nullif(g.label, ''), g.group_name) AS label, g.hardware, m.name, m.value, m.unit,
    m.case_id, m.samples, make_timestamptz(m.at_us) AS reported_at, m.assigned_pos, m.group_pos,
    seq_of(m.pos) AS seq, idx_of(m.pos) AS idx, m.ordinal
FROM fact.measurements m JOIN fact.groups g USING (group_pos);

CREATE VIEW artifacts AS
SELECT g.run, g.group_name || '-' || a.task_index AS task, a.task_index, a.attempt,
    coalesce(nullif(g.label, ''), g.group_name) AS label, g.hardware, a.path, a.digest, a.bytes,
    make_timestamptz(a.at_us) AS stored_at, a.assigned_pos, a.group_pos, seq_of(a.pos) AS seq,
    idx_of(a.pos) AS idx
FROM fact.artifacts a JOIN fact.groups g USING (group_pos);

-- == what did not count ============================================================================
CREATE VIEW voids AS
SELECT reason, type, subject, kind, owner, run, detail, events, make_timestamptz(at_us) AS at,
    seq_of(pos) AS seq, idx_of(pos) AS idx
FROM fact.voids;

-- Refused by the leader (source `leader`), or void in the fold under a publisher's subject (`log`).
CREATE VIEW rejected AS
SELECT run, NULL AS publisher, 'leader' AS source, reason, NULL AS detail, fatal, refused_seq,
    refused_idx, make_timestamptz(at_us) AS at, seq_of(pos) AS seq, idx_of(pos) AS idx
FROM fact.rejections
UNION ALL
SELECT run, owner, 'log', reason, detail, false, seq_of(pos), idx_of(pos), make_timestamptz(at_us),
    seq_of(pos), idx_of(pos)
FROM fact.voids WHERE kind = 'run';

-- == answers =======================================================================================
-- Judged: what says something about the tested thing; the rest is infrastructure, skipped or undone.
CREATE VIEW pass_rate AS
SELECT label, hardware, count(*) AS tasks,
    count(*) FILTER (verdict IN ('passed', 'failed', 'timed_out', 'fallback')) AS judged,
    count(*) FILTER (verdict = 'passed') AS passed,
    count(*) FILTER (verdict = 'failed') AS failed,
    count(*) FILTER (verdict = 'timed_out') AS timed_out,
    count(*) FILTER (verdict = 'fallback') AS fallback,
    count(*) FILTER (verdict = 'error') AS error,
    count(*) FILTER (verdict = 'passed') / nullif(
        count(*) FILTER (verdict IN ('passed', 'failed', 'timed_out', 'fallback')), 0) AS rate
FROM tasks WHERE verdict IS NOT NULL GROUP BY ALL;

CREATE VIEW durations AS
SELECT label, hardware, count(*) AS attempts, min(duration_us) AS min_us,
    quantile_cont(duration_us, 0.5) AS p50_us, quantile_cont(duration_us, 0.95) AS p95_us,
    quantile_cont(duration_us, 0.99) AS p99_us, max(duration_us) AS max_us
FROM attempts WHERE state = 'finished' AND verdict = 'passed' GROUP BY ALL;

-- Passed and failed with the same parameters on the same hardware. case_id NULL: the task itself.
-- Shards of pytest differ from run to run: there a case is known by its id alone, and one that passed
-- only when tried again counts as failed once and passed once.
CREATE VIEW flakes AS
SELECT label, params, hardware, case_id, count(*) AS attempts,
    count(*) FILTER (verdict = 'passed') AS passed,
    count(*) FILTER (verdict IN ('failed', 'timed_out')) AS failed,
    count(DISTINCT run) AS runs, max(ended_at) FILTER (verdict <> 'passed') AS last_failed_at,
    failed / attempts AS failure_rate
FROM (
    SELECT run, label, params, hardware, NULL AS case_id, verdict, ended_at
    FROM attempts WHERE state = 'finished'
    UNION ALL
    SELECT c.run, c.label, if(g.runner = 'pytest', NULL, a.params), c.hardware, c.case_id, tried,
        c.reported_at
    FROM (
        SELECT *, unnest(if(tries > 1 AND verdict = 'passed', ['failed', 'passed'], [verdict]))
            AS tried
        FROM cases
    ) c JOIN fact.attempts a USING (assigned_pos) JOIN fact.groups g ON g.group_pos = c.group_pos
)
WHERE verdict IN ('passed', 'failed', 'timed_out')
GROUP BY label, params, hardware, case_id HAVING passed > 0 AND failed > 0;

-- One cell for each label, parameters and hardware of a run; `verdict` is the one people must see.
CREATE VIEW matrix AS
SELECT run, label, params, hardware, count(*) AS tasks,
    count(*) FILTER (verdict = 'passed') AS passed,
    arg_min(coalesce(verdict, state), list_position(['failed', 'error', 'timed_out', 'fallback',
        'no_capacity', 'cancelled', 'running', 'assigned', 'finished', 'waiting', 'skipped',
        'passed'], coalesce(verdict, state))) AS verdict,
    quantile_cont(duration_us, 0.5) AS p50_us
FROM tasks GROUP BY run, label, params, hardware;

CREATE VIEW failures AS
SELECT run, task, label, params, hardware, verdict, cause, attempts, worker, exit_code, message,
    output_tail, duration_us, settled_at, assigned_pos, seq, idx
FROM tasks WHERE verdict NOT IN ('passed', 'skipped');

-- The newest verdict of each label, parameters and hardware, over all runs.
CREATE VIEW latest_tasks AS
FROM tasks WHERE verdict IS NOT NULL QUALIFY row_number() OVER (
    PARTITION BY label, params, hardware ORDER BY seq DESC, idx DESC) = 1;
