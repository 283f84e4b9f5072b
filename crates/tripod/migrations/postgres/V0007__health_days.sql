-- Changes of health in one partition per day (UTC), so that retention drops whole days instead of deleting rows.
--
-- The bots themselves keep the days, once a day each, and `tripod migrate` does: a call makes today and a week ahead and
-- drops what is older than the operator's setting health/keep_days. What falls outside of all days, because nobody
-- called for a week or a clock went wrong, is kept by the default partition and moved when its day is made.

ALTER TABLE tripod.health_changes RENAME TO health_changes_before;
ALTER INDEX tripod.health_changes_by_component RENAME TO health_changes_before_by_component;
ALTER INDEX tripod.health_changes_by_time RENAME TO health_changes_before_by_time;
ALTER INDEX tripod.health_changes_pkey RENAME TO health_changes_before_pkey;

CREATE TABLE tripod.health_changes (
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    component  text        NOT NULL,
    before     text,
    after      text        NOT NULL,
    details    jsonb       NOT NULL,
    changed_at timestamptz NOT NULL
) PARTITION BY RANGE (changed_at);
CREATE INDEX health_changes_by_component ON tripod.health_changes (component, id);
CREATE INDEX health_changes_by_time ON tripod.health_changes (changed_at);
CREATE TABLE tripod.health_changes_default PARTITION OF tripod.health_changes DEFAULT;

INSERT INTO tripod.health_changes (id, component, before, after, details, changed_at) OVERRIDING SYSTEM VALUE
SELECT id, component, before, after, details, changed_at FROM tripod.health_changes_before;
SELECT setval(pg_get_serial_sequence('tripod.health_changes', 'id'),
              greatest(1, (SELECT coalesce(max(id), 0) + 1 FROM tripod.health_changes)), false);
DROP TABLE tripod.health_changes_before;

-- Nobody rewrites and nobody deletes; retention drops.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tripod.health_changes
    FOR EACH STATEMENT EXECUTE FUNCTION tripod.refuse_change();

CREATE FUNCTION tripod.keep_health_days(OUT made integer, OUT dropped integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET lock_timeout = '250ms' SET timezone = 'UTC' AS $$
DECLARE
    today     date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    day       date;
    part      text;
    keep_days integer := 90;
    wanted    jsonb := (SELECT value FROM tripod.settings WHERE namespace = 'health' AND key = 'keep_days');
BEGIN
    made := 0;
    dropped := 0;
    -- One at a time; who comes second finds it done, or is the next one's.
    IF NOT pg_try_advisory_xact_lock(hashtext('tripod.keep_health_days')) THEN
        RETURN;
    END IF;
    -- A setting that is no number of days changes nothing.
    IF wanted IS NOT NULL AND wanted::text ~ '^[0-9]{1,4}$' AND wanted::text::integer > 0 THEN
        keep_days := wanted::text::integer;
    END IF;
    FOR offset_days IN 0..7 LOOP
        day := today + offset_days;
        part := 'health_changes_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('tripod.' || part) IS NOT NULL;
        EXECUTE format('CREATE TABLE tripod.%I (LIKE tripod.health_changes)', part);
        -- Rows that came before their day was made.
        EXECUTE format('WITH moved AS (DELETE FROM tripod.health_changes_default
                            WHERE changed_at >= %L AND changed_at < %L RETURNING *)
                        INSERT INTO tripod.%I SELECT * FROM moved', day, day + 1, part);
        EXECUTE format('ALTER TABLE tripod.health_changes ATTACH PARTITION tripod.%I FOR VALUES FROM (%L) TO (%L)',
                       part, day, day + 1);
        made := made + 1;
    END LOOP;
    FOR part IN
        SELECT c.relname FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'tripod.health_changes'::regclass AND c.relname ~ '^health_changes_[0-9]{8}$'
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < today - keep_days
    LOOP
        EXECUTE format('DROP TABLE tripod.%I', part);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM tripod.health_changes_default WHERE changed_at < today - keep_days;
END
$$;
GRANT EXECUTE ON FUNCTION tripod.keep_health_days() TO tripod_writer, tripod_operator;
