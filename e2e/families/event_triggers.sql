-- Event triggers: every event, by tag, disabled and always; they must not fire while restoring.

CREATE TABLE fired (n serial, what text); CREATE SCHEMA s;

CREATE FUNCTION s.et() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired (what) VALUES (tg_event || ' ' || tg_tag); END $$;
CREATE FUNCTION s.forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no tables here'; END $$; CREATE FUNCTION s.dropped() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_event_trigger_dropped_objects(); END $$;
CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('a'), ('b'); CREATE INDEX ON t (v); CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM t; CREATE PUBLICATION fam_et FOR TABLE t;

CREATE EVENT TRIGGER et_end ON ddl_command_end WHEN TAG IN ('CREATE INDEX', 'ALTER TABLE') EXECUTE FUNCTION s.et(); CREATE EVENT TRIGGER et_drop ON sql_drop EXECUTE FUNCTION s.dropped();
CREATE EVENT TRIGGER et_rewrite ON table_rewrite EXECUTE FUNCTION s.et(); CREATE EVENT TRIGGER et_forbid ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION s.forbid();
COMMENT ON EVENT TRIGGER et_forbid IS 'last of all'; ALTER EVENT TRIGGER et_drop DISABLE; ALTER EVENT TRIGGER et_rewrite ENABLE ALWAYS; ALTER EVENT TRIGGER et_end ENABLE REPLICA; CREATE EVENT TRIGGER "et ""start" ON ddl_command_start EXECUTE FUNCTION s.et();

-- @check as they were, nothing fired
SELECT evtname, evtevent, evtenabled, (SELECT array_agg(x ORDER BY x) FROM unnest(evttags) x), obj_description(oid, 'pg_event_trigger'), (SELECT count(*) FROM fired) FROM pg_event_trigger ORDER BY 1
-- @gives
-- et "start | ddl_command_start | O | NULL | NULL | 0
-- et_drop | sql_drop | D | NULL | NULL | 0
-- et_end | ddl_command_end | R | {"ALTER TABLE","CREATE INDEX"} | NULL | 0
-- et_forbid | ddl_command_start | O | {"CREATE TABLE"} | last of all | 0
-- et_rewrite | table_rewrite | A | NULL | NULL | 0

-- @check now they do
CREATE INDEX again ON t (v, id); SELECT what FROM fired
-- @gives
-- ddl_command_start CREATE INDEX

-- @check and forbid
CREATE TABLE forbidden (n int)
-- @fails P0001
