-- How a process that holds tokens in memory learns what was written since it last looked, and that something was.
--
-- The transaction that wrote a row last is its place in the sequence of changes. Numbers from a sequence would not do:
-- they are drawn before the commit, so a reader may see 8 while 7 is still to come. Of transactions the server says
-- which may still be running: whoever asks again from the oldest of those on misses nothing, and at worst reads a row
-- twice. A token's extensions are of its row's moment: who changes one by hand touches the token too.

ALTER TABLE tripod.tokens ADD COLUMN changed_in xid8 NOT NULL DEFAULT pg_current_xact_id();
-- With the mint: a transaction may have written a million rows, and they are read page by page.
CREATE INDEX tokens_by_change ON tripod.tokens (changed_in, mint);

-- For whoever updates without saying so. The condition is cheap, and false for this program's own statements.
CREATE FUNCTION tripod.number_token_change() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id();
    RETURN NEW;
END
$$;
CREATE TRIGGER number_change BEFORE UPDATE ON tripod.tokens
    FOR EACH ROW WHEN (NEW.changed_in = OLD.changed_in) EXECUTE FUNCTION tripod.number_token_change();

-- The notice says only that it is worth looking: equal ones of a transaction are one, and one that nobody hears costs
-- the time until the next poll, never a change.
CREATE FUNCTION tripod.announce_token_changes() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    PERFORM pg_notify('tripod_tokens', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER announce AFTER INSERT OR UPDATE ON tripod.tokens
    FOR EACH STATEMENT EXECUTE FUNCTION tripod.announce_token_changes();
