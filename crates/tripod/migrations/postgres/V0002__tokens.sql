-- Tokens, their Token-2022 extensions, and what changed about them.
--
-- A token is known from the chain (program IS NOT NULL: facts with a slot) or only from a list (program IS NULL).
-- u64 is numeric(20,0): a supply of 8.8e18 is real and bigint ends at 9.2e18. Addresses are their 32 bytes.

CREATE TABLE tripod.tokens (
    mint              bytea         PRIMARY KEY CHECK (octet_length(mint) = 32),
    program           bytea         CHECK (octet_length(program) = 32),
    mint_authority    bytea         CHECK (octet_length(mint_authority) = 32),
    freeze_authority  bytea         CHECK (octet_length(freeze_authority) = 32),
    supply            numeric(20,0) CHECK (supply BETWEEN 0 AND 18446744073709551615),
    slot              bigint        NOT NULL CHECK (slot >= 0),
    write_version     bigint        NOT NULL CHECK (write_version >= 0),
    -- The chain allows any byte here, and a token is never lost for being absurd; `assess` judges it.
    decimals          smallint      NOT NULL CHECK (decimals BETWEEN 0 AND 255),
    name              text,
    symbol            text,
    -- Trimmed, lower case, at most 64 characters: what is searched, and what fits an index whatever the chain holds.
    symbol_normalised text          CHECK (char_length(symbol_normalised) <= 64),
    uri               text,
    -- Who said the name: 'chain' (metadata in the mint itself), or a list. A list never renames what the chain named.
    named_by          text,
    -- Who said the rest.
    source            text          NOT NULL CHECK (source <> ''),
    first_seen_at     timestamptz   NOT NULL DEFAULT now(),
    on_chain_at       timestamptz,
    updated_at        timestamptz   NOT NULL DEFAULT now(),
    CHECK ((program IS NULL) = (supply IS NULL)),
    CHECK ((program IS NULL) = (on_chain_at IS NULL)),
    CHECK (program IS NOT NULL OR (mint_authority IS NULL AND freeze_authority IS NULL AND slot = 0))
);
CREATE INDEX tokens_by_symbol ON tripod.tokens (symbol_normalised, mint);
GRANT INSERT, UPDATE ON tripod.tokens TO tripod_writer, tripod_operator;

CREATE TABLE tripod.token_extensions (
    mint         bytea    NOT NULL REFERENCES tripod.tokens ON DELETE CASCADE,
    number       integer  NOT NULL CHECK (number BETWEEN 0 AND 65535),
    -- 0 but where an account holds the same number twice, which the program refuses and bytes can still say.
    occurrence   smallint NOT NULL CHECK (occurrence >= 0),
    position     smallint NOT NULL CHECK (position >= 0),
    name         text     NOT NULL,
    raw          bytea    NOT NULL,
    fields       jsonb,
    decode_error text,
    PRIMARY KEY (mint, number, occurrence),
    CHECK (fields IS NULL OR decode_error IS NULL)
);
CREATE INDEX token_extensions_by_number ON tripod.token_extensions (number, mint);
GRANT INSERT, UPDATE, DELETE ON tripod.token_extensions TO tripod_writer, tripod_operator;

CREATE TABLE tripod.token_changes (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mint       bytea       NOT NULL,
    -- A column of tokens, or `extension NAME`.
    field      text        NOT NULL,
    before     jsonb,
    after      jsonb,
    slot       bigint      NOT NULL,
    source     text        NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX token_changes_by_mint ON tripod.token_changes (mint, id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tripod.token_changes
    FOR EACH STATEMENT EXECUTE FUNCTION tripod.refuse_change();

-- The changes are written by triggers, so that no writer can forget them or invent them, and per statement, so that
-- a batch of thousands costs one join. Supply is left out: it changes by the minute and is not what a token is.
-- Learning something for the first time is no change: a name where none was, the account of a listed token.
CREATE FUNCTION tripod.record_token_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
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
CREATE TRIGGER record_changes AFTER UPDATE ON tripod.tokens
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tripod.record_token_changes();

-- now() is the transaction's start: a token whose account was first seen in this transaction has no changes yet.
CREATE FUNCTION tripod.record_extension_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO tripod.token_changes (mint, field, before, after, slot, source)
    SELECT n.mint, 'extension ' || n.name, NULL, coalesce(n.fields, to_jsonb(encode(n.raw, 'hex'))), t.slot, t.source
    FROM new_rows AS n JOIN tripod.tokens AS t USING (mint)
    WHERE t.on_chain_at < now()
    ORDER BY n.mint, n.position;
    RETURN NULL;
END
$$;
CREATE TRIGGER record_added AFTER INSERT ON tripod.token_extensions
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tripod.record_extension_added();

CREATE FUNCTION tripod.record_extension_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
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
CREATE TRIGGER record_changed AFTER UPDATE ON tripod.token_extensions
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tripod.record_extension_changed();

CREATE FUNCTION tripod.record_extension_removed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO tripod.token_changes (mint, field, before, after, slot, source)
    SELECT o.mint, 'extension ' || o.name, coalesce(o.fields, to_jsonb(encode(o.raw, 'hex'))), NULL, t.slot, t.source
    FROM old_rows AS o JOIN tripod.tokens AS t USING (mint)
    ORDER BY o.mint, o.position;
    RETURN NULL;
END
$$;
CREATE TRIGGER record_removed AFTER DELETE ON tripod.token_extensions
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tripod.record_extension_removed();
