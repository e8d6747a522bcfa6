-- An event trigger on login that lets neither pg_dump nor a backup in.
-- @since 17

CREATE TABLE t AS SELECT 7 AS i; CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN IF current_setting('application_name') LIKE 'tuskvault%' OR current_setting('application_name') = 'pg_dump' THEN RAISE 'nobody'; END IF; END $$;

CREATE EVENT TRIGGER no ON login EXECUTE FUNCTION no(); ALTER EVENT TRIGGER no ENABLE ALWAYS;

-- @check it is there
SELECT i, evtname, evtenabled FROM t, pg_event_trigger
-- @gives
-- 7 | no | A
