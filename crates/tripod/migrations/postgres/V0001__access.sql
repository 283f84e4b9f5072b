-- Who may do what in the schema `tripod`, and the refusal that guards every history.
--
-- Runs as tripod_owner. The groups and the schema exist already (src/postgres/roles.rs makes them, because roles
-- belong to the server, not to this database).

GRANT USAGE ON SCHEMA tripod TO tripod_writer, tripod_reader, tripod_operator;
GRANT SELECT ON tripod.migrations TO tripod_writer, tripod_reader, tripod_operator;

-- Every table to come can be read by all three groups; what else they may do stands beside the table.
ALTER DEFAULT PRIVILEGES IN SCHEMA tripod GRANT SELECT ON TABLES TO tripod_writer, tripod_reader, tripod_operator;
-- PostgreSQL lets everybody execute every new function. Only the form without a schema takes that back.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- For the triggers of append-only tables: rights keep the logins out, this keeps the owner from a slip.
CREATE FUNCTION tripod.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
