-- Owners, grants with grant option by others, column privileges, default privileges, rights on what the system has.
-- @globals
CREATE ROLE fam_owner; CREATE ROLE fam_reader; CREATE ROLE fam_writer; CREATE ROLE "Fam ""odd"; GRANT fam_owner TO fam_writer;

-- @setup
CREATE SCHEMA app AUTHORIZATION fam_owner; GRANT USAGE ON SCHEMA app TO fam_reader, "Fam ""odd"; GRANT CREATE ON SCHEMA app TO fam_writer WITH GRANT OPTION;

CREATE TABLE app.t (a int, b int, secret text); ALTER TABLE app.t OWNER TO fam_owner; INSERT INTO app.t VALUES (1, 2, 'x');
GRANT SELECT (a, b), UPDATE (a) ON app.t TO fam_reader; GRANT UPDATE ON app.t TO fam_reader WITH GRANT OPTION;

SET SESSION AUTHORIZATION fam_reader; GRANT UPDATE ON app.t TO "Fam ""odd"; RESET SESSION AUTHORIZATION;

ALTER DEFAULT PRIVILEGES FOR ROLE fam_owner IN SCHEMA app GRANT SELECT ON TABLES TO fam_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE fam_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE fam_owner GRANT USAGE ON TYPES TO fam_reader; ALTER DEFAULT PRIVILEGES FOR ROLE fam_owner GRANT ALL ON SCHEMAS TO fam_writer;

SET ROLE fam_owner; CREATE TABLE app.later (n int); RESET ROLE;
CREATE FUNCTION app.f(int) RETURNS int LANGUAGE sql AS 'SELECT $1'; REVOKE ALL ON FUNCTION app.f(int) FROM PUBLIC; GRANT EXECUTE ON FUNCTION app.f(int) TO fam_reader;
CREATE TABLE app.nobody (n int); REVOKE ALL ON app.nobody FROM postgres;
CREATE SEQUENCE app.s; GRANT USAGE ON SEQUENCE app.s TO fam_reader; CREATE TYPE app.e AS ENUM ('x'); REVOKE USAGE ON TYPE app.e FROM PUBLIC; GRANT USAGE ON TYPE app.e TO fam_reader;
CREATE DOMAIN app.dom AS int; ALTER DOMAIN app.dom OWNER TO fam_owner; REVOKE USAGE ON DOMAIN app.dom FROM PUBLIC; GRANT USAGE ON LANGUAGE plpgsql TO fam_reader; REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO fam_reader; GRANT SELECT (rolname) ON pg_catalog.pg_authid TO fam_reader;
REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO fam_reader; ALTER SCHEMA public OWNER TO fam_owner; COMMENT ON SCHEMA public IS 'ours now';

REVOKE ALL ON DATABASE :DATABASE FROM PUBLIC; GRANT CONNECT ON DATABASE :DATABASE TO fam_reader; GRANT CREATE ON DATABASE :DATABASE TO fam_writer WITH GRANT OPTION;
ALTER DATABASE :DATABASE OWNER TO fam_owner; COMMENT ON DATABASE :DATABASE IS E'the ''rights'' \\ family';

-- @check what each role may
SELECT r, has_table_privilege(r, 'app.t', 'SELECT'), has_column_privilege(r, 'app.t', 'a', 'SELECT'), has_column_privilege(r, 'app.t', 'secret', 'SELECT'), has_table_privilege(r, 'app.t', 'UPDATE WITH GRANT OPTION'),
	has_table_privilege(r, 'app.later', 'SELECT'), has_function_privilege(r, 'app.f(int)', 'EXECUTE'), has_schema_privilege(r, 'public', 'CREATE'), has_language_privilege(r, 'plpgsql', 'USAGE'), has_function_privilege(r, 'pg_ls_dir(text)', 'EXECUTE'),
	has_database_privilege(r, current_database(), 'CONNECT'), has_database_privilege(r, current_database(), 'TEMPORARY'), has_database_privilege(r, current_database(), 'CREATE WITH GRANT OPTION')
FROM unnest(ARRAY['fam_owner', 'fam_reader', 'fam_writer', 'Fam "odd']) r
-- @gives
-- fam_owner | t | t | t | t | t | f | t | f | f | t | t | t
-- fam_reader | f | t | f | t | t | t | f | t | t | t | f | f
-- fam_writer | t | t | t | t | t | f | t | f | f | t | t | t
-- Fam "odd | f | f | f | f | f | f | f | f | f | f | f | f

-- @check who granted what
SELECT relname, a.grantor::regrole::text, a.grantee::regrole::text, a.privilege_type, a.is_grantable FROM pg_class, aclexplode(relacl) a WHERE relnamespace = 'app'::regnamespace AND a.privilege_type <> 'MAINTAIN' ORDER BY 1, 2, 3, 4

-- @check the database's own
SELECT datdba::regrole::text, (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(datacl) x), shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()

-- @check what is new gets the default privileges
SET ROLE fam_owner; CREATE TABLE app.newest (n int); RESET ROLE; SELECT has_table_privilege('fam_reader', 'app.newest', 'SELECT')
-- @gives
-- t
