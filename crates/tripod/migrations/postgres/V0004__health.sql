-- Health: one row per component for now, one row per change of status for ever after (until retention).
--
-- No index but the key and half-empty pages: a heartbeat is a HOT update that touches no index and is cleaned up in
-- its own page. Whether a component is stale is computed by the reader: a dead one cannot say so.

CREATE TABLE tripod.health (
    component    text        PRIMARY KEY CHECK (component ~ '^[a-z0-9][a-z0-9_./-]{0,63}$'),
    status       text        NOT NULL CHECK (status IN ('ok', 'degraded', 'failed', 'stopped')),
    details      jsonb       NOT NULL,
    -- Overdue when no heartbeat came for this long.
    deadline_ms  bigint      NOT NULL CHECK (deadline_ms > 0),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Since when the status is what it is.
    since        timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
GRANT INSERT, UPDATE ON tripod.health TO tripod_writer, tripod_operator;

CREATE TABLE tripod.health_changes (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    component  text        NOT NULL,
    before     text,
    after      text        NOT NULL,
    details    jsonb       NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE INDEX health_changes_by_component ON tripod.health_changes (component, id);
CREATE INDEX health_changes_by_time ON tripod.health_changes (changed_at);
-- Retention deletes; nobody rewrites.
GRANT DELETE ON tripod.health_changes TO tripod_operator;

CREATE FUNCTION tripod.record_health() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    earlier text := CASE WHEN TG_OP = 'UPDATE' THEN OLD.status END;
BEGIN
    IF earlier IS DISTINCT FROM NEW.status THEN
        INSERT INTO tripod.health_changes (component, before, after, details, changed_at)
        VALUES (NEW.component, earlier, NEW.status, NEW.details, NEW.heartbeat_at);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER record_changes AFTER INSERT OR UPDATE ON tripod.health
    FOR EACH ROW EXECUTE FUNCTION tripod.record_health();
