-- A reader never misses changes while they are moved into their day.
--
-- Attaching a day lets readers of the parent go on: one that has looked up the days there are, and then waits for the
-- default partition, finds the rows gone from there and does not know the day that they went to. So whoever makes a day
-- holds the parent from before the first row moves until its commit: a reader then waits before it looks.

CREATE OR REPLACE FUNCTION tripod.keep_health_days(OUT made integer, OUT dropped integer)
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
        -- Before anything else is held; for the days after the first it is held already.
        LOCK TABLE ONLY tripod.health_changes IN ACCESS EXCLUSIVE MODE;
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
