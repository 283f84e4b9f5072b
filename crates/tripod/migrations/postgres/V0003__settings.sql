-- Settings: the value of now, and every value there ever was with who, when and why.
--
-- Revisions and the history are made by triggers: no writer can skip one, and a change made by hand in psql is
-- recorded like any other. The bot reads; only tripod_operator writes, so that a bot cannot raise its own limits.

CREATE TABLE tripod.settings (
    namespace  text        NOT NULL CHECK (namespace ~ '^[a-z0-9][a-z0-9_.-]{0,63}$'),
    key        text        NOT NULL CHECK (key ~ '^[a-z0-9][a-z0-9_.-]{0,63}$'),
    value      jsonb       NOT NULL,
    revision   bigint      NOT NULL,
    changed_by text        NOT NULL CHECK (changed_by <> '' AND char_length(changed_by) <= 200),
    reason     text        NOT NULL CHECK (reason <> '' AND char_length(reason) <= 2000),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace, key)
);
GRANT INSERT (namespace, key, value, changed_by, reason) ON tripod.settings TO tripod_operator;
GRANT UPDATE (value, changed_by, reason) ON tripod.settings TO tripod_operator;

CREATE TABLE tripod.settings_history (
    namespace  text        NOT NULL,
    key        text        NOT NULL,
    revision   bigint      NOT NULL,
    before     jsonb,
    after      jsonb       NOT NULL,
    changed_by text        NOT NULL,
    -- The login that the server itself saw; changed_by is what the writer said.
    login      text        NOT NULL DEFAULT session_user,
    reason     text        NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, key, revision)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tripod.settings_history
    FOR EACH STATEMENT EXECUTE FUNCTION tripod.refuse_change();

CREATE FUNCTION tripod.number_setting() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        NEW.revision := OLD.revision + 1;
    ELSE
        -- One that was removed and comes back goes on counting.
        SELECT coalesce(max(h.revision), 0) + 1 INTO NEW.revision
        FROM tripod.settings_history AS h WHERE h.namespace = NEW.namespace AND h.key = NEW.key;
    END IF;
    NEW.changed_at := now();
    RETURN NEW;
END
$$;
CREATE TRIGGER number_revision BEFORE INSERT OR UPDATE ON tripod.settings
    FOR EACH ROW EXECUTE FUNCTION tripod.number_setting();

CREATE FUNCTION tripod.record_setting() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO tripod.settings_history (namespace, key, revision, before, after, changed_by, reason, changed_at)
    VALUES (NEW.namespace, NEW.key, NEW.revision, CASE WHEN TG_OP = 'UPDATE' THEN OLD.value END, NEW.value,
            NEW.changed_by, NEW.reason, NEW.changed_at);
    RETURN NULL;
END
$$;
CREATE TRIGGER record_history AFTER INSERT OR UPDATE ON tripod.settings
    FOR EACH ROW EXECUTE FUNCTION tripod.record_setting();
