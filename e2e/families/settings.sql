-- Settings of the database and of roles in it that would break a careless reader or writer; its limit, and that it is a template.
-- @globals
CREATE ROLE fam_setting_role; CREATE ROLE "fam ""setting"; ALTER ROLE fam_setting_role SET work_mem = '9MB';

-- @setup
CREATE SCHEMA "odd, one"; CREATE TABLE "odd, one".t (id serial PRIMARY KEY, i interval, d date CHECK (d < 'infinity'), f float8, b bytea, n int CHECK (n::text <> '')); INSERT INTO "odd, one".t (i, d, f, b, n) VALUES ('1 day 02:03:04', '2024-02-01', 0.1, '\x00ff', 1);

CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM "odd, one".t; CREATE INDEX ON "odd, one".t (d);
ALTER DATABASE :DATABASE SET default_transaction_read_only = on; ALTER DATABASE :DATABASE SET search_path = "$user", 'odd, one'; ALTER DATABASE :DATABASE SET statement_timeout = '900ms'; ALTER DATABASE :DATABASE SET lock_timeout = '900ms'; ALTER DATABASE :DATABASE SET idle_in_transaction_session_timeout = '900ms'; ALTER DATABASE :DATABASE SET standard_conforming_strings = off;
ALTER DATABASE :DATABASE SET DateStyle = 'German'; ALTER DATABASE :DATABASE SET IntervalStyle = 'iso_8601'; ALTER DATABASE :DATABASE SET default_transaction_isolation = 'serializable'; ALTER DATABASE :DATABASE SET client_encoding = 'LATIN1'; ALTER DATABASE :DATABASE SET quote_all_identifiers = on; ALTER DATABASE :DATABASE SET session_replication_role = 'local'; ALTER DATABASE :DATABASE SET row_security = off;
ALTER DATABASE :DATABASE SET fam.custom = 'it''s \ "custom"'; ALTER DATABASE :DATABASE SET default_table_access_method = 'heap'; ALTER DATABASE :DATABASE SET temp_tablespaces = ''; ALTER DATABASE :DATABASE SET check_function_bodies = on;
ALTER ROLE fam_setting_role IN DATABASE :DATABASE SET statement_timeout = '5s'; ALTER ROLE "fam ""setting" IN DATABASE :DATABASE SET search_path = 'a b', public; ALTER ROLE postgres IN DATABASE :DATABASE SET lc_messages = 'C'; ALTER DATABASE :DATABASE CONNECTION LIMIT 33; ALTER DATABASE :DATABASE IS_TEMPLATE true;

-- @setup 14+
ALTER DATABASE :DATABASE SET idle_session_timeout = '900ms';

-- @setup 17+
ALTER DATABASE :DATABASE SET transaction_timeout = '900ms'; ALTER DATABASE :DATABASE SET event_triggers = off;

-- @check settings
SELECT setrole::regrole::text, (SELECT string_agg(s, '; ' ORDER BY s) FROM unnest(setconfig) s) FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1

-- @check what else the database has
SELECT datconnlimit, datistemplate, datallowconn FROM pg_database WHERE datname = current_database()
-- @gives
-- 33 | t | t

-- @check they are in force
SHOW DateStyle
-- @gives
-- German, DMY
