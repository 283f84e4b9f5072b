-- How bots learn of a changed setting at once, and how an operator learns which bot runs which revision.
--
-- The notice says only that it is worth looking: a bot that hears none looks by the clock. What a bot runs it says
-- itself, with its own login; a row of a bot that is gone stays until somebody removes it, and its age says so.

CREATE FUNCTION tripod.announce_settings() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    PERFORM pg_notify('tripod_settings', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON tripod.settings
    FOR EACH STATEMENT EXECUTE FUNCTION tripod.announce_settings();

CREATE TABLE tripod.settings_applied (
    bot        text        NOT NULL CHECK (bot ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'),
    namespace  text        NOT NULL CHECK (namespace ~ '^[a-z0-9][a-z0-9_.-]{0,63}$'),
    -- The revision of each key that it runs.
    revisions  jsonb       NOT NULL CHECK (jsonb_typeof(revisions) = 'object'),
    -- What it could not read: key, revision, why.
    refused    jsonb       NOT NULL CHECK (jsonb_typeof(refused) = 'array'),
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- It says so again at least this often.
    deadline_ms bigint     NOT NULL CHECK (deadline_ms > 0),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bot, namespace)
) WITH (fillfactor = 50);
GRANT INSERT, UPDATE ON tripod.settings_applied TO tripod_writer, tripod_operator;
GRANT DELETE ON tripod.settings_applied TO tripod_operator;
