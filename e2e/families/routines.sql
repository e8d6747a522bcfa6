-- Procedures, functions and triggers of every kind, transition tables, constraint triggers, aggregates in other languages.
-- @globals
CREATE ROLE fam_routine_owner;

-- @setup
CREATE SCHEMA r; CREATE TABLE r.t (id int PRIMARY KEY, v text); CREATE TABLE r.audit (n int GENERATED ALWAYS AS IDENTITY, what text);

CREATE PROCEDURE r.p(INOUT a int, b text DEFAULT $$it's ; "$$) LANGUAGE plpgsql AS $body$ DECLARE x int := 1; BEGIN a := a + x; INSERT INTO r.audit (what) VALUES (b || $q$; -- not a comment$q$); END $body$;
ALTER PROCEDURE r.p(int, text) OWNER TO fam_routine_owner; GRANT INSERT ON r.audit TO fam_routine_owner; GRANT USAGE ON SCHEMA r TO fam_routine_owner; CREATE FUNCTION r."over"(int) RETURNS text LANGUAGE sql AS 'SELECT ''int'''; CREATE FUNCTION r."over"(text) RETURNS text LANGUAGE sql AS 'SELECT ''text'''; CREATE FUNCTION r."over"(VARIADIC "any") RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'pg_num_nonnulls';
CREATE FUNCTION r.win(int) RETURNS bigint LANGUAGE internal WINDOW IMMUTABLE STRICT AS 'window_row_number'; CREATE FUNCTION r.poly(anyelement, anyarray) RETURNS anyelement LANGUAGE sql IMMUTABLE LEAKPROOF PARALLEL RESTRICTED AS 'SELECT $1'; CREATE FUNCTION r.broken() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT no_such FROM no_such_table); END';
CREATE FUNCTION r.stmt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO r.audit (what) SELECT tg_name || ' ' || count(*) FROM fresh; RETURN NULL; END $$; CREATE TRIGGER z_stmt AFTER INSERT ON r.t REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION r.stmt();
CREATE FUNCTION r.row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := NEW.v || tg_argv[0]; RETURN NEW; END $$; CREATE TRIGGER a_row BEFORE INSERT OR UPDATE OF v ON r.t FOR EACH ROW WHEN (NEW.id > 0) EXECUTE FUNCTION r.row('!''\'); CREATE FUNCTION r.con() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'constraint'; END $$; CREATE CONSTRAINT TRIGGER c_con AFTER UPDATE ON r.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION r.con();
CREATE TRIGGER off BEFORE DELETE ON r.t FOR EACH ROW EXECUTE FUNCTION r.con(); ALTER TABLE r.t DISABLE TRIGGER off; CREATE TRIGGER always BEFORE TRUNCATE ON r.t FOR EACH STATEMENT EXECUTE FUNCTION r.con(); ALTER TABLE r.t ENABLE ALWAYS TRIGGER always; COMMENT ON TRIGGER off ON r.t IS 'off';

INSERT INTO r.t VALUES (1, 'x');
SET check_function_bodies = off; CREATE FUNCTION r.later() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM zz.later_table'; CREATE SCHEMA zz; CREATE TABLE zz.later_table (n int);

-- @check a call
CALL r.p(41, 'called')
-- @gives
-- 42

-- @check triggers did not fire while restoring, and do now
SELECT v, (SELECT string_agg(what, ',' ORDER BY n) FROM r.audit WHERE what LIKE 'z%') FROM r.t; INSERT INTO r.t VALUES (2, 'y'), (3, 'z'); SELECT string_agg(v, ',' ORDER BY id), (SELECT string_agg(what, ',' ORDER BY n) FROM r.audit WHERE what LIKE 'z%') FROM r.t
-- @gives
-- x!'\,y!'\,z!'\ | z_stmt 1,z_stmt 2

-- @check overloaded, window, and the one that names a table made later
SELECT r."over"(1), r."over"('x'::text), r.win(id) OVER (ORDER BY id), r.later() FROM r.t WHERE id = 1
-- @gives
-- int | text | 1 | 0

-- @check the one that is broken
SELECT r.broken()
-- @fails 42P01

-- @check trigger states
SELECT tgname, tgenabled, tgdeferrable, tginitdeferred FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1
