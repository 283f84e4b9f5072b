-- What a migrated database holds: pg_dump of the schema, without comments and session settings.
-- Compared by a test; never edited by hand, never run.

CREATE SCHEMA tripod;

ALTER SCHEMA tripod OWNER TO tripod_owner;

CREATE FUNCTION tripod.announce_settings() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    PERFORM pg_notify('tripod_settings', '');
    RETURN NULL;
END
$$;

ALTER FUNCTION tripod.announce_settings() OWNER TO tripod_owner;

CREATE FUNCTION tripod.announce_token_changes() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    PERFORM pg_notify('tripod_tokens', '');
    RETURN NULL;
END
$$;

ALTER FUNCTION tripod.announce_token_changes() OWNER TO tripod_owner;

CREATE FUNCTION tripod.extension_keys(fields jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_remove(ARRAY[(fields ->> 'authority'::text), (fields ->> 'closeAuthority'::text), (fields ->> 'delegate'::text), (fields ->> 'programId'::text), (fields ->> 'rateAuthority'::text), (fields ->> 'updateAuthority'::text), (fields ->> 'transferFeeConfigAuthority'::text), (fields ->> 'withdrawWithheldAuthority'::text), (fields ->> 'group'::text)], NULL::text);

ALTER FUNCTION tripod.extension_keys(fields jsonb) OWNER TO tripod_owner;

CREATE FUNCTION tripod.keep_health_days(OUT made integer, OUT dropped integer) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET lock_timeout TO '250ms'
    SET "TimeZone" TO 'UTC'
    AS $_$
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
$_$;

ALTER FUNCTION tripod.keep_health_days(OUT made integer, OUT dropped integer) OWNER TO tripod_owner;

CREATE FUNCTION tripod.number_setting() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

ALTER FUNCTION tripod.number_setting() OWNER TO tripod_owner;

CREATE FUNCTION tripod.number_token_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id();
    RETURN NEW;
END
$$;

ALTER FUNCTION tripod.number_token_change() OWNER TO tripod_owner;

CREATE FUNCTION tripod.record_extension_added() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
BEGIN
    INSERT INTO tripod.token_changes (mint, field, before, after, slot, source)
    SELECT n.mint, 'extension ' || n.name, NULL, coalesce(n.fields, to_jsonb(encode(n.raw, 'hex'))), t.slot, t.source
    FROM new_rows AS n JOIN tripod.tokens AS t USING (mint)
    WHERE t.on_chain_at < now()
    ORDER BY n.mint, n.position;
    RETURN NULL;
END
$$;

ALTER FUNCTION tripod.record_extension_added() OWNER TO tripod_owner;

CREATE FUNCTION tripod.record_extension_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
BEGIN
    INSERT INTO tripod.token_changes (mint, field, before, after, slot, source)
    SELECT n.mint, 'extension ' || n.name, coalesce(o.fields, to_jsonb(encode(o.raw, 'hex'))),
           coalesce(n.fields, to_jsonb(encode(n.raw, 'hex'))), t.slot, t.source
    FROM new_rows AS n
    JOIN old_rows AS o USING (mint, number, occurrence)
    JOIN tripod.tokens AS t USING (mint)
    WHERE o.raw IS DISTINCT FROM n.raw
    ORDER BY n.mint, n.position;
    RETURN NULL;
END
$$;

ALTER FUNCTION tripod.record_extension_changed() OWNER TO tripod_owner;

CREATE FUNCTION tripod.record_extension_removed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
BEGIN
    INSERT INTO tripod.token_changes (mint, field, before, after, slot, source)
    SELECT o.mint, 'extension ' || o.name, coalesce(o.fields, to_jsonb(encode(o.raw, 'hex'))), NULL, t.slot, t.source
    FROM old_rows AS o JOIN tripod.tokens AS t USING (mint)
    ORDER BY o.mint, o.position;
    RETURN NULL;
END
$$;

ALTER FUNCTION tripod.record_extension_removed() OWNER TO tripod_owner;

CREATE FUNCTION tripod.record_health() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

ALTER FUNCTION tripod.record_health() OWNER TO tripod_owner;

CREATE FUNCTION tripod.record_setting() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
BEGIN
    INSERT INTO tripod.settings_history (namespace, key, revision, before, after, changed_by, reason, changed_at)
    VALUES (NEW.namespace, NEW.key, NEW.revision, CASE WHEN TG_OP = 'UPDATE' THEN OLD.value END, NEW.value,
            NEW.changed_by, NEW.reason, NEW.changed_at);
    RETURN NULL;
END
$$;

ALTER FUNCTION tripod.record_setting() OWNER TO tripod_owner;

CREATE FUNCTION tripod.record_token_changes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
BEGIN
    INSERT INTO tripod.token_changes (mint, field, before, after, slot, source)
    SELECT n.mint, c.field, c.before, c.after, n.slot, n.source
    FROM new_rows AS n
    JOIN old_rows AS o USING (mint)
    CROSS JOIN LATERAL (VALUES
        ('program',          o.program IS NOT NULL, to_jsonb(encode(o.program, 'hex')),          to_jsonb(encode(n.program, 'hex'))),
        ('mint_authority',   o.program IS NOT NULL, to_jsonb(encode(o.mint_authority, 'hex')),   to_jsonb(encode(n.mint_authority, 'hex'))),
        ('freeze_authority', o.program IS NOT NULL, to_jsonb(encode(o.freeze_authority, 'hex')), to_jsonb(encode(n.freeze_authority, 'hex'))),
        ('decimals',         true,                  to_jsonb(o.decimals),                        to_jsonb(n.decimals)),
        ('name',             o.name IS NOT NULL,    to_jsonb(o.name),                            to_jsonb(n.name)),
        ('symbol',           o.symbol IS NOT NULL,  to_jsonb(o.symbol),                          to_jsonb(n.symbol)),
        ('uri',              o.uri IS NOT NULL,     to_jsonb(o.uri),                             to_jsonb(n.uri))
    ) AS c (field, counts, before, after)
    WHERE (o.program, o.mint_authority, o.freeze_authority, o.decimals, o.name, o.symbol, o.uri)
          IS DISTINCT FROM (n.program, n.mint_authority, n.freeze_authority, n.decimals, n.name, n.symbol, n.uri)
      AND c.counts
      AND c.before IS DISTINCT FROM c.after
    ORDER BY n.mint;
    RETURN NULL;
END
$$;

ALTER FUNCTION tripod.record_token_changes() OWNER TO tripod_owner;

CREATE FUNCTION tripod.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

ALTER FUNCTION tripod.refuse_change() OWNER TO tripod_owner;

CREATE TABLE tripod.health (
    component text NOT NULL,
    status text NOT NULL,
    details jsonb NOT NULL,
    deadline_ms bigint NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT health_component_check CHECK ((component ~ '^[a-z0-9][a-z0-9_./-]{0,63}$'::text)),
    CONSTRAINT health_deadline_ms_check CHECK ((deadline_ms > 0)),
    CONSTRAINT health_status_check CHECK ((status = ANY (ARRAY['ok'::text, 'degraded'::text, 'failed'::text, 'stopped'::text])))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');

ALTER TABLE tripod.health OWNER TO tripod_owner;

CREATE TABLE tripod.health_changes (
    id bigint NOT NULL,
    component text NOT NULL,
    before text,
    after text NOT NULL,
    details jsonb NOT NULL,
    changed_at timestamp with time zone NOT NULL
)
PARTITION BY RANGE (changed_at);

ALTER TABLE tripod.health_changes OWNER TO tripod_owner;

CREATE TABLE tripod.health_changes_default (
    id bigint NOT NULL,
    component text NOT NULL,
    before text,
    after text NOT NULL,
    details jsonb NOT NULL,
    changed_at timestamp with time zone NOT NULL
);

ALTER TABLE tripod.health_changes_default OWNER TO tripod_owner;

ALTER TABLE tripod.health_changes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME tripod.health_changes_id_seq1
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE tripod.migrations (
    version integer NOT NULL,
    name character varying(255),
    applied_on character varying(255),
    checksum character varying(255)
);

ALTER TABLE tripod.migrations OWNER TO tripod_owner;

CREATE TABLE tripod.settings (
    namespace text NOT NULL,
    key text NOT NULL,
    value jsonb NOT NULL,
    revision bigint NOT NULL,
    changed_by text NOT NULL,
    reason text NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT settings_changed_by_check CHECK (((changed_by <> ''::text) AND (char_length(changed_by) <= 200))),
    CONSTRAINT settings_key_check CHECK ((key ~ '^[a-z0-9][a-z0-9_.-]{0,63}$'::text)),
    CONSTRAINT settings_namespace_check CHECK ((namespace ~ '^[a-z0-9][a-z0-9_.-]{0,63}$'::text)),
    CONSTRAINT settings_reason_check CHECK (((reason <> ''::text) AND (char_length(reason) <= 2000)))
);

ALTER TABLE tripod.settings OWNER TO tripod_owner;

CREATE TABLE tripod.settings_applied (
    bot text NOT NULL,
    namespace text NOT NULL,
    revisions jsonb NOT NULL,
    refused jsonb NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    deadline_ms bigint NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT settings_applied_bot_check CHECK ((bot ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'::text)),
    CONSTRAINT settings_applied_deadline_ms_check CHECK ((deadline_ms > 0)),
    CONSTRAINT settings_applied_namespace_check CHECK ((namespace ~ '^[a-z0-9][a-z0-9_.-]{0,63}$'::text)),
    CONSTRAINT settings_applied_refused_check CHECK ((jsonb_typeof(refused) = 'array'::text)),
    CONSTRAINT settings_applied_revisions_check CHECK ((jsonb_typeof(revisions) = 'object'::text))
)
WITH (fillfactor='50');

ALTER TABLE tripod.settings_applied OWNER TO tripod_owner;

CREATE TABLE tripod.settings_history (
    namespace text NOT NULL,
    key text NOT NULL,
    revision bigint NOT NULL,
    before jsonb,
    after jsonb NOT NULL,
    changed_by text NOT NULL,
    login text DEFAULT SESSION_USER NOT NULL,
    reason text NOT NULL,
    changed_at timestamp with time zone NOT NULL
);

ALTER TABLE tripod.settings_history OWNER TO tripod_owner;

CREATE TABLE tripod.token_changes (
    id bigint NOT NULL,
    mint bytea NOT NULL,
    field text NOT NULL,
    before jsonb,
    after jsonb,
    slot bigint NOT NULL,
    source text NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE tripod.token_changes OWNER TO tripod_owner;

ALTER TABLE tripod.token_changes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME tripod.token_changes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE tripod.token_extensions (
    mint bytea NOT NULL,
    number integer NOT NULL,
    occurrence smallint NOT NULL,
    "position" smallint NOT NULL,
    name text NOT NULL,
    raw bytea NOT NULL,
    fields jsonb,
    decode_error text,
    CONSTRAINT token_extensions_check CHECK (((fields IS NULL) OR (decode_error IS NULL))),
    CONSTRAINT token_extensions_number_check CHECK (((number >= 0) AND (number <= 65535))),
    CONSTRAINT token_extensions_occurrence_check CHECK ((occurrence >= 0)),
    CONSTRAINT token_extensions_position_check CHECK (("position" >= 0))
);

ALTER TABLE tripod.token_extensions OWNER TO tripod_owner;

CREATE TABLE tripod.tokens (
    mint bytea NOT NULL,
    program bytea,
    mint_authority bytea,
    freeze_authority bytea,
    supply numeric(20,0),
    slot bigint NOT NULL,
    write_version bigint NOT NULL,
    decimals smallint NOT NULL,
    name text,
    symbol text,
    symbol_normalised text,
    uri text,
    named_by text,
    source text NOT NULL,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    on_chain_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_in xid8 DEFAULT pg_current_xact_id() NOT NULL,
    CONSTRAINT tokens_check CHECK (((program IS NULL) = (supply IS NULL))),
    CONSTRAINT tokens_check1 CHECK (((program IS NULL) = (on_chain_at IS NULL))),
    CONSTRAINT tokens_check2 CHECK (((program IS NOT NULL) OR ((mint_authority IS NULL) AND (freeze_authority IS NULL) AND (slot = 0)))),
    CONSTRAINT tokens_decimals_check CHECK (((decimals >= 0) AND (decimals <= 255))),
    CONSTRAINT tokens_freeze_authority_check CHECK ((octet_length(freeze_authority) = 32)),
    CONSTRAINT tokens_mint_authority_check CHECK ((octet_length(mint_authority) = 32)),
    CONSTRAINT tokens_mint_check CHECK ((octet_length(mint) = 32)),
    CONSTRAINT tokens_program_check CHECK ((octet_length(program) = 32)),
    CONSTRAINT tokens_slot_check CHECK ((slot >= 0)),
    CONSTRAINT tokens_source_check CHECK ((source <> ''::text)),
    CONSTRAINT tokens_supply_check CHECK (((supply >= (0)::numeric) AND (supply <= '18446744073709551615'::numeric))),
    CONSTRAINT tokens_symbol_normalised_check CHECK ((char_length(symbol_normalised) <= 64)),
    CONSTRAINT tokens_write_version_check CHECK ((write_version >= 0))
);

ALTER TABLE tripod.tokens OWNER TO tripod_owner;

ALTER TABLE ONLY tripod.health_changes ATTACH PARTITION tripod.health_changes_default DEFAULT;

ALTER TABLE ONLY tripod.health
    ADD CONSTRAINT health_pkey PRIMARY KEY (component);

ALTER TABLE ONLY tripod.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY tripod.settings_applied
    ADD CONSTRAINT settings_applied_pkey PRIMARY KEY (bot, namespace);

ALTER TABLE ONLY tripod.settings_history
    ADD CONSTRAINT settings_history_pkey PRIMARY KEY (namespace, key, revision);

ALTER TABLE ONLY tripod.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (namespace, key);

ALTER TABLE ONLY tripod.token_changes
    ADD CONSTRAINT token_changes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tripod.token_extensions
    ADD CONSTRAINT token_extensions_pkey PRIMARY KEY (mint, number, occurrence);

ALTER TABLE ONLY tripod.tokens
    ADD CONSTRAINT tokens_pkey PRIMARY KEY (mint);

CREATE INDEX health_changes_by_component ON ONLY tripod.health_changes USING btree (component, id);

CREATE INDEX health_changes_by_time ON ONLY tripod.health_changes USING btree (changed_at);

CREATE INDEX health_changes_default_changed_at_idx ON tripod.health_changes_default USING btree (changed_at);

CREATE INDEX health_changes_default_component_id_idx ON tripod.health_changes_default USING btree (component, id);

CREATE INDEX token_changes_by_mint ON tripod.token_changes USING btree (mint, id);

CREATE INDEX token_extensions_by_fee ON tripod.token_extensions USING btree (GREATEST((((fields -> 'olderTransferFee'::text) ->> 'transferFeeBasisPoints'::text))::integer, (((fields -> 'newerTransferFee'::text) ->> 'transferFeeBasisPoints'::text))::integer), mint) WHERE ((number = 1) AND (fields IS NOT NULL));

CREATE INDEX token_extensions_by_key ON tripod.token_extensions USING gin (tripod.extension_keys(fields)) WHERE ((number <> 19) AND (fields IS NOT NULL));

CREATE INDEX token_extensions_by_number ON tripod.token_extensions USING btree (number, mint);

CREATE INDEX token_extensions_paused ON tripod.token_extensions USING btree (mint) WHERE ((number = 26) AND ((fields ->> 'paused'::text) = 'true'::text));

CREATE INDEX token_extensions_unread ON tripod.token_extensions USING btree (mint) WHERE (decode_error IS NOT NULL);

CREATE INDEX tokens_by_change ON tripod.tokens USING btree (changed_in, mint);

CREATE INDEX tokens_by_freeze_authority ON tripod.tokens USING btree (freeze_authority, mint) WHERE (freeze_authority IS NOT NULL);

CREATE INDEX tokens_by_mint_authority ON tripod.tokens USING btree (mint_authority, mint) WHERE (mint_authority IS NOT NULL);

CREATE INDEX tokens_by_name ON tripod.tokens USING gin (lower(name) public.gin_trgm_ops) WHERE (name IS NOT NULL);

CREATE INDEX tokens_by_symbol ON tripod.tokens USING btree (symbol_normalised COLLATE "C", mint);

ALTER INDEX tripod.health_changes_by_time ATTACH PARTITION tripod.health_changes_default_changed_at_idx;

ALTER INDEX tripod.health_changes_by_component ATTACH PARTITION tripod.health_changes_default_component_id_idx;

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON tripod.settings FOR EACH STATEMENT EXECUTE FUNCTION tripod.announce_settings();

CREATE TRIGGER announce AFTER INSERT OR UPDATE ON tripod.tokens FOR EACH STATEMENT EXECUTE FUNCTION tripod.announce_token_changes();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON tripod.health_changes FOR EACH STATEMENT EXECUTE FUNCTION tripod.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON tripod.settings_history FOR EACH STATEMENT EXECUTE FUNCTION tripod.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON tripod.token_changes FOR EACH STATEMENT EXECUTE FUNCTION tripod.refuse_change();

CREATE TRIGGER number_change BEFORE UPDATE ON tripod.tokens FOR EACH ROW WHEN ((new.changed_in = old.changed_in)) EXECUTE FUNCTION tripod.number_token_change();

CREATE TRIGGER number_revision BEFORE INSERT OR UPDATE ON tripod.settings FOR EACH ROW EXECUTE FUNCTION tripod.number_setting();

CREATE TRIGGER record_added AFTER INSERT ON tripod.token_extensions REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tripod.record_extension_added();

CREATE TRIGGER record_changed AFTER UPDATE ON tripod.token_extensions REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tripod.record_extension_changed();

CREATE TRIGGER record_changes AFTER INSERT OR UPDATE ON tripod.health FOR EACH ROW EXECUTE FUNCTION tripod.record_health();

CREATE TRIGGER record_changes AFTER UPDATE ON tripod.tokens REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION tripod.record_token_changes();

CREATE TRIGGER record_history AFTER INSERT OR UPDATE ON tripod.settings FOR EACH ROW EXECUTE FUNCTION tripod.record_setting();

CREATE TRIGGER record_removed AFTER DELETE ON tripod.token_extensions REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION tripod.record_extension_removed();

ALTER TABLE ONLY tripod.token_extensions
    ADD CONSTRAINT token_extensions_mint_fkey FOREIGN KEY (mint) REFERENCES tripod.tokens(mint) ON DELETE CASCADE;

GRANT USAGE ON SCHEMA tripod TO tripod_writer;
GRANT USAGE ON SCHEMA tripod TO tripod_reader;
GRANT USAGE ON SCHEMA tripod TO tripod_operator;

REVOKE ALL ON FUNCTION tripod.announce_settings() FROM PUBLIC;

REVOKE ALL ON FUNCTION tripod.announce_token_changes() FROM PUBLIC;

REVOKE ALL ON FUNCTION tripod.extension_keys(fields jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION tripod.extension_keys(fields jsonb) TO tripod_writer;
GRANT ALL ON FUNCTION tripod.extension_keys(fields jsonb) TO tripod_reader;
GRANT ALL ON FUNCTION tripod.extension_keys(fields jsonb) TO tripod_operator;

REVOKE ALL ON FUNCTION tripod.keep_health_days(OUT made integer, OUT dropped integer) FROM PUBLIC;
GRANT ALL ON FUNCTION tripod.keep_health_days(OUT made integer, OUT dropped integer) TO tripod_writer;
GRANT ALL ON FUNCTION tripod.keep_health_days(OUT made integer, OUT dropped integer) TO tripod_operator;

REVOKE ALL ON FUNCTION tripod.number_setting() FROM PUBLIC;

REVOKE ALL ON FUNCTION tripod.number_token_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION tripod.record_extension_added() FROM PUBLIC;

REVOKE ALL ON FUNCTION tripod.record_extension_changed() FROM PUBLIC;

REVOKE ALL ON FUNCTION tripod.record_extension_removed() FROM PUBLIC;

REVOKE ALL ON FUNCTION tripod.record_health() FROM PUBLIC;

REVOKE ALL ON FUNCTION tripod.record_setting() FROM PUBLIC;

REVOKE ALL ON FUNCTION tripod.record_token_changes() FROM PUBLIC;

REVOKE ALL ON FUNCTION tripod.refuse_change() FROM PUBLIC;

GRANT SELECT,INSERT,UPDATE ON TABLE tripod.health TO tripod_writer;
GRANT SELECT ON TABLE tripod.health TO tripod_reader;
GRANT SELECT,INSERT,UPDATE ON TABLE tripod.health TO tripod_operator;

GRANT SELECT ON TABLE tripod.health_changes TO tripod_writer;
GRANT SELECT ON TABLE tripod.health_changes TO tripod_reader;
GRANT SELECT ON TABLE tripod.health_changes TO tripod_operator;

GRANT SELECT ON TABLE tripod.health_changes_default TO tripod_writer;
GRANT SELECT ON TABLE tripod.health_changes_default TO tripod_reader;
GRANT SELECT ON TABLE tripod.health_changes_default TO tripod_operator;

GRANT SELECT ON TABLE tripod.migrations TO tripod_writer;
GRANT SELECT ON TABLE tripod.migrations TO tripod_reader;
GRANT SELECT ON TABLE tripod.migrations TO tripod_operator;

GRANT SELECT ON TABLE tripod.settings TO tripod_writer;
GRANT SELECT ON TABLE tripod.settings TO tripod_reader;
GRANT SELECT ON TABLE tripod.settings TO tripod_operator;

GRANT INSERT(namespace) ON TABLE tripod.settings TO tripod_operator;

GRANT INSERT(key) ON TABLE tripod.settings TO tripod_operator;

GRANT INSERT(value),UPDATE(value) ON TABLE tripod.settings TO tripod_operator;

GRANT INSERT(changed_by),UPDATE(changed_by) ON TABLE tripod.settings TO tripod_operator;

GRANT INSERT(reason),UPDATE(reason) ON TABLE tripod.settings TO tripod_operator;

GRANT SELECT,INSERT,UPDATE ON TABLE tripod.settings_applied TO tripod_writer;
GRANT SELECT ON TABLE tripod.settings_applied TO tripod_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE tripod.settings_applied TO tripod_operator;

GRANT SELECT ON TABLE tripod.settings_history TO tripod_writer;
GRANT SELECT ON TABLE tripod.settings_history TO tripod_reader;
GRANT SELECT ON TABLE tripod.settings_history TO tripod_operator;

GRANT SELECT ON TABLE tripod.token_changes TO tripod_writer;
GRANT SELECT ON TABLE tripod.token_changes TO tripod_reader;
GRANT SELECT ON TABLE tripod.token_changes TO tripod_operator;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE tripod.token_extensions TO tripod_writer;
GRANT SELECT ON TABLE tripod.token_extensions TO tripod_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE tripod.token_extensions TO tripod_operator;

GRANT SELECT,INSERT,UPDATE ON TABLE tripod.tokens TO tripod_writer;
GRANT SELECT ON TABLE tripod.tokens TO tripod_reader;
GRANT SELECT,INSERT,UPDATE ON TABLE tripod.tokens TO tripod_operator;

ALTER DEFAULT PRIVILEGES FOR ROLE tripod_owner IN SCHEMA tripod GRANT SELECT ON TABLES  TO tripod_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE tripod_owner IN SCHEMA tripod GRANT SELECT ON TABLES  TO tripod_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE tripod_owner IN SCHEMA tripod GRANT SELECT ON TABLES  TO tripod_operator;
