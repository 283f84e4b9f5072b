-- An index for each question that is asked of the tokens. The index of the names (tokens_by_name) needs the extension
-- pg_trgm, which a server may not have: src/postgres/extensions.rs makes it where it can be made.

-- By symbol, and by its beginning, whatever the database's collation is: "C" puts a prefix's symbols side by side.
DROP INDEX tripod.tokens_by_symbol;
CREATE INDEX tokens_by_symbol ON tripod.tokens (symbol_normalised COLLATE "C", mint);

CREATE INDEX tokens_by_mint_authority ON tripod.tokens (mint_authority, mint) WHERE mint_authority IS NOT NULL;
CREATE INDEX tokens_by_freeze_authority ON tripod.tokens (freeze_authority, mint) WHERE freeze_authority IS NOT NULL;

-- Every address that an extension names: its authorities, a hook's program, a delegate, a group. One index answers
-- who has power over what, in whatever role.
CREATE FUNCTION tripod.extension_keys(fields jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN array_remove(ARRAY[
    fields ->> 'authority', fields ->> 'closeAuthority', fields ->> 'delegate', fields ->> 'programId',
    fields ->> 'rateAuthority', fields ->> 'updateAuthority', fields ->> 'transferFeeConfigAuthority',
    fields ->> 'withdrawWithheldAuthority', fields ->> 'group'], NULL);
GRANT EXECUTE ON FUNCTION tripod.extension_keys TO tripod_writer, tripod_reader, tripod_operator;
-- Metadata (19) name their updater too, but are as many as the tokens; the mint's own authorities say nearly the same.
CREATE INDEX token_extensions_by_key ON tripod.token_extensions USING gin (tripod.extension_keys(fields))
    WHERE number <> 19 AND fields IS NOT NULL;

-- The higher of the two fees that a mint holds: which of them is in force depends on the epoch of the question.
CREATE INDEX token_extensions_by_fee ON tripod.token_extensions (
    greatest((fields -> 'olderTransferFee' ->> 'transferFeeBasisPoints')::integer,
             (fields -> 'newerTransferFee' ->> 'transferFeeBasisPoints')::integer), mint)
    WHERE number = 1 AND fields IS NOT NULL;

CREATE INDEX token_extensions_paused ON tripod.token_extensions (mint)
    WHERE number = 26 AND fields ->> 'paused' = 'true';
CREATE INDEX token_extensions_unread ON tripod.token_extensions (mint) WHERE decode_error IS NOT NULL;
